"""Nothing that comes from outside is run: no pickles, no eval, no shell, no archives that write where they like."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "kleiber"
MODULES = sorted(SOURCE.rglob("*.py"))

CALLS = {
    "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads",
    "shelve.open", "joblib.load", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads", "yaml.load",
    "os.system", "os.popen", "shutil.unpack_archive", "tarfile.open", "zipfile.ZipFile", "pd.read_pickle",
}  # fmt: skip
NEEDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
FORBIDS = {"shell": True, "trust_remote_code": True, "allow_pickle": True, "weights_only": False}
ALLOWED = {
    ("train/trackers.py", "importlib.import_module"),  # a tracker that the user names on the command line
    ("scaling/table.py", "zipfile.ZipFile"),  # in memory: its members are read, and nothing is unpacked
}


def offences(code: str, module: str) -> list[str]:
    """Return what a module does that could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name, keywords = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
        given = {key: value.value for key, value in keywords.items() if isinstance(value, ast.Constant)}
        is_bad = name in CALLS or any(given.get(key, not value) == value for key, value in FORBIDS.items())
        if name in NEEDS:
            key, value = NEEDS[name]
            is_bad = is_bad or given.get(key) is not value
        if name == "importlib.import_module" or (module, name) in ALLOWED:
            is_bad = (module, name) not in ALLOWED
        if is_bad:
            found.append(f"{module}:{node.lineno}: {ast.unparse(node)[:80]}")
    return found


def test_no_module_runs_what_it_reads():
    assert len(MODULES) > 80
    assert [line for path in MODULES for line in offences(path.read_text(), str(path.relative_to(SOURCE)))] == []


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "pickle.load(file)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "importlib.import_module(name)",
    ],
)
def test_the_search_finds_what_it_is_for(code):
    assert offences(code, "x.py")


def test_it_lets_the_safe_forms_pass():
    safe = "torch.load(file, weights_only=True)\nnp.load(file, allow_pickle=False)\nsubprocess.run([program, text])"
    assert offences(safe, "x.py") == []
