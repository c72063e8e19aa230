"""kleiber: a laboratory for the scaling laws of genomic language models.

Reading order: `genome` (reference, haplotypes), `corpus` (what training reads), `tokens`, `model`, `train`, `scaling`
(the laws), `study` (all of it from one file), `report`. Each room imports only from those before it.
"""

import os as _os
from importlib.metadata import version as _version

__version__ = _version("kleiber")


def _keep_compiled_code() -> None:
    """Give numba a folder for the while where neither the package nor the user's cache can be written: in containers.

    A folder of our own, because numba's files are pickled: what others could write there would be run.
    """
    beside = _os.path.join(_os.path.dirname(__file__), "__pycache__")
    users = _os.environ.get("XDG_CACHE_HOME") or _os.path.expanduser("~/.cache")
    if "NUMBA_CACHE_DIR" in _os.environ or _can_write(beside) or _can_write(_os.path.join(users, "numba")):
        return
    import atexit
    import shutil
    import tempfile

    _os.environ["NUMBA_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="kleiber-")  # workers inherit it
    atexit.register(shutil.rmtree, folder, True)


def _can_write(folder: str) -> bool:
    """Say whether files can be made in a folder, which need not be there yet."""
    while not _os.path.isdir(folder) and folder != _os.path.dirname(folder):
        folder = _os.path.dirname(folder)
    return _os.access(folder, _os.W_OK | _os.X_OK)


_keep_compiled_code()
