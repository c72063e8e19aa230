"""Windows of a corpus as files: text in the original study's folders, FASTA, or Parquet with where each comes from.

A corpus needs no files; this is for other tools. File k holds the windows [k·n/files, (k+1)·n/files), so that any
number of workers writes the same bytes, and an export that was stopped goes on with the files that are not there.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from kleiber.corpus.sampling import Corpus
from kleiber.corpus.strategies import STRATEGIES
from kleiber.errors import ConfigError, StateError, UnknownName
from kleiber.storage import locked, read_manifest, write_atomic, write_manifest

__all__ = ["FORMATS", "export"]

FORMATS = {"text": "txt", "fasta": "fa", "parquet": "parquet"}
CHUNK = 10_000  # windows in memory


def export(
    corpus: Corpus,
    n: int,
    out: Path,
    form: str = "text",
    files: int = 100,
    workers: int = 1,
    progress: Callable[[float], None] = lambda share: None,
) -> Path:
    """Write the first `n` windows of a corpus; return their folder, ``out/<strategy>_sampling``.

    Raises
    ------
    UnknownName
        When there is no such format.
    ConfigError
        When there are more files than windows.
    StateError
        When the folder holds the export of another corpus.
    """
    if form not in FORMATS:
        raise UnknownName(form, FORMATS, kind="format")
    if n < 1 or not 1 <= files <= n:
        raise ConfigError(f"{n:,} windows in {files:,} files cannot be: each file holds at least one.")
    folder = Path(out) / STRATEGIES[corpus.config.strategy].folder
    what = {"corpus": corpus.fingerprint, "n": n, "files": files, "format": form}
    with locked(folder):
        begun = read_manifest(folder)
        if begun is None or {key: begun.get(key) for key in what} != what:
            if folder.exists() and any(folder.iterdir()):
                raise StateError(f"{folder} holds another export.\n  Choose another --out, or remove the folder.")
            write_manifest(folder, {**what, "complete": False})
        elif begun["complete"]:
            return folder
        names = [folder / f"{k:0{len(str(files - 1))}d}.{FORMATS[form]}" for k in range(files)]
        todo = [k for k, name in enumerate(names) if not name.exists()]
        jobs = [(corpus, k * n // files, (k + 1) * n // files, names[k], form) for k in todo]
        done = files - len(todo)
        if workers > 1 and len(jobs) > 1:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                for _ in pool.map(_write, jobs):
                    done += 1
                    progress(done / files)
        else:
            for job in jobs:
                _write(job)
                done += 1
                progress(done / files)
        write_manifest(folder, {**what, "complete": True, "description": corpus.describe()})
    return folder


def _write(job: tuple[Corpus, int, int, Path, str]) -> None:
    """Write one file, atomically."""
    corpus, begin, end, path, form = job
    chunks = (np.arange(at, min(at + CHUNK, end)) for at in range(begin, end, CHUNK))
    if form == "parquet":
        write_atomic(path, _parquet(corpus, np.arange(begin, end)))
        return
    write_atomic(path, b"".join(_text(corpus, chunk, form) for chunk in chunks))


def _sequences(corpus: Corpus, indices: np.ndarray) -> list[bytes]:
    if corpus.config.mode == "span":
        return [corpus[int(index)].tobytes() for index in indices]
    return [row.tobytes() for row in corpus.batch(indices)]


def _text(corpus: Corpus, indices: np.ndarray, form: str) -> bytes:
    sequences = _sequences(corpus, indices)
    if form == "text":
        return b"\n".join(sequences) + b"\n"
    places = corpus.places(indices)
    heads = [_head(places, i, int(index)) for i, index in enumerate(indices)]
    return b"".join(b">" + head.encode() + b"\n" + text + b"\n" for head, text in zip(heads, sequences, strict=True))


def _head(places: dict[str, Any], i: int, index: int) -> str:
    """Return a FASTA head: number, place (1-based), strand, and whose haplotype."""
    head = f"{index} {places['contig'][i]}:{places['start'][i]}{places['strand'][i]}"
    return head if places["sample"][i] is None else f"{head} {places['sample'][i]} {places['slot'][i]}"


def _parquet(corpus: Corpus, indices: np.ndarray) -> bytes:
    import polars as pl

    columns: dict[str, Any] = {"index": indices, **corpus.places(indices)}
    columns["sequence"] = [text.decode() for text in _sequences(corpus, indices)]
    buffer = BytesIO()
    pl.DataFrame(columns, schema_overrides={"sample": pl.String, "slot": pl.Int8}).write_parquet(buffer)
    return buffer.getvalue()
