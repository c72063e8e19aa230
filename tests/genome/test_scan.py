"""Calls of every form are read alike: four bytes a sample, letter by letter, in Python, and from BCF."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pysam.bcftools
import pytest

from kleiber.errors import DataError
from kleiber.genome import vcf
from kleiber.genome.calls import reading
from kleiber.genome.vcf import VcfFile
from oracles.variants import naive_records, records_of

N_SAMPLES = 7
SAMPLES = [f"S{i}" for i in range(N_SAMPLES)]
HEAD = (
    "##fileformat=VCFv4.4\n##contig=<ID=X,length=9000>\n##contig=<ID=2,length=9000>\n"
    '##FILTER=<ID=q10,Description="x">\n##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n'
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">\n'
)


def lines(seed: int, n: int = 300, prefixes: bool = False) -> list[str]:
    """Draw records: diploid, haploid, half missing, several ALT alleles, none."""
    draw, found = random.Random(seed), []
    for i in range(n):
        alts = draw.choice((["G"], ["G", "T"], ["GA", "G", "T"], ["."], ["G" * (k + 1) for k in range(12)]))
        top = 0 if alts == ["."] else len(alts)
        dots = draw.choice((0.0, 0.2))
        kind = draw.choice(("diploid", "haploid", "mixed"))

        def allele(top: int = top, dots: float = dots) -> str:
            return "." if draw.random() < dots else str(draw.randint(0, top))

        cells = []
        for _ in range(N_SAMPLES):
            one = kind == "haploid" or (kind == "mixed" and draw.random() < 0.5)
            call = allele() if one else f"{allele()}|{allele()}"
            is_told = prefixes and call[0] != "." and draw.random() < 0.5  # htslib refuses |.
            cells.append(draw.choice(("|", "/")) + call if is_told else call)
        filter_ = draw.choice(("PASS", ".", "q10"))
        found.append("\t".join(["X", str(10 * i + 1), ".", "C", ",".join(alts), ".", filter_, ".", "GT", *cells]))
    return found


def write(path: Path, records: list[str]) -> VcfFile:
    names = "\t".join(SAMPLES)
    head = f"{HEAD}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n"
    path.write_text(head + "".join(f"{record}\n" for record in records))
    return VcfFile(path)


def scanned(source: VcfFile) -> list[tuple]:
    how = reading(source.samples, "as-is")
    return [record for batch in source.batches(how) for record in records_of(*batch, N_SAMPLES)]


@pytest.mark.parametrize("seed", range(4))
def test_all_scans_agree(seed, tmp_path, monkeypatch):
    """Nothing of these lines is left to Python, and what is read is what a naive reading reads."""
    records = lines(seed, prefixes=seed > 1)
    read = []
    add_line = VcfFile._add_line
    monkeypatch.setattr(vcf.VcfFile, "_add_line", lambda *given: (read.append(1), add_line(*given)))
    expected = naive_records("\n".join(records).encode(), N_SAMPLES)
    assert scanned(write(tmp_path / "a.vcf", records)) == expected
    other = [record.replace("\tGT\t", "\tGT:DP\t") for record in records]
    assert scanned(write(tmp_path / "b.vcf", other)) == expected
    assert read == []
    symbolic = [record.replace("\tC\tG,T\t", "\tC\t<X>,T\t") for record in records]
    assert scanned(write(tmp_path / "c.vcf", symbolic)) == naive_records("\n".join(symbolic).encode(), N_SAMPLES)
    assert len(read) == sum("<X>" in record for record in symbolic) > 0
    pysam.bcftools.view("-Ob", "-o", str(tmp_path / "a.bcf"), str(tmp_path / "a.vcf"), catch_stdout=False)
    assert scanned(VcfFile(tmp_path / "a.bcf")) == expected


@pytest.mark.parametrize("call", ["2|0", "0|", "|", "0|1|1", "x", "0|x", "", "0 ", "-1", "2", "||0", "0|1x", "0000"])
def test_what_is_no_genotype_is_an_error(call, tmp_path):
    record = "\t".join(["X", "5", ".", "C", "G", ".", ".", ".", "GT", *["0"] * (N_SAMPLES - 1), call])
    with pytest.raises(DataError, match=r"X:5, record 1: the genotype .* of S6 "):
        scanned(write(tmp_path / "a.vcf", [record]))


@pytest.mark.parametrize("n", [N_SAMPLES - 1, N_SAMPLES + 1])
def test_a_line_with_another_number_of_calls_is_an_error(n, tmp_path):
    record = "\t".join(["X", "5", ".", "C", "G", ".", ".", ".", "GT", *["0|1", *["1"] * (n - 1)]])
    with pytest.raises(DataError, match=f"{n} genotype columns, and the header names {N_SAMPLES} samples"):
        scanned(write(tmp_path / "a.vcf", [record]))


@pytest.mark.parametrize(("call", "what"), [("0|1|1", "has more than two alleles"), ("3|0", "names none of 1 ALT")])
def test_bcf_says_whose_genotype_is_wrong(call, what, tmp_path):
    record = "\t".join(["2", "5", ".", "C", "G", ".", ".", ".", "GT", "0|1", call, *["1|1"] * (N_SAMPLES - 2)])
    write(tmp_path / "a.vcf", [record.replace("3|0", "1|0")])
    pysam.bcftools.view("-Ou", "-o", str(tmp_path / "a.bcf"), str(tmp_path / "a.vcf"), catch_stdout=False)
    with pysam.BGZFile(str(tmp_path / "a.bcf")) as file:
        data = bytearray(file.read())
    if call == "3|0":
        data[-2 * N_SAMPLES + 2] = 4 << 1
    (tmp_path / "b.bcf").write_bytes(data)
    with pytest.raises(DataError, match=f"2:5, record 1: the genotype of S1 {what}"):
        scanned(VcfFile(tmp_path / "b.bcf"))


def test_only_chosen_samples_count(tmp_path):
    """A call of somebody who is left out is neither counted nor an error."""
    import numpy as np

    record = "\t".join(["X", "5", ".", "C", "G", ".", ".", ".", "GT", "0/1", ".", "1", *["0|1"] * (N_SAMPLES - 3)])
    source = write(tmp_path / "a.vcf", [record])
    _, _, batch = next(source.batches(reading(source.samples, kept=np.arange(N_SAMPLES) > 2)))
    assert batch.unphased[0] == -1
    assert (batch.n_present[0], batch.n_missing[0]) == (2 * (N_SAMPLES - 3), 0)
    assert batch.copies_at[0] == -1
    assert batch.carriers[: batch.n[2]].tolist() == [7, 9, 11, 13]
