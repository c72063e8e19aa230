"""Whole haplotypes equal bcftools consensus, byte for byte: its own cases, and real panels."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pysam
import pytest

from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.reference import Reference, Region
from oracles import haplotype as oracle


def equal_to_bcftools(fasta: Path, vcf: Path, folder: Path) -> int:
    """Compare all whole-contig haplotypes of a file; return how many there were."""
    reference = Reference.build(fasta, folder / "r")
    panel = Panel.build(reference, [vcf], folder / "p", PanelRules(unphased="as-is"))
    n = 0
    for sample in panel.samples:
        for slot in (0, 1):
            expected = oracle.bcftools_consensus(fasta, vcf, sample, slot)
            for contig in panel.contigs:
                got = panel.sequence(sample, slot, Region(contig.name, 0, contig.length), "span").tobytes().decode()
                assert got == expected[contig.name], (sample, slot, contig.name)
                n += 1
    return n


USABLE = {
    "consensus.gvcf-missing.1",
    "consensus.overlaps.1",
    "consensus2",
    "consensus5",
    "consensus6",
    "consensus.11",
    "consensus.15",
    "consensus.18",
    "consensus.20",
    "consensus.21",
}
"""Those with samples, diploid calls and the FASTA's REF alleles; `consensus.13` applies <DEL>, which we drop."""


@pytest.mark.parametrize("name", sorted(USABLE))
def test_bcftools_own_cases(name, shared_data, tmp_path):
    folder = shared_data / "edge" / "bcftools_consensus"
    cases = json.loads((folder / "cases.json").read_text())
    fasta = next(case["fa"] for case in cases if case["in"] == name)
    text = (folder / fasta).read_text()
    # bcftools reads >name:from-to as the place of a piece: pad it, so that coordinates are the contig's
    padded = re.sub(r">(\S+):(\d+)-\d+.*\n", lambda m: f">{m[1]}\n{'N' * (int(m[2]) - 1)}\n", text)
    (tmp_path / "r.fa").write_text(padded)
    shutil.copy(folder / f"{name}.vcf", tmp_path / "p.vcf")
    pysam.tabix_compress(str(tmp_path / "p.vcf"), str(tmp_path / "p.vcf.gz"))
    pysam.tabix_index(str(tmp_path / "p.vcf.gz"), preset="vcf")
    assert equal_to_bcftools(tmp_path / "r.fa", tmp_path / "p.vcf.gz", tmp_path) >= 2


REAL = {
    "mini": ("demo_grch38_kgp3202/mini.fa.gz", "demo_grch38_kgp3202/mini.bcf", ("HG00096", "NA21144")),
    "PTGIS": (
        "demo_grch37_chr20/chr20.GRCh37.fa.gz",
        "demo_grch37_chr20/kgp_phase3.ALL2504.PTGIS.chr20_48.12-48.19Mb.bcf",
        ("HG00096", "NA20814"),
    ),
    "CEU60": (
        "demo_grch37_chr20/chr20.GRCh37.fa.gz",
        "demo_grch37_chr20/hapmap_r22.CEU60.chr20.bcf",
        None,
    ),
    "snps": (
        "demo_grch37_chr20/chr20.GRCh37.fa.gz",
        "demo_grch37_chr20/kgp_phase3.ALL2504.snps.chr20_60-99kb.bcf",
        ("HG00096", "NA20814"),
    ),
    "sparse": ("demo_grch37_chr20/chr20.GRCh37.fa.gz", "demo_grch37_chr20/kgp_phase3.1126.chr20_sparse.bcf", None),
    "chr20 of 3,202": (
        "demo_grch38_kgp3202/GRCh38.loci_Npadded.fa.gz",
        "demo_grch38_kgp3202/chr20.PTGIS.shapeit2-duohmm-phased.vcf.gz",
        ("HG00096", "NA21144"),
    ),
    "chr22 of 3,202": (
        "demo_grch38_kgp3202/GRCh38.loci_Npadded.fa.gz",
        "demo_grch38_kgp3202/chr22.COMT.shapeit2-duohmm-phased.vcf.gz",
        ("HG00096", "NA21144"),
    ),
    "chr1 of 3,202": (
        "demo_grch38_kgp3202/GRCh38.loci_Npadded.fa.gz",
        "demo_grch38_kgp3202/1kGP_high_coverage_Illumina.chr1.filtered.SNV_INDEL_SV_phased_panel-head-1000.vcf.gz",
        ("HG00096", "NA21144"),
    ),
    "COMT": (
        "demo_grch37_chr22_kgp2504/chr22_1-22Mb.GRCh37.fa.gz",
        "demo_grch37_chr22_kgp2504/kgp_phase3.ALL2504.COMT.chr22_19.92-19.96Mb.bcf",
        ("HG00096", "NA20814"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_whole_haplotypes_of_real_panels_equal_bcftools(name, shared_data, tmp_path):
    fasta, vcf, samples = REAL[name]
    reference = Reference.build(shared_data / fasta, tmp_path / "r")
    panel = Panel.build(reference, [shared_data / vcf], tmp_path / "p")
    for sample in samples or panel.samples[:2]:
        for slot in (0, 1):
            expected = oracle.bcftools_consensus(shared_data / fasta, shared_data / vcf, sample, slot)
            for contig in panel.contigs:
                got = panel.sequence(sample, slot, Region(contig.name, 0, contig.length), "span").tobytes().decode()
                ours = re.sub("[^ACGT]", "N", expected[contig.name])  # IUPAC letters are N here
                assert got == ours, (sample, slot)
