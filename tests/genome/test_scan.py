"""The compiled scan of lines and the one in Python, which reads what is not regular, give the same batches."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from kleiber.errors import DataError
from kleiber.genome import vcf
from kleiber.genome.vcf import VcfFile

RECORDS = ("position", "stop", "passes", "n_present", "n_missing", "unphased", "n_unphased")
N_SAMPLES = 7


def lines(seed: int, n: int = 300) -> list[str]:
    """Draw records: diploid, haploid, half missing, several ALT alleles, none."""
    draw, found = random.Random(seed), []
    for i in range(n):
        alts = draw.choice((["G"], ["G", "T"], ["GA", "G", "T"], ["."]))
        top = 0 if alts == ["."] else len(alts)
        dots = draw.choice((0.0, 0.2))
        kind = draw.choice(("diploid", "haploid", "mixed"))

        def allele(top: int = top, dots: float = dots) -> str:
            return "." if draw.random() < dots else str(draw.randint(0, top))

        cells = []
        for _ in range(N_SAMPLES):
            one = kind == "haploid" or (kind == "mixed" and draw.random() < 0.5)
            cells.append(allele() if one else f"{allele()}|{allele()}")
        filter_ = draw.choice(("PASS", ".", "q10"))
        found.append("\t".join(["X", str(10 * i + 1), ".", "C", ",".join(alts), ".", filter_, ".", "GT", *cells]))
    return found


def write(path: Path, records: list[str]) -> VcfFile:
    names = "\t".join(f"S{i}" for i in range(N_SAMPLES))
    head = f"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n"
    path.write_text(head + "".join(f"{record}\n" for record in records))
    return VcfFile(path)


def scanned(source: VcfFile) -> dict[str, list]:
    """Return what the batches hold, with alleles as text."""
    found: dict[str, list] = {name: [] for name in (*RECORDS, "alleles", "haploid")}
    for _, text, batch in source.batches():
        r, v = int(batch.n[0]), int(batch.n[1])
        for name in RECORDS:
            found[name] += getattr(batch, name)[:r].tolist()
        for k in range(v):
            at = int(batch.alt_at[k])
            alt = text[at : at + int(batch.alt_len[k])].tobytes()
            carriers = batch.carriers[batch.carriers_at[k] : batch.carriers_at[k + 1]].tolist()
            found["alleles"].append((int(batch.record[k]), int(batch.allele[k]), alt, carriers))
        found["haploid"].append(batch.haploid.tolist())
    return found


@pytest.mark.parametrize("seed", range(5))
def test_both_scans_agree(seed, tmp_path, monkeypatch):
    records = lines(seed)
    read = []
    add_line = vcf._add_line
    monkeypatch.setattr(vcf, "_add_line", lambda *given: (read.append(1), add_line(*given)))
    ours = scanned(write(tmp_path / "a.vcf", records))
    assert read == []
    theirs = scanned(write(tmp_path / "b.vcf", [record.replace("\tGT\t", "\tGT:X\t") for record in records]))
    assert len(read) == len(records)
    assert ours == theirs
    assert any(np.ravel(ours["haploid"])) or seed == 0


@pytest.mark.parametrize("call", ["./.", "1/1", "0|1:5"])
def test_a_line_that_is_left_to_python_leaves_no_sample_haploid(call, tmp_path):
    record = "\t".join(["X", "5", ".", "C", "G", ".", ".", ".", "GT", *[".|1"] * (N_SAMPLES - 1), call])
    assert scanned(write(tmp_path / "a.vcf", [record]))["haploid"] == [[False] * N_SAMPLES]


@pytest.mark.parametrize("call", ["2|0", "0|", "|0", "0|1|1", "x", "0|x", "", "0 ", "-1", "2"])
def test_what_is_no_genotype_is_an_error(call, tmp_path):
    record = "\t".join(["X", "5", ".", "C", "G", ".", ".", ".", "GT", *["0"] * (N_SAMPLES - 1), call])
    with pytest.raises(DataError, match="record 1: "):
        scanned(write(tmp_path / "a.vcf", [record]))


@pytest.mark.parametrize("n", [N_SAMPLES - 1, N_SAMPLES + 1])
def test_a_line_with_another_number_of_calls_is_an_error(n, tmp_path):
    record = "\t".join(["X", "5", ".", "C", "G", ".", ".", ".", "GT", *["0|1", *["1"] * (n - 1)]])
    with pytest.raises(DataError, match=f"{n} genotype columns, and the header names {N_SAMPLES} samples"):
        scanned(write(tmp_path / "a.vcf", [record]))


def test_haploid_calls_of_one_contig_are_not_those_of_the_next(tmp_path):
    both = [["X", "1", "0|0"], ["X", "1", "0"], ["2", "0|0", "0|1"]]
    records = ["\t".join([c, "5", ".", "C", "G", ".", ".", ".", "GT", *[a, b] * 3, b]) for c, a, b in both]
    source = write(tmp_path / "a.vcf", records)
    assert [(contig, bool(batch.haploid.any())) for contig, _, batch in source.batches()] == [("X", True), ("2", False)]
