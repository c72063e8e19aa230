"""Files that hold a panel together: shards, one file a sample, other orders and sets of samples, more contigs."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pysam.bcftools
import pytest

from kleiber.errors import ConfigError, DataError
from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.reference import Reference, Region
from oracles import haplotype as oracle


def texts(panel: Panel) -> dict[tuple[str, str, int], str]:
    """Return all whole haplotypes."""
    return {
        (contig.name, sample, slot): panel.sequence(sample, slot, Region(contig.name, 0, contig.length), "span")
        .tobytes()
        .decode()
        for contig in panel.contigs
        for sample in panel.samples
        for slot in (0, 1)
    }


def arrays(panel: Panel) -> dict[str, list[str]]:
    """Return the digests of what a contig's store holds, whatever the files are called."""
    found = {}
    for entry in panel.manifest["contigs"]:
        sums = {name.split(".", 1)[1]: value for name, value in entry["sha256"].items()}
        found[entry["name"]] = [sums[name] for name in sorted(sums) if not name.endswith(".npy")]
    return found


def split(vcf: Path, n: int, folder: Path, seed: int, as_bcf: bool) -> list[Path]:
    """Cut a file into so many at places drawn, one of them perhaps empty; return them in another order."""
    lines = pysam.bcftools.view(str(vcf)).splitlines(True)
    head = "".join(line for line in lines if line.startswith("#"))
    body = [line for line in lines if not line.startswith("#")]
    draw = random.Random(seed)
    cuts = [0, *sorted(draw.randrange(len(body)) for _ in range(n - 1)), len(body)]
    paths = []
    for k in range(n):
        path = folder / f"shard{draw.randrange(10**6)}.vcf"
        path.write_text(head + "".join(body[cuts[k] : cuts[k + 1]]))
        if as_bcf:
            pysam.bcftools.view("-Ob", "-o", str(path.with_suffix(".bcf")), str(path), catch_stdout=False)
            path = path.with_suffix(".bcf")
        paths.append(path)
    draw.shuffle(paths)
    return paths


@pytest.mark.parametrize("policy", ["bcftools", "edits"])
@pytest.mark.parametrize("seed", range(6))
def test_shards_are_one_file(seed, policy, tmp_path):
    """Also where an edit of one reaches into the next: the store is that of the whole file, byte for byte."""
    drawn = oracle.random_panel(seed, n_contigs=2, n_samples=3)
    fasta, vcf = oracle.write_panel(drawn, tmp_path)
    reference, rules = Reference.build(fasta, tmp_path / "r"), PanelRules(policy)
    whole = Panel.build(reference, [vcf], tmp_path / "whole", rules)
    paths = split(vcf, 5, tmp_path, seed, seed % 2 == 0)
    shards = Panel.build(reference, paths, tmp_path / "shards", rules, workers=1 + seed % 2)
    assert arrays(shards) == arrays(whole)
    assert [entry["counts"] for entry in shards.manifest["contigs"]] == [
        entry["counts"] for entry in whole.manifest["contigs"]
    ]
    assert shards.damage() == []
    again = Panel.build(reference, paths, tmp_path / "shards", rules)
    assert again.fingerprint == shards.fingerprint


@pytest.mark.parametrize("seed", range(3))
def test_one_file_for_each_sample(seed, tmp_path):
    """Each with its own sites; haplotypes are those that bcftools writes of its own file."""
    drawn = oracle.random_panel(seed, n_contigs=2, n_samples=4)
    fasta, vcf = oracle.write_panel(drawn, tmp_path)
    paths = []
    for sample in ("S2", "S0", "S3", "S1"):
        paths.append(tmp_path / f"{sample}.vcf.gz")
        pysam.bcftools.view("-s", sample, "-c", "1", "-Oz", "-o", str(paths[-1]), str(vcf), catch_stdout=False)
        pysam.tabix_index(str(paths[-1]), preset="vcf")
    reference = Reference.build(fasta, tmp_path / "r")
    panel = Panel.build(reference, paths, tmp_path / "p")
    assert panel.samples == ("S2", "S0", "S3", "S1")
    found = texts(panel)
    for sample, path in zip(panel.samples, paths, strict=True):
        for slot in (0, 1):
            for contig, bases in oracle.bcftools_consensus(fasta, path, sample, slot).items():
                assert found[contig, sample, slot] == bases
    with pytest.raises(ConfigError, match="count alleles over all samples"):
        Panel.build(reference, paths, tmp_path / "q", PanelRules(min_af=0.1))
    alone = Panel.build(reference, paths, tmp_path / "alone", samples=["S3"])
    assert alone.samples == ("S3",)


BASES = "ACGTTGCAAC" * 6
HEAD = '##fileformat=VCFv4.3\n##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n'


