"""Whole haplotypes equal bcftools consensus, byte for byte: its own cases, and real panels."""

from __future__ import annotations

import json
import random
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
"""Those with samples and the FASTA's REF alleles; `consensus.13` has <DEL>, which is dropped here and taken below."""


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


FASTAS = {
    "demo_grch37_chr20": "demo_grch37_chr20/chr20.GRCh37.fa.gz",
    "demo_grch37_chr22_kgp2504": "demo_grch37_chr22_kgp2504/chr22_1-22Mb.GRCh37.fa.gz",
    "mini.bcf": "demo_grch38_kgp3202/mini.fa.gz",
    "demo_grch38_kgp3202": "demo_grch38_kgp3202/GRCh38.loci_Npadded.fa.gz",
    "chrX_mini": "edge/chrX_mini.GRCh37.fa.gz",
    "gatk.chr1_1M": "edge/gatk.chr1_1M.GRCh37.fa.gz",
    "chr_m_indels": "edge/Homo_sapiens_assembly38_chrM.fasta",
    "1kg_2020_chrM": "edge/Homo_sapiens_assembly38_chrM.fasta",
}
"""By what the path of a file holds; a file without one gets a FASTA that agrees with its own REF alleles."""

FILES = [
    "demo_grch37_chr20/kgp_phase3.EUR300.chr20_1-4Mb.bcf",
    "demo_grch37_chr22_kgp2504/1kg-phaseIII-v5a.20130502.genotypes.chr22-16-16.5mb.vcf.gz",
    "edge/bio2zarr.1kg_2020_chrM.vcf.gz",
    "edge/bio2zarr.chr22.vcf.gz",
    "edge/bio2zarr.chr_m_indels.vcf.gz",
    "edge/chr20.R50.phased.hg19.vcf.gz",
    "edge/chr20.R50.unphased.hg19.vcf.gz",
    "edge/chrX_mini.1126samples.half_missing_males.bcf",
    "edge/chrX_mini.26samples.haploid_males.bcf",
    "edge/cyvcf2.test-genotypes.vcf",
    "edge/cyvcf2.test-haploidX.vcf.gz",
    "edge/cyvcf2.test-hemi.vcf",
    "edge/cyvcf2.test-strict-gt-option-flag.vcf.gz",
    "edge/cyvcf2.test.mnp.vcf",
    "edge/gatk.chr1_1M.10samples.unphased.GRCh37.bcf",
    "edge/shapeit4.chr20_1-4Mb.203.mixed_phase.bcf",
    "edge/vcflib.hprc45.grch38_chr4_10.08-10.18Mb.vcf.gz",
    "edge/vcflib.hprc45.grch38_chr8_36.35-36.45Mb.vcf.gz",
    "edge/vcflib.hprc45.nested_multiallelic.vcf.gz",
]
"""What `REAL` has not."""


def prepared(data: Path, name: str, folder: Path) -> tuple[Path, Path, dict[str, int]]:
    """Write a file without the records that are decided otherwise here, and a FASTA of its contigs; count those."""
    counts = dict.fromkeys(
        (
            "read",
            "star",
            "breakend",
            "symbolic",
            "other letters",
            "deletion beyond the end",
            "too many alleles for bcftools",
        ),
        0,
    )
    fasta = next((data / path for key, path in FASTAS.items() if key in name), None)
    text = pysam.bcftools.view(str(data / name)).splitlines()
    records = [line.split("\t") for line in text if not line.startswith("#")]
    contigs = dict.fromkeys(record[0] for record in records)
    whole = {contig: made(contig, records) for contig in contigs} if fasta is None else sequences(fasta, contigs)
    kept = []
    for record in records:
        reason = decided_otherwise(record, len(whole[record[0]]))
        counts[reason or "read"] += 1
        if not reason:
            kept.append("\t".join(record))
    (folder / "r.fa").write_text("".join(f">{contig}\n{bases}\n" for contig, bases in whole.items()))
    head = [line for line in text if line.startswith("#") and not line.startswith("##contig")]
    head[1:1] = [f"##contig=<ID={contig},length={len(bases)}>" for contig, bases in whole.items()]
    (folder / "p.vcf").write_text("\n".join([*head, *kept]) + "\n")
    pysam.tabix_compress(str(folder / "p.vcf"), str(folder / "p.vcf.gz"))
    pysam.tabix_index(str(folder / "p.vcf.gz"), preset="vcf")
    return folder / "r.fa", folder / "p.vcf.gz", counts


def made(contig: str, records: list[list[str]]) -> str:
    """Return random bases with the REF alleles of a contig's records."""
    ours = [(int(record[1]), record[3].upper()) for record in records if record[0] == contig]
    bases = bytearray(random.Random(contig).choices(b"ACGT", k=max(at + len(ref) for at, ref in ours) + 100))
    for at, ref in ours:
        bases[at - 1 : at - 1 + len(ref)] = ref.encode()
    return bases.decode()


def sequences(fasta: Path, contigs) -> dict[str, str]:
    with pysam.FastaFile(str(fasta)) as file:
        return {contig: re.sub("[^ACGT]", "N", file.fetch(contig).upper()) for contig in contigs}


def decided_otherwise(record: list[str], length: int) -> str:
    """Return why a record is decided otherwise here than by bcftools, or nothing."""
    if record[4].count(",") > 60:
        return "too many alleles for bcftools"
    for alt in record[4].upper().split(","):
        if alt == "*":
            return "star"
        if set(alt) & set("[]") or (len(alt) > 1 and "." in (alt[0], alt[-1])):
            return "breakend"
        if alt.startswith("<"):
            if alt != "<DEL>":
                return "symbolic"
            end = re.search(r"(?:^|;)END=(\d+)", record[7])
            if end and int(end[1]) > length:
                return "deletion beyond the end"
        elif set(alt) - set("ACGTN") and alt != ".":
            return "other letters"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_file_equals_bcftools(name, shared_data, tmp_path):
    """Whole contigs where a sample has both haplotypes throughout, and the first haplotype everywhere."""
    fasta, vcf, counts = prepared(shared_data, name, tmp_path)
    reference = Reference.build(fasta, tmp_path / "r")
    panel = Panel.build(reference, [vcf], tmp_path / "p", PanelRules(unphased="as-is", sv="del"))
    n = missing = 0
    every = "hprc45.grch38_chr4" in name or len(panel.samples) < 10
    for sample in panel.samples if every else (*panel.samples[:3], panel.samples[-1]):
        for slot in (0, 1):
            expected = oracle.bcftools_consensus(fasta, vcf, sample, slot)
            for contig in panel.contigs:
                if not panel.exists(contig.name, 0, contig.length)[panel.slot(sample, slot)]:
                    missing += 1
                    continue
                got = panel.sequence(sample, slot, Region(contig.name, 0, contig.length), "span").tobytes().decode()
                assert got == expected[contig.name], (sample, slot, contig.name)
                n += 1
    print(f"{name}: {n} haplotypes equal, {missing} that are not there throughout; records {counts}")
    assert n
    if "hprc45.grch38_chr4" in name:  # 44 diploid samples, most with calls of a lone dot, and CHM13
        assert (len(panel.samples), n, missing) == (45, 89, 1)
