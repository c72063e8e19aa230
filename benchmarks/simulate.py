"""Simulated phased panels for benchmarks, as much like the 3,202-sample release as their cost depends on it.

Haplotypes stand in an order in which neighbours are relatives, and a variant is carried by a run of neighbours: what
happened to their last common ancestor. Recombination makes two haplotypes change places, so that linkage decays along
the contig. How many carry a variant follows the real slices (at least two do, as in the release); so do indels, the
columns, and the length of INFO. Rejected: coalescent simulators, which are hours for what is minutes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pysam
from numba import njit
from numpy.typing import NDArray

SPACING = 40  # bases between records: 73.6 million on the 2.94 Gb of GRCh38 that are no N
SWITCH = 20_000  # bases until a haplotype changes its neighbours
COMMON = 0.22  # share of variants that are old: carriers log-uniform from OLD on; the others fall as k^-STEEP
OLD, STEEP = 20, 1.75
INDELS = 0.13
LONGEST = 6  # bases of an indel's longer allele
CHUNK = 1000  # records
MARGIN = 10_000  # bases without records at the ends of a contig

LETTERS = np.frombuffer(b"ACGT", np.uint8)
_FIXED = """##fileformat=VCFv4.1
##FILTER=<ID=PASS,Description="All filters passed">
##INFO=<ID=AC,Number=A,Type=Integer,Description="Allele count in genotypes">
##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">
##INFO=<ID=AN,Number=1,Type=Integer,Description="Number of alleles in called genotypes">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
"""
# the release annotates every population, about 1,100 bytes a record, which have to be inflated and stepped over
_POPULATIONS = ("AFR", "AMR", "EAS", "EUR", "SAS", "AFR_unrel", "AMR_unrel", "EAS_unrel", "EUR_unrel", "SAS_unrel")
_ANNOTATION = ";".join(
    f"AC_{name}=%d;AF_{name}=%.6g;AN_{name}=1280;AC_Het_{name}=%d;AC_Hom_{name}=%d;HWE_{name}=%.4g"
    for name in _POPULATIONS
)
_TAGS = {"AC": "Integer", "AF": "Float", "AN": "Integer", "AC_Het": "Integer", "AC_Hom": "Integer", "HWE": "Float"}
_HEADER = _FIXED + "".join(
    f'##INFO=<ID={tag}_{name},Number=1,Type={kind},Description="{tag} in {name}">\n'
    for name in _POPULATIONS
    for tag, kind in _TAGS.items()
)


def simulate(folder: Path, n_samples: int, n_records: int, seed: int = 1, contig: str = "chr20") -> tuple[Path, Path]:
    """Write ``reference.fa`` and the panel of one contig with its index; return both paths."""
    fasta, (vcf,) = simulate_genome(folder, n_samples, {contig: n_records}, seed)
    pysam.tabix_index(str(vcf), preset="vcf", force=True)
    return fasta, vcf


def simulate_genome(
    folder: Path, n_samples: int, n_records: Mapping[str, int], seed: int = 1
) -> tuple[Path, list[Path]]:
    """Write ``reference.fa`` and a bgzipped VCF for each contig, with so many records; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = {contig: np.random.default_rng([seed, i]) for i, contig in enumerate(n_records)}
    contigs = {contig: draws[contig].choice(LETTERS, n * SPACING + 2 * MARGIN) for contig, n in n_records.items()}
    write_fasta(folder / "reference.fa", contigs)
    names = "\t".join(f"S{i:06d}" for i in range(n_samples))
    files = []
    for contig, bases in contigs.items():
        files.append(folder / f"{contig}.vcf.gz")
        with pysam.BGZFile(str(files[-1]), "wb") as vcf:
            head = f"##contig=<ID={contig},length={len(bases)}>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\t"
            vcf.write(f"{_HEADER}{head}FORMAT\t{names}\n".encode())
            for text in _records(contig, bases, n_records[contig], n_samples, draws[contig]):
                vcf.write(text)
    return folder / "reference.fa", files


