"""Simulated phased panels for benchmarks: linkage, rare variants and indels, at any number of samples.

Haplotypes are mosaics of a few founders, which carry the common variants; rare ones sit on single haplotypes. It is
kinder to a store than real data (fewer distinct haplotypes in a stretch), so that sizes are measured on real slices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pysam

FOUNDERS = 200
SPACING = 43  # bases between variants, as in the 3,202-sample panel
SWITCH = 20_000  # bases a haplotype copies one founder
RARE = 0.75  # share of variants that founders do not carry


def simulate(folder: Path, n_samples: int, n_records: int, seed: int = 1, contig: str = "chr20") -> tuple[Path, Path]:
    """Write ``reference.fa`` and ``panel.vcf.gz`` with its index; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    length = n_records * SPACING + 10_000
    bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), length)
    fasta, vcf = folder / "reference.fa", folder / "panel.vcf"
    with open(fasta, "wb") as file:
        file.write(f">{contig}\n".encode())
        for at in range(0, length, 60):
            file.write(bases[at : at + 60].tobytes() + b"\n")
    n_slots = 2 * n_samples
    founder = rng.integers(0, FOUNDERS, n_slots)
    position = 1000
    with open(vcf, "wb") as file:
        file.write(b'##fileformat=VCFv4.2\n##FILTER=<ID=PASS,Description="x">\n')
        file.write(b'##INFO=<ID=AC,Number=A,Type=Integer,Description="x">\n')
        file.write(b'##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n')
        file.write(f"##contig=<ID={contig},length={length}>\n".encode())
        names = "\t".join(f"S{i:06d}" for i in range(n_samples))
        file.write(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n".encode())
        cells = np.empty((n_samples, 4), np.uint8)
        cells[:, 1], cells[:, 3] = ord("|"), ord("\t")
        for _ in range(n_records):
            step = 1 + int(rng.exponential(SPACING - 1))
            position += step
            if position > length - 200:
                break
            moved = rng.random(n_slots) < step / SWITCH
            founder[moved] = rng.integers(0, FOUNDERS, int(moved.sum()))
            if rng.random() < RARE:
                carries = np.zeros(n_slots, bool)
                carries[rng.integers(0, n_slots, min(n_slots, 1 + int(rng.pareto(0.9))))] = True
            else:
                carries = (rng.random(FOUNDERS) < rng.beta(0.25, 1.0))[founder]
            cells[:, 0::2] = 48 + carries.reshape(-1, 2)
            ref = bases[position - 1 : position].tobytes().decode()
            alt = "ACGT"[("ACGT".index(ref) + int(rng.integers(1, 4))) % 4]
            kind = rng.random()
            if kind < 0.05:
                alt = ref + "".join(rng.choice(list("ACGT"), int(rng.integers(1, 6))))
            elif kind < 0.1:
                ref = bases[position - 1 : position + int(rng.integers(1, 6))].tobytes().decode()
                alt = ref[0]
            head = f"{contig}\t{position}\t.\t{ref}\t{alt}\t.\tPASS\tAC={int(carries.sum())}\tGT\t"
            file.write(head.encode() + cells.tobytes()[:-1] + b"\n")
    pysam.tabix_compress(str(vcf), f"{vcf}.gz", force=True)
    vcf.unlink()
    pysam.tabix_index(f"{vcf}.gz", preset="vcf", force=True)
    return fasta, Path(f"{vcf}.gz")
