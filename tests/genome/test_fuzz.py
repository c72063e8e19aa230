"""Damaged VCF text never crashes the reader, hangs it, or is read otherwise than htslib reads it."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pytest

from kleiber.errors import KleiberError
from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.reference import Reference, Region
from oracles import haplotype as oracle

PIECES = [
    b"\t",
    b"\n",
    b"|",
    b"/",
    b".",
    b"0",
    b"9",
    b"1",
    b"A",
    b"N",
    b"*",
    b"<DEL>",
    b",",
    b":",
    b"GT",
    b"\r",
    b"#",
    b"\0",
]


def mutated(text: bytes, draw: random.Random) -> bytes:
    """Change a few bytes: put, cut, replace or double something."""
    data = bytearray(text)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(data))
        kind = draw.randrange(5)
        if kind == 0:
            data[at:at] = draw.choice(PIECES)
        elif kind == 1:
            del data[at : at + draw.choice((1, 1, 3, 40))]
        elif kind == 2:
            piece = draw.choice(PIECES)
            data[at : at + len(piece)] = piece
        elif kind == 3:
            data[at] = draw.randrange(256)
        else:
            data[at:at] = data[at : at + draw.choice((5, 60))]
        if not data:
            return b"\n"
    return bytes(data)


def as_htslib_reads_it(path: Path, contigs: dict[str, str]) -> dict[tuple[int, int, str], str] | None:
    """Return every haplotype, from htslib's records by the naive rules; None where htslib refuses the file."""
    carried: dict[tuple[int, int, str], list[tuple[int, str, str]]] = {}
    try:
        with pysam.VariantFile(str(path)) as file:
            n_samples = len(file.header.samples)
            for record in file:
                for s, call in enumerate(record.samples.values()):
                    for slot, allele in enumerate(call["GT"]):
                        if allele and set(record.alleles[allele].upper()) <= set("ACGTN"):
                            entry = record.pos, record.ref.upper(), record.alleles[allele].upper()
                            if entry[1] != entry[2]:
                                carried.setdefault((s, slot, record.contig), []).append(entry)
    except (OSError, ValueError, KeyError, IndexError, TypeError, UnicodeDecodeError, AttributeError):
        return None
    return {
        (s, slot, name): "".join(base for base, _ in oracle.haplotype(bases, carried.get((s, slot, name), [])))
        for s in range(n_samples)
        for slot in (0, 1)
        for name, bases in contigs.items()
    }


def fuzz(folder: Path, n_files: int, seed: int) -> tuple[int, int]:
    """Damage a panel in so many ways; return how many files were built, and how many were refused."""
    draw = random.Random(seed)
    drawn = oracle.random_panel(seed, n_contigs=2, n_samples=3, length=60)
    oracle.write_panel(drawn, folder)
    reference = Reference.build(folder / "reference.fa", folder / "r")
    text = (folder / "panel.vcf").read_bytes()
    path = folder / "bad.vcf"
    pysam.set_verbosity(0)
    built = refused = 0
    for _ in range(n_files):
        path.write_bytes(mutated(text, draw))
        try:
            panel = Panel.build(reference, [path], folder / "p", PanelRules(unphased="as-is"))
        except KleiberError:
            refused += 1
            continue
        built += 1
        expected = as_htslib_reads_it(path, drawn["contigs"])
        if expected is None:
            continue
        for (s, slot, name), sequence in expected.items():
            if s < len(panel.samples) and any(contig.name == name for contig in panel.contigs):
                number = panel.slot(panel.samples[s], slot)
                if not panel.exists(name, 0, 60)[number]:
                    continue
                got = panel.sequence(panel.samples[s], slot, Region(name, 0, 60), "span").tobytes().decode()
                assert got == sequence, path.read_bytes()
    return built, refused


def test_damaged_text_for_a_moment(tmp_path):
    built, refused = fuzz(tmp_path, 150, 1)
    assert built > 20
    assert refused > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_damaged_text_for_longer(seed, tmp_path):
    built, refused = fuzz(tmp_path, 1500, seed)
    assert built > 100
    assert refused > 100