def write_fasta(path: Path, contigs: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write contigs as FASTA, 60 bases a line."""
    with open(path, "wb") as file:
        for name, bases in contigs.items():
            file.write(f">{name}\n".encode())
            for at in range(0, len(bases), 60):
                file.write(bases[at : at + 60].tobytes() + b"\n")


def _records(
    contig: str, bases: NDArray[np.uint8], n_records: int, n_samples: int, rng: np.random.Generator
) -> Iterator[bytes]:
    """Yield the lines of a contig, a chunk at a time."""
    n_slots = 2 * n_samples
    order, position = rng.permutation(n_slots).astype(np.int32), MARGIN
    cells = np.empty((min(CHUNK, n_records), n_samples, 4), np.uint8)
    cells[..., 1], cells[..., 3] = ord("|"), ord("\t")
    cells[:, -1, 3] = ord("\n")
    for begin in range(0, n_records, CHUNK):
        n = min(CHUNK, n_records - begin)
        steps = 1 + np.minimum(rng.exponential(SPACING - 1, n), 20 * SPACING).astype(np.int64)
        positions = np.minimum(position + np.cumsum(steps), len(bases) - MARGIN // 2)
        position = int(positions[-1])
        counts = carrier_counts(n_slots, n, rng)
        n_moves = rng.poisson(n_slots * steps / SWITCH / 2)
        moves = rng.integers(0, n_slots, (int(n_moves.sum()), 2))
        _fill(order, n_moves, moves, rng.integers(0, n_slots, n), counts, cells)
        shares = rng.binomial(counts[:, None], 0.2, (n, len(_POPULATIONS)))
        values = np.stack([shares, shares / 1280, shares - shares // 9, shares // 9, rng.random(shares.shape)], 2)
        lines = []
        for i, (ref, alt) in enumerate(_alleles(bases, positions, rng)):
            ac, at = int(counts[i]), int(positions[i])
            info = f"AC={ac};AF={ac / n_slots:.6g};AN={n_slots};{_ANNOTATION % tuple(values[i].ravel())}"
            lines.append(f"{contig}\t{at}\t{contig[3:]}:{at}:{ref}:{alt}\t{ref}\t{alt}\t.\tPASS\t{info}\tGT\t".encode())
            lines.append(cells[i].tobytes())
        yield b"".join(lines)


def carrier_counts(n_slots: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw how many haplotypes carry each of n variants, from 2 (or 1, where there are two) to all but one."""
    low, high = min(2, n_slots - 1), n_slots - 1
    counts = np.arange(low, high + 1)
    falling = counts**-STEEP
    old = np.where(counts >= min(OLD, high), 1 / counts, 0)
    return rng.choice(counts, n, p=(1 - COMMON) * falling / falling.sum() + COMMON * old / old.sum())


def _alleles(bases: NDArray[np.uint8], positions: NDArray, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yield REF and ALT at 1-based positions: substitutions, insertions and deletions behind an anchor base."""
    kinds, sizes = rng.random(len(positions)), rng.integers(2, LONGEST + 1, len(positions))
    letters = rng.choice(LETTERS, (len(positions), LONGEST))
    turns = rng.integers(1, 4, len(positions))
    for at, kind, size, drawn, turn in zip(positions, kinds, sizes, letters, turns, strict=True):
        ref = bases[at - 1 : at - 1 + size].tobytes().decode()
        if kind < INDELS / 2:
            yield ref, ref[0]
        elif kind < INDELS:
            yield ref[0], ref[0] + drawn[: size - 1].tobytes().decode()
        else:
            yield ref[0], "ACGT"[("ACGT".index(ref[0]) + int(turn)) % 4]


@njit(cache=True)
def _fill(order, n_moves, moves, firsts, counts, cells):
    """Write the genotypes of each record, after the moves that lead to it."""
    m = 0
    for r in range(firsts.size):
        for _ in range(n_moves[r]):
            a, b = moves[m]
            order[a], order[b] = order[b], order[a]
            m += 1
        cells[r, :, 0] = 48
        cells[r, :, 2] = 48
        for k in range(counts[r]):
            slot = order[(firsts[r] + k) % order.size]
            cells[r, slot >> 1, 2 * (slot & 1)] = 49
