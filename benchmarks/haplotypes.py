"""Haplotypes and corpora: conversion, size and windows a second, beside bcftools, pysam and the original's method.

    python benchmarks/haplotypes.py [--records 20000] [--data DIR] [--haplotypes 600 6404 100000]

Prints a table with ratios measured in one run (medians of several repeats, one thread) and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools

sys.path.insert(0, str(Path(__file__).parent))
from simulate import simulate

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.bgzf import pieces
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.genome.store import ARRAYS

WINDOW = 700
REPEATS = 5


def median_seconds(work: Callable[[int], object], repeats: int = REPEATS) -> float:
    """Return the median time of ``work(repeat)``."""
    times = []
    for repeat in range(repeats):
        start = time.perf_counter()
        work(repeat)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def original_windows(fasta: Path, vcf: Path, n: int, need_variant: bool) -> int:
    """Draw windows as the original study's script does: a query of the VCF for each, substituting in place."""
    rng = np.random.default_rng(1)
    reference, panel = pysam.FastaFile(str(fasta)), pysam.VariantFile(str(vcf))
    contig = reference.references[0]
    length, samples, made = reference.get_reference_length(contig), list(panel.header.samples), 0
    while made < n:
        start = int(rng.integers(0, length - WINDOW))
        bases = list(reference.fetch(contig, start, start + WINDOW))
        sample, slot = samples[int(rng.integers(len(samples)))], int(rng.integers(2))
        changed = False
        for record in panel.fetch(contig, start, start + WINDOW):
            if record.samples[sample]["GT"][slot] == 1 and start <= record.pos - 1:
                at = record.pos - 1 - start
                bases[at : at + len(record.ref)] = [record.alts[0]]
                changed = True
        "".join(bases)
        made += changed or not need_variant
    return made


def corpus_rates(panel: Panel, n: int = 200_000) -> dict[str, float]:
    """Return windows a second of each strategy."""
    rates = {}
    for strategy in ("reference", "pangenome", "variant"):
        corpus = open_corpus(panel.reference, panel, CorpusConfig(strategy, WINDOW), 1)
        corpus.batch(np.arange(1000))
        rates[strategy] = n / median_seconds(lambda k, c=corpus: c.batch(np.arange(k * n, (k + 1) * n)))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--haplotypes", type=int, nargs="*", default=[300, 6404, 100_000])
    options = parser.parse_args()
    figures: dict[str, object] = {"machine": f"{platform.machine()}, {platform.python_version()}"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        conversion(folder, options.records, figures)
        windows(folder, options.haplotypes, figures)
        if (options.data / "demo_grch38_kgp3202").is_dir():
            sizes(folder, options.data / "demo_grch38_kgp3202", figures)
    print(json.dumps(figures))


def conversion(folder: Path, n_records: int, figures: dict[str, object]) -> None:
    """Records a second at 3,202 samples, beside ``bcftools view -Ou``, from text and from BCF."""
    fasta, vcf = simulate(folder / "wide", 3202, n_records)
    reference = Reference.build(fasta, folder / "wide" / "reference")
    bcf = folder / "wide" / "panel.bcf"
    pysam.bcftools.view("-Ob", "-o", str(bcf), str(vcf), catch_stdout=False)
    Panel.build(reference, [vcf], folder / "wide" / "warm")
    Panel.build(reference, [bcf], folder / "wide" / "warm-bcf")
    panels: list[Panel] = []

    def build(k: int, file: Path, name: str) -> None:
        panels.append(Panel.build(reference, [file], folder / "wide" / f"{name}-{k}"))

    ours = median_seconds(lambda k: build(k, vcf, "text"), 3)
    ours_bcf = median_seconds(lambda k: build(k, bcf, "bcf"), 3)
    theirs = median_seconds(
        lambda k: pysam.bcftools.view("-Ou", "-o", str(folder / "wide" / "u.bcf"), str(vcf), catch_stdout=False), 3
    )
    n = panels[0].manifest["contigs"][0]["counts"]["records"]
    n_bytes = sum(len(piece) for piece in pieces(vcf))
    floor = median_seconds(lambda k: sum(1 for _ in pieces(vcf)), 3)
    print(f"conversion, 3,202 samples, {n:,} records, {n_bytes / 1e6:,.0f} MB of text, one core")
    print(f"  kleiber, VCF.gz        {n / ours:10,.0f} records/s   {theirs / ours:6.1f} x bcftools view -Ou")
    print(f"  kleiber, BCF           {n / ours_bcf:10,.0f} records/s")
    print(f"  bcftools view -Ou      {n / theirs:10,.0f} records/s")
    print(f"  floor: inflating alone {n / floor:10,.0f} records/s   {ours / floor:6.1f} x its time")
    figures["conversion"] = {
        "vcf_records_per_s": n / ours,
        "bcf_records_per_s": n / ours_bcf,
        "bcftools_records_per_s": n / theirs,
        "ratio_to_bcftools": theirs / ours,
        "floor_records_per_s": n / floor,
    }
    rates = corpus_rates(panels[0])
    slow = 40 / median_seconds(lambda k: original_windows(fasta, vcf, 40, False), 3)
    slower = 20 / median_seconds(lambda k: original_windows(fasta, vcf, 20, True), 3)
    copied = np.empty((200_000, WINDOW), np.uint8)
    source = np.zeros_like(copied)
    floor_rate = 200_000 / median_seconds(lambda k: np.copyto(copied, source))
    print(f"windows of {WINDOW} bases, 3,202 samples, one core")
    for strategy, rate in rates.items():
        print(f"  kleiber, {strategy:<12}  {rate:12,.0f} windows/s   floor (copying rows) {floor_rate / rate:5.1f} x")
    print(f"  original's method      {slow:12,.0f} windows/s   pangenome {rates['pangenome'] / slow:10,.0f} x")
    print(f"  … variant              {slower:12,.0f} windows/s   variant   {rates['variant'] / slower:10,.0f} x")
    figures["windows"] = {**rates, "original": slow, "original_variant": slower, "floor": floor_rate}


def windows(folder: Path, counts: list[int], figures: dict[str, object]) -> None:
    """Rates by number of haplotypes."""
    print("windows/s by number of haplotypes")
    found = {}
    for count in counts:
        fasta, vcf = simulate(folder / str(count), count // 2, 3000)
        reference = Reference.build(fasta, folder / str(count) / "reference")
        panel = Panel.build(reference, [vcf], folder / str(count) / "panel")
        found[count] = corpus_rates(panel, 100_000)
        print(f"  {count:>8,}  pangenome {found[count]['pangenome']:12,.0f}  variant {found[count]['variant']:12,.0f}")
    figures["by_haplotypes"] = found


def sizes(folder: Path, data: Path, figures: dict[str, object]) -> None:
    """Bits for each variant and haplotype on the real 3,202-sample slices."""
    reference = Reference.build(data / "GRCh38.loci_Npadded.fa.gz", folder / "r38")
    bits = cells = 0
    found = {}
    for file in sorted(data.glob("*.vcf.gz")):
        panel = Panel.build(reference, [file], folder / f"store-{file.name}")
        size = sum((panel.path / "part-0" / f"0.{name}").stat().st_size for name in ARRAYS)  # what windows read
        n = panel.manifest["contigs"][0]["n_edits"] * panel.n_slots
        bits, cells = bits + 8 * size, cells + n
        found[panel.contigs[0].name] = 8 * size / n
    found["all"] = bits / cells
    print("store, bits a variant and haplotype: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    figures["bits_per_cell"] = found


if __name__ == "__main__":
    main()
