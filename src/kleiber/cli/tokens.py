"""Verbs of tokenizers: tokenizer train, info, encode, decode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App

from kleiber.cli.options import Flag

__all__ = ["app", "decode", "encode", "info", "train"]

app = App(name="tokenizer", help="Train, inspect and use DNA tokenizers.")


@app.command
def train(
    *source: Path,
    out: Path,
    kind: str = "bpe",
    vocab_size: int = 4096,
    k: int = 6,
    max_token_length: int = 32,
    bases: float = 100e6,
    overlapping: Annotated[bool, Flag] = False,
) -> None:
    """Make a tokenizer, training BPE on windows of FASTA files or of exported corpora.

    Example: ``kleiber tokenizer train genome.fa.gz --kind bpe --vocab-size 4096 --out tokenizer.json``

    Parameters
    ----------
    source
        FASTA files, or text files or folders of one sequence a line; none for k-mers and nucleotides.
    out
        The tokenizer.json, which Hugging Face reads too.
    kind
        bpe, kmer, nucleotide, or another that a study may name: original-6mer.
    vocab_size
        Tokens of a BPE.
    k
        Bases of a k-mer.
    max_token_length
        Bases of the longest token of a BPE.
    bases
        Train on so many at most, spread evenly.
    overlapping
        K-mers from every base on, as DNABERT's.
    """
    import numpy as np

    from kleiber.errors import ConfigError
    from kleiber.study.progress import Narrator
    from kleiber.tokens.kmer import OverlappingKmerTokenizer
    from kleiber.tokens.train import WINDOW, train_tokenizer

    spec = {"bpe": f"bpe{vocab_size}", "kmer": f"{k}mer"}.get(kind, kind)
    say = Narrator()
    windows = np.empty((0, WINDOW), np.uint8)
    if kind == "bpe":
        with say.stage("reading"):
            windows = _spread(source, WINDOW, max(1, int(bases / WINDOW)))
        if not len(windows):
            what = f"{', '.join(map(str, source))} hold no {WINDOW} bases in a row" if source else "none is named"
            raise ConfigError(f"BPE is trained on sequences, and {what}.\n  Name FASTA or text files of DNA.")
    with say.stage(f"{kind} on {windows.size:,} bases"):
        tokenizer = train_tokenizer(spec, windows, max_token_length)
        if overlapping:
            if kind != "kmer":
                raise ConfigError(f"--overlapping is for --kind kmer, not {kind}.")
            tokenizer = OverlappingKmerTokenizer(k)
    tokenizer.save(out)
    print(f"{out}: {tokenizer.vocab_size:,} tokens, the longest of {tokenizer.max_token_length} bases")


@app.command
def info(tokenizer: Path, *source: Path, json: Annotated[bool, Flag] = False) -> None:
    """Show a tokenizer's vocabulary, and how it cuts sequences.

    Example: ``kleiber tokenizer info tokenizer.json genome.fa.gz``

    Parameters
    ----------
    tokenizer
        A tokenizer.json.
    source
        FASTA or text files to measure it on.
    json
        Print JSON.
    """
    from json import dumps

    import numpy as np

    from kleiber.tokens.bpe import BPETokenizer
    from kleiber.tokens.kinds import load
    from kleiber.tokens.train import WINDOW

    loaded = load(tokenizer)
    longest = sorted(loaded.tokens, key=lambda token: (token.startswith("["), -len(token)))[:5]
    facts: dict[str, Any] = {
        "kind": loaded.kind,
        "vocab_size": loaded.vocab_size,
        "max_token_length": loaded.max_token_length,
        "longest": longest,
        "fingerprint": loaded.fingerprint,
    }
    if isinstance(loaded, BPETokenizer):
        facts["legal_pairs"] = loaded.legal_pairs()
    rows = _spread(source, WINDOW, 20_000)
    if len(rows):
        ids, offsets = loaded.encode_batch(rows)
        lengths = WINDOW / np.diff(offsets)
        facts["bases_per_token"] = len(rows) * WINDOW / len(ids)
        facts["bases_per_token_sd_of_windows"] = float(lengths.std())
        facts["tokens_used"] = len(np.unique(ids))
    if json:
        print(dumps(facts))
        return
    for key, value in facts.items():
        print(f"{key:<30} {', '.join(value) if isinstance(value, list) else value}")


@app.command
def encode(
    tokenizer: Path,
    source: Path | None = None,
    *,
    special: Annotated[bool, Flag] = False,
    tokens: Annotated[bool, Flag] = False,
) -> None:
    """Print the ids of sequences, one line each.

    Example: ``echo ACGTTGCA | kleiber tokenizer encode tokenizer.json``

    Parameters
    ----------
    tokenizer
        A tokenizer.json.
    source
        A FASTA file, or a text file of one sequence a line; standard input by default.
    special
        Put [CLS] before and [SEP] behind.
    tokens
        Print tokens instead of ids.
    """

    import numpy as np

    from kleiber.tokens.kinds import load

    loaded = load(tokenizer)
    for _, text in _sequences(source) if source else _standard_input():
        ids = loaded.encode(np.frombuffer(text, np.uint8)).tolist()
        ids = [1, *ids, 2] if special else ids
        print(" ".join(loaded.tokens[i] if tokens else str(i) for i in ids))


@app.command
def decode(tokenizer: Path) -> None:
    """Print the bases of ids, a line of standard input each.

    Example: ``echo 1 5 6 7 2 | kleiber tokenizer decode tokenizer.json``

    Parameters
    ----------
    tokenizer
        A tokenizer.json.
    """
    import sys

    import numpy as np

    from kleiber.errors import DataError
    from kleiber.tokens.kinds import load

    loaded = load(tokenizer)
    for number, line in enumerate(sys.stdin, 1):
        words = line.split()
        if bad := [word for word in words if not word.isdigit() or int(word) >= loaded.vocab_size]:
            raise DataError(f"Line {number}: {bad[0]!r} is no id; they go from 0 to {loaded.vocab_size - 1}.")
        print(loaded.decode(np.array([int(word) for word in words], np.int64)))


def _sequences(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bases) of a FASTA file, or of text with one sequence a line; a folder is all of its files."""
    from kleiber.genome.reference import open_text, sequences

    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.suffix in (".txt", ".gz", ".fa", ".fasta"):
                yield from _sequences(file)
        return
    with open_text(path) as handle:
        is_fasta = handle.read(1) == b">"
    if is_fasta:
        for name, body in sequences(path):
            yield name, _bases(body, name, path)
        return
    with open_text(path) as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield f"{path.name}:{number}", _bases(line.strip(), f"line {number}", path)


