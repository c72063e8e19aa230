"""Haplotypes are exact to the byte: against bcftools, against a naive twin, and against golden windows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pysam
import pysam.bcftools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.reference import Reference, Region
from oracles import haplotype as oracle

GOLDEN = {
    "eur300_chr20": ("demo_grch37_chr20/chr20.GRCh37.fa.gz", "demo_grch37_chr20/kgp_phase3.EUR300.chr20_1-4Mb.bcf"),
    "kgp2504_PTGIS_multiallelic_chr20": (
        "demo_grch37_chr20/chr20.GRCh37.fa.gz",
        "demo_grch37_chr20/kgp_phase3.ALL2504.PTGIS.chr20_48.12-48.19Mb.bcf",
    ),
    "kgp2504_chr22": (
        "demo_grch37_chr22_kgp2504/chr22_1-22Mb.GRCh37.fa.gz",
        "demo_grch37_chr22_kgp2504/1kg-phaseIII-v5a.20130502.genotypes.chr22-16-16.5mb.vcf.gz",
    ),
    "kgp3202_grch38_mini": ("demo_grch38_kgp3202/mini.fa.gz", "demo_grch38_kgp3202/mini.bcf"),
}


def whole(panel: Panel, contig: str, sample: str, slot: int) -> str:
    region = Region(contig, 0, panel.reference.length(contig))
    return panel.sequence(sample, slot, region, "span").tobytes().decode()


def build(panel: dict, folder: Path, policy: str = "bcftools") -> tuple[Panel, Path, Path]:
    fasta, vcf = oracle.write_panel(panel, folder)
    reference = Reference.build(fasta, folder / "reference")
    return Panel.build(reference, [vcf], folder / f"panel-{policy}", PanelRules(policy=policy)), fasta, vcf


def test_the_oracle_is_the_version_that_the_rules_are_of():
    assert pysam.version.__bcftools_version__.startswith("1.2")
    assert int(pysam.version.__bcftools_version__.split(".")[1]) >= 24


@settings(max_examples=8)
@given(st.integers(0, 2**32))
def test_conflict_dense_haplotypes_equal_bcftools(tmp_path_factory, seed):
    """On 200 contigs; 25 times as many are a slow test."""
    check_against_bcftools(tmp_path_factory, seed)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_many_conflict_dense_haplotypes_equal_bcftools(tmp_path_factory, seed):
    check_against_bcftools(tmp_path_factory, seed)


def check_against_bcftools(tmp_path_factory, seed: int) -> None:
    drawn = oracle.random_panel(seed)
    panel, fasta, vcf = build(drawn, tmp_path_factory.mktemp("random"))
    for sample in panel.samples:
        for slot in (0, 1):
            expected = oracle.bcftools_consensus(fasta, vcf, sample, slot)
            for contig in panel.contigs:
                assert whole(panel, contig.name, sample, slot) == expected[contig.name], (contig.name, sample, slot)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(["bcftools", "edits"]))
def test_haplotypes_and_windows_equal_the_naive_twin(tmp_path_factory, seed, policy):
    drawn = oracle.random_panel(seed, n_contigs=3)
    panel, _, _ = build(drawn, tmp_path_factory.mktemp("random"), policy)
    for contig in panel.contigs:
        for s, sample in enumerate(panel.samples):
            for slot in (0, 1):
                records = oracle.carried(drawn, contig.name, s, slot)
                bases = oracle.haplotype(drawn["contigs"][contig.name], records, policy)
                assert whole(panel, contig.name, sample, slot) == oracle.span(bases, 0, contig.length)
                for start in range(0, contig.length, 7):
                    region = Region(contig.name, start, min(start + 20, contig.length))
                    got = panel.sequence(sample, slot, region, "span").tobytes().decode()
                    assert got == oracle.span(bases, region.start, region.end)
                    expected = oracle.anchored(bases, start, region.end - start)
                    if expected is not None:
                        assert panel.sequence(sample, slot, region).tobytes().decode() == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_windows(name, shared_data, tmp_path):
    fasta, vcf = GOLDEN[name]
    reference = Reference.build(shared_data / fasta, tmp_path / "reference")
    panel = Panel.build(reference, [shared_data / vcf], tmp_path / "panel")
    check_golden(panel, shared_data / "golden" / f"{name}.jsonl")


def test_golden_windows_of_3202_samples(shared_data, tmp_path):
    fasta, vcf = GOLDEN["kgp3202_grch38_mini"]
    reference = Reference.build(shared_data / fasta, tmp_path / "reference")
    panel = Panel.build(reference, [shared_data / vcf], tmp_path / "panel")
    check_golden(panel, shared_data / "golden" / "kgp3202_grch38_mini.jsonl")


def check_golden(panel: Panel, path: Path) -> None:
    """Compare with windows of bcftools; those that an edit crosses are cut from the whole contig instead."""
    n = 0
    for line in path.read_text().splitlines():
        window = json.loads(line)
        if "sample" not in window or window["variant_crosses_window_edge"]:
            continue
        region = Region(panel.reference.resolve(window["contig"]), window["start"] - 1, window["end"])
        got = panel.sequence(window["sample"], window["haplotype"] - 1, region, "span").tobytes().decode()
        assert got == window["sequence"].upper(), window
        n += 1
    assert n >= 40


@pytest.mark.parametrize("slot", [0, 1])
def test_the_embedded_panel_equals_bcftools(slot, tmp_path):
    from importlib.resources import files

    folder = Path(str(files("kleiber") / "data" / "embedded"))
    fasta = tmp_path / "reference.fa"
    fasta.write_bytes(gzip.decompress((folder / "chr20_1-4Mb.GRCh37.fa.gz").read_bytes()))
    vcf = tmp_path / "panel.vcf.gz"
    vcf.write_bytes((folder / "EUR300.chr20_1-4Mb.vcf.gz").read_bytes())
    pysam.tabix_index(str(vcf), preset="vcf", force=True)
    reference = Reference.build(fasta, tmp_path / "reference")
    panel = Panel.build(reference, [vcf], tmp_path / "panel")
    for sample in (panel.samples[0], panel.samples[150]):
        assert whole(panel, "20", sample, slot) == oracle.bcftools_consensus(fasta, vcf, sample, slot)["20"]
