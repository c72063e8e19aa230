"""Tokenizers: bases a second beside Hugging Face `tokenizers` and `tiktoken`, and the training of a BPE.

    python benchmarks/tokenizers.py [--windows 20000] [--train 50e6] [--data DIR]

700-base windows of the embedded panel, one thread, medians of several repeats in one run; a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.pop(0)  # this file has the name of the library that it measures

import numpy as np
import tiktoken
from tokenizers import Tokenizer as HuggingFace

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.tokens.train import WINDOW, train_tokenizer


def rate(work: Callable[[], object], bases: int, repeats: int = 5) -> float:
    """Return the median bases a second of some work, after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return bases / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=20_000)
    parser.add_argument("--train", type=float, default=50e6)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options = parser.parse_args()
    source = Path(str(files("kleiber") / "data" / "embedded"))
    figures: dict[str, object] = {"machine": f"{platform.machine()}, Python {platform.python_version()}"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        reference = Reference.build(source / "chr20_1-4Mb.GRCh37.fa.gz", folder / "r")
        panel = Panel.build(reference, [source / "EUR300.chr20_1-4Mb.vcf.gz"], folder / "p")
        windows = open_corpus(reference, panel, CorpusConfig("pangenome", WINDOW), 1).batch(np.arange(options.windows))
        print(f"{'':<14}{'kleiber':>10}{'2 threads':>11}{'HF single':>11}{'HF batch':>10}{'tiktoken':>10}   Mbp/s")
        for spec in ("nucleotide", "6mer", "bpe1024", "bpe4096"):
            figures[spec] = compare(spec, windows, folder)
        chromosome = options.data / "demo_grch37_chr20" / "chr20.GRCh37.fa.gz"
        if chromosome.is_file():
            figures["training"] = training(chromosome, int(options.train), folder)
    print(json.dumps(figures))


def compare(spec: str, windows: np.ndarray, folder: Path) -> dict[str, float]:
    """Measure one tokenizer beside the libraries."""
    tokenizer = train_tokenizer(spec, windows[:4000])
    tokenizer.save(folder / f"{spec}.json")
    backend = HuggingFace.from_file(str(folder / f"{spec}.json"))
    few = windows[:1000]
    texts = [row.tobytes().decode() for row in few]
    found = {"kleiber": rate(lambda: tokenizer.encode_batch(windows), windows.size)}
    halves = np.array_split(windows, 2)
    with ThreadPoolExecutor(2) as pool:
        found["two_threads"] = rate(lambda: list(pool.map(tokenizer.encode_batch, halves)), windows.size)
    found["hf_single"] = rate(lambda: [backend.encode(t, add_special_tokens=False) for t in texts], few.size, 3)
    found["hf_batch"] = rate(lambda: backend.encode_batch(texts, add_special_tokens=False), few.size, 3)
    if tokenizer.kind == "bpe":
        ranks = {token.encode(): i for i, token in enumerate(tokenizer.tokens[5:])}
        ranks |= {bytes([b]): len(ranks) + b for b in range(256) if bytes([b]) not in ranks}
        other = tiktoken.Encoding(spec, pat_str="[ACGT]+", mergeable_ranks=ranks, special_tokens={})
        found["tiktoken"] = rate(lambda: [other.encode_ordinary(t) for t in texts], few.size, 3)
    shown = [found.get(key) for key in ("kleiber", "two_threads", "hf_single", "hf_batch", "tiktoken")]
    cells = "".join(f"{value / 1e6:>10.1f} " if value else f"{'-':>10} " for value in shown)
    best = max(found["hf_single"], found["hf_batch"])
    print(f"{spec:<14}{cells} {found['kleiber'] / best:8.1f} x Hugging Face's better")
    return found


def training(fasta: Path, n_bases: int, folder: Path) -> dict[str, float]:
    """Time BPE 4,096 on windows of a whole chromosome."""
    reference = Reference.build(fasta, folder / "chr20")
    corpus = open_corpus(reference, None, CorpusConfig("reference", WINDOW), 1)
    windows = corpus.tile_rows(corpus.tiles(WINDOW)[: n_bases // WINDOW], WINDOW)
    start = time.perf_counter()
    tokenizer = train_tokenizer("bpe4096", windows)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"BPE {tokenizer.vocab_size:,} on {windows.size / 1e6:.0f} Mbp: {seconds:.1f} s, {peak:.2f} GB at most")
    return {"bases": windows.size, "seconds": seconds, "peak_gb": peak}


if __name__ == "__main__":
    main()