def write(path: Path, samples: str, *records: str, contigs: str = "c1 c2 chrY") -> Path:
    """Write a file of records ``CONTIG POS GT…``, each an A or C in place of the base."""
    lines = [*(f"##contig=<ID={name},length=60>" for name in contigs.split())]
    lines.append("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples.split()]))
    for record in records:
        contig, position, *calls = record.split()
        ref = BASES[int(position) - 1]
        lines.append("\t".join([contig, position, ".", ref, "C" if ref == "A" else "A", ".", ".", ".", "GT", *calls]))
    path.write_text(HEAD + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def reference(tmp_path) -> Reference:
    (tmp_path / "r.fa").write_text(f">c1\n{BASES}\n>c2\n{BASES}\n>chrY\n{BASES}\n")
    return Reference.build(tmp_path / "r.fa", tmp_path / "r")


def changed(panel: Panel, contig: str, sample: str, slot: int) -> list[int]:
    text = panel.sequence(sample, slot, Region(contig, 0, 60), "span").tobytes().decode()
    return [i + 1 for i, (ours, theirs) in enumerate(zip(text, BASES, strict=True)) if ours != theirs]


def test_samples_in_another_order_and_y_of_the_males_alone(reference, tmp_path):
    files = [
        write(tmp_path / "1.vcf", "A B C", "c1 5 0|1 1|0 0|0"),
        write(tmp_path / "2.vcf", "C A B", "c2 5 0|1 1|0 0|0"),
        write(tmp_path / "y.vcf", "C A", "chrY 7 1 0"),
    ]
    panel = Panel.build(reference, files, tmp_path / "p")
    assert panel.samples == ("A", "B", "C")
    assert changed(panel, "c1", "A", 1) == changed(panel, "c1", "B", 0) == [5]
    assert changed(panel, "c2", "C", 1) == changed(panel, "c2", "A", 0) == [5]
    assert changed(panel, "c2", "B", 0) == []
    assert changed(panel, "chrY", "C", 0) == [7]
    assert panel.exists("chrY", 0, 60).tolist() == [True, False, False, False, True, False]


def test_who_has_a_file_of_ones_own_and_no_record_has_the_reference(reference, tmp_path):
    files = [write(tmp_path / "a.vcf", "A", "c1 5 0|1", "c2 9 1|0"), write(tmp_path / "b.vcf", "B", "c1 5 1|1")]
    panel = Panel.build(reference, files, tmp_path / "p")
    assert changed(panel, "c2", "B", 1) == []
    assert panel.exists("c2", 0, 60).all()
    assert panel.manifest["contigs"][0]["n_edits"] == 1  # the same edit of both


def test_contigs_without_records_and_files_without_any(reference, tmp_path):
    files = [write(tmp_path / "a.vcf", "A B", "c1 5 0|1 1|0"), write(tmp_path / "b.vcf", "A B")]
    panel = Panel.build(reference, files, tmp_path / "p")
    assert [contig.name for contig in panel.contigs] == ["c1"]
    assert changed(panel, "c2", "A", 1) == []
    assert panel.exists("c2", 0, 60).all()
    assert panel.exists("chrY", 0, 60).tolist() == [True, False, True, False]
    nothing = Panel.build(reference, files[1:], tmp_path / "q")
    assert changed(nothing, "c1", "A", 1) == []


def test_contigs_that_the_reference_lacks_are_told(reference, tmp_path):
    lines = []
    more = write(tmp_path / "a.vcf", "A", "c0 5 0|1", "c1 5 0|1", "z 5 0|1", "z 9 0|1", contigs="c0 c1 z")
    only = write(tmp_path / "b.vcf", "A", "d 5 0|1", contigs="d")
    panel = Panel.build(reference, [more, only], tmp_path / "p", progress=lines.append)
    assert panel.manifest["foreign"] == {"c0": 1, "z": 2, "d": 1}
    assert "3 of contigs that the reference lacks" in lines[0]
    assert changed(panel, "c1", "A", 1) == [5]
    with pytest.raises(DataError, match="have no contig in common"):
        Panel.build(reference, [only], tmp_path / "q")
    with pytest.raises(DataError, match=r"no contig in common.*\n.*records are of z"):
        Panel.build(reference, [write(tmp_path / "c.vcf", "A", "z 5 0|1")], tmp_path / "q")


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (("A B", "c1 5 0|1 0|1", "c1 20 0|1 0|1"), ("A B", "c1 9 0|1 0|1"), "b.vcf.* and .*a.vcf overlap.*c1 for A"),
        (("A B", "c1 5 0|1 0|1"), ("B C", "c1 9 0|1 0|1"), "b.vcf and .*a.vcf both hold B on c1"),
        (("A", "c1 5 0|1"), ("A", "c1 5 0|1"), "overlap"),
    ],
)
def test_what_overlaps_or_contradicts_is_an_error(one, two, message, reference, tmp_path):
    files = [write(tmp_path / "a.vcf", *one), write(tmp_path / "b.vcf", *two)]
    with pytest.raises(DataError, match=message):
        Panel.build(reference, files, tmp_path / "p")
