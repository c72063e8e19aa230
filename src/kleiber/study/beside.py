"""The tokenizer of a checkpoint, where none was named.

A run of a study has none in its folder, for all runs of a kind share one; the run's manifest says which, and by its
fingerprint that it is still that one. Rejected: a copy in every run's folder.
"""

from __future__ import annotations

from pathlib import Path

from kleiber.errors import DataError
from kleiber.storage import read_manifest

__all__ = ["tokenizer_beside"]


def tokenizer_beside(checkpoint: Path) -> Path:
    """Return where the ``tokenizer.json`` of a checkpoint is, or would be.

    Beside it, or where the study keeps it that trained it.

    Raises
    ------
    DataError
        When the study's is another than the run was trained with.
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    beside = folder / "tokenizer.json"
    if beside.is_file():
        return beside
    for run in (folder, *folder.absolute().parents[:2]):  # a run, or runs/NAME/checkpoints/step-N
        manifest = read_manifest(run) or {}
        stated = manifest.get("config", {})
        label = stated.get("labels", {}).get("tokenizer")
        if label is None:
            continue
        kept = run.absolute().parents[1] / "tokenizer" / str(label)
        if (kept / "tokenizer.json").is_file():
            found = (read_manifest(kept) or {}).get("fingerprint")
            if found != stated.get("tokenizer"):
                raise DataError(
                    f"{kept} is not the tokenizer that {run} was trained with.\n"
                    f"  Its fingerprint is {str(found)[:12]}, the run's {str(stated.get('tokenizer'))[:12]}.\n"
                    "  Name the one that was: --tokenizer tokenizer.json."
                )
            return kept / "tokenizer.json"
    return beside