def _bases(text: bytes, name: str, path: Path) -> bytes:
    """Return the bases of a sequence, RNA as DNA; a protein is an error."""
    import numpy as np

    from kleiber.genome.reference import nucleotides

    letters, _ = nucleotides(np.frombuffer(text, np.uint8), name, path)
    return letters.tobytes().translate(bytes.maketrans(b"Uu", b"Tt"))


def _standard_input() -> Iterator[tuple[str, bytes]]:
    """Yield what `_sequences` does, of standard input: as it comes where it is text, at its end where it is FASTA."""
    import sys
    from itertools import chain
    from tempfile import TemporaryDirectory

    first = sys.stdin.readline()
    if not first.startswith(">"):
        for number, line in enumerate(chain([first], sys.stdin), 1):
            if line:
                yield f"line {number}", line.strip().encode()
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "standard input"
        path.write_text(first + sys.stdin.read(), encoding="utf-8")
        yield from _sequences(path)


def _windows(text: bytes, size: int) -> Any:
    """Cut a sequence into windows without N, upper-case: (n, size) ASCII."""
    import numpy as np

    whole = np.frombuffer(text[: len(text) // size * size].upper(), np.uint8).reshape(-1, size)
    is_base = np.zeros(256, bool)
    is_base[np.frombuffer(b"ACGT", np.uint8)] = True
    return whole[is_base[whole].all(1)]


def _spread(source: tuple[Path, ...], size: int, most: int) -> Any:
    """Return at most so many windows of all sequences, evenly spread, and never hold more than twice as many.

    Every second one goes, and is passed over from then on, whenever there are twice as many as wanted.
    """
    import numpy as np

    kept, n, seen, stride = [np.empty((0, size), np.uint8)], 0, 0, 1
    for path in source:
        for _, text in _sequences(path):
            rows = _windows(text, size)
            kept.append(rows[-seen % stride :: stride].copy())
            seen, n = seen + len(rows), n + len(kept[-1])
            while n > 2 * most:
                kept, stride = [np.concatenate(kept)[::2].copy()], 2 * stride
                n = len(kept[0])
    windows = np.concatenate(kept)
    return windows if n <= most else windows[np.linspace(0, n - 1, most).astype(int)]
