"""What is read of a genome is chosen by names, regions and BED files, and told."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from corpus.test_sampling import open_random, population
from kleiber.corpus.config import CorpusConfig
from kleiber.corpus.regions import bed_regions, read_bed, regions_of, regions_or_bed
from kleiber.corpus.sampling import open_corpus
from kleiber.errors import ConfigError, DataError, KleiberError
from kleiber.genome.reference import Reference
from kleiber.study.config import parse_study
from kleiber.study.stages import genome as build_genome
from kleiber.study.stages import territory


def build(folder, text: str) -> Reference:
    (folder / "ref.fa").write_text(text)
    return Reference.build(folder / "ref.fa", folder / "reference")


COLONS = [("HLA-A*01:01", 40), ("chr1:2", 30), ("chr1", 50), ("chr2:3-9", 60), ("chr2", 70)]


def test_names_with_colons_are_contigs_and_regions(tmp_path):
    reference = build(tmp_path, "".join(f">{name}\n{'ACGTG' * (n // 5)}\n" for name, n in COLONS))

    def read(text):
        (region,) = regions_of(reference, [text], "region")
        return region.contig, region.start, region.end

    assert read("HLA-A*01:01") == ("HLA-A*01:01", 0, 40)
    assert read("HLA-A*01:01:5-9") == ("HLA-A*01:01", 4, 9)
    assert read("chr1:2") == ("chr1:2", 0, 30)
    assert read("chr1:2:3-4") == ("chr1:2", 2, 4)
    assert read("chr1:2-4") == ("chr1", 1, 4)
    assert read("1:1,0-2,0") == ("chr1", 9, 20)
    assert read("chr2:3-9:1-60") == ("chr2:3-9", 0, 60)
    with pytest.raises(ConfigError, match=r"'chr2:3-9' is a contig of ref.fa, and a region of chr2, too.\n.*:1-60"):
        read("chr2:3-9")
    for text in ("chr1:3", "chr9", "chr1:9-99", "chr1:0-3", "chr1:5-4", ":1-2", "chr9:1-2"):
        with pytest.raises(ConfigError):
            read(text)


def test_an_alias_of_two_contigs_is_none(tmp_path):
    reference = build(tmp_path, f">NC_000001.11\n{'ACGTG' * 9}\n>NC_000067.7\n{'ACGTG' * 9}\n>chr2\n{'ACGTG' * 9}\n")
    assert reference.resolve("NC_000067.7") == "NC_000067.7"
    assert reference.resolve("2") == "chr2"
    with pytest.raises(ConfigError, match=r"'chr1' can be NC_000001.11 or NC_000067.7 of ref.fa"):
        open_corpus(reference, None, CorpusConfig("reference", 9, holdout=("chr1",)), 1)


def test_bed_files_as_people_have_them(tmp_path):
    reference = build(tmp_path, f">20\n{'ACGTG' * 20}\n>21\n{'ACGTG' * 20}\n")
    text = "\ufefftrack name=x\nbrowser position\n# comment\n"
    text += "chr20\t10\t20\tname\r\nchr20\t30\t30\r\n\nchr1\t5\t9\nGL1 1 2\n"
    (tmp_path / "a.bed").write_text(text)
    (tmp_path / "a.bed.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.bed", "a.bed.gz"):
        regions, told = bed_regions(tmp_path / name, reference)
        assert regions == ("20:11-20",)
        assert told.endswith("2 of 3 intervals are on contigs that ref.fa lacks (chr1, GL1)")
    heard: list[str] = []
    assert regions_or_bed(["21", str(tmp_path / "a.bed")], reference, heard.append) == ("21", "20:11-20")
    assert len(heard) == 1
    for line, error in (
        ("chr1\t1\t2", "has no interval on a contig of ref.fa: it names chr1, and ref.fa 20, 21"),
        ("chr20\t90\t101", "20:91-101 ends behind the contig, which is 100 bases long"),
    ):
        (tmp_path / "b.bed").write_text(line + "\n")
        with pytest.raises(DataError, match=error):
            bed_regions(tmp_path / "b.bed", reference)
    (tmp_path / "b.bed").write_bytes(gzip.compress(text.encode())[:30])
    with pytest.raises(DataError, match=r"b.bed is no BED file"):
        read_bed(tmp_path / "b.bed")


def test_soft_masked_bases_are_a_choice(tmp_path):
    reference = build(tmp_path, f">1\n{'ACGTG' * 20}{'acgtg' * 4}{'ACGTG' * 10}\n>2\n{'ACGTG' * 8}\n")
    every = open_corpus(reference, None, CorpusConfig("reference", 10), 1).describe()
    some = open_corpus(reference, None, CorpusConfig("reference", 10, soft_masked=False), 1).describe()
    assert (every["n_windows"], some["n_windows"]) == (161 + 31, 91 + 41 + 31)
    assert some["territory"] == ["1:1-100", "1:121-170", "2:1-40"]
    (tmp_path / "o").mkdir()
    other = build(tmp_path / "o", ">1\nACGTACGTACGTACGT\n")
    with pytest.raises(ConfigError, match=r"Soft-masked bases are to be left out, and ref.fa has none"):
        open_corpus(other, None, CorpusConfig("reference", 10, soft_masked=False), 1)


def test_what_is_left_out_is_told(tmp_path):
    text = "".join(f">{name}\n{'ACGTG' * 20}\n" for name in ("chr1", "chr2", "chrM", "chrUn_KI1v1", "chrUn_KI2v1"))
    facts = open_corpus(build(tmp_path, text), None, CorpusConfig("reference", 10), 1).describe()
    assert facts["windows_by_contig"].keys() == {"chr1", "chr2"}
    assert facts["left_out"] == {
        "organelle": {"n_contigs": 1, "n_bases": 100},
        "scaffold": {"n_contigs": 2, "n_bases": 200},
    }
    json.dumps(facts)


@pytest.mark.parametrize("strategy", ["pangenome", "variant"])
def test_groups_have_their_shares_and_are_uniform_within(strategy, tmp_path):
    drawn, reference, panel = open_random(11, tmp_path)
    groups, shares = ((panel.samples[0],), tuple(panel.samples[1:])), (0.8, 0.2)
    config = CorpusConfig(strategy, 6, None, ("c1:31-60",), groups=groups, shares=shares)
    corpus = open_corpus(reference, panel, config, 3)
    everything = population(drawn, "train", 6, 6, "bcftools")
    wanted = {key for key, value in everything.items() if strategy == "pangenome" or value[1]}
    n = 12_000
    places = corpus.places(np.arange(n))
    counts = dict.fromkeys(wanted, 0)
    for i in range(n):
        sample = panel.samples.index(places["sample"][i])
        counts[sample, places["slot"][i], places["contig"][i], places["start"][i] - 1] += 1
    first = [c for key, c in counts.items() if key[0] == 0]
    rest = [c for key, c in counts.items() if key[0] != 0]
    assert binomtest(sum(first), n, 0.8).pvalue > 1e-4
    assert chisquare(first).pvalue > 1e-4
    assert chisquare(rest).pvalue > 1e-4


def test_a_corpus_without_variants_ends(tmp_path):
    _, reference, panel = open_random(11, tmp_path)
    places = [contig.name for contig in reference.contigs for _ in range(contig.length - 8)]
    at = [start for contig in reference.contigs for start in range(1, contig.length - 7)]
    n_empty = 0
    for contig, start in list(zip(places, at, strict=True))[::3]:
        config = CorpusConfig("variant", 6, None, include=(f"{contig}:{start}-{start + 7}",), samples=panel.samples[:1])
        try:
            corpus = open_corpus(reference, panel, config, 3)
        except ConfigError:
            continue
        if corpus.n_variant_windows == 0:
            n_empty += 1
            with pytest.raises(ConfigError, match="No window of the territory holds a variant"):
                corpus.batch(np.arange(3))
        else:
            corpus.batch(np.arange(3))
    assert n_empty > 0


STUDY = """
[study]
name = "t"
[genome]
reference = "ref.fa"
panel = ["calls.vcf"]
holdout = ["chr2"]
{more}
[arms]
ref = {{ sampling = "reference", tokenizer = "nucleotide" }}
pan = {{ sampling = "pangenome", tokenizer = "nucleotide"{arm} }}
[ladder]
sizes = ["0.05M"]
tokens = [1e5]
[train]
length = 16
"""
TABLE = """sample pop super_pop sex father mother
A GBR EUR male 0 0
B GBR EUR female 0 0
C FIN EUR female A B
D YRI AFR male 0 0
"""


@pytest.fixture
def study(tmp_path):
    bases = "".join(np.random.default_rng(1).choice(list("ACGT"), 900))
    (tmp_path / "ref.fa").write_text(f">chr1\n{bases}\n>chr2\n{bases[::-1]}\n>chrUn_KI27v1\n{bases}\n")
    other = "ACGT"[("ACGT".index(bases[99]) + 1) % 4]
    (tmp_path / "calls.vcf").write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=900>\n"
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tA\tB\tC\tD\n"
        f"chr1\t100\t.\t{bases[99]}\t{other}\t.\t.\t.\tGT\t0|1\t0|0\t1|0\t1|1\n"
    )
    (tmp_path / "table.tsv").write_text(TABLE)

    def made(more: str = "", arm: str = ""):
        return parse_study(STUDY.format(more=more, arm=arm), "study.toml", tmp_path)

    return made


@pytest.mark.parametrize(
    ("more", "samples"),
    [
        ("", "ABCD"),
        ('samples = ["C", "A"]', "AC"),
        ('sample_table = "table.tsv"\npopulations = ["GBR"]', "AB"),
        ('sample_table = "table.tsv"\npopulations = ["FIN", "AFR"]', "CD"),
        ('sample_table = "table.tsv"\nunrelated = true', "ABD"),
        ('sample_table = "table.tsv"\nunrelated = true\npopulations = ["EUR"]\nsamples = ["B", "C"]', "B"),
        ('samples = ["some.txt"]', "BD"),
    ],
)
def test_the_samples_of_a_study(study, tmp_path, more, samples):
    (tmp_path / "some.txt").write_text("D\nB\n")
    told: list[str] = []
    _, panel = build_genome(study(more), tmp_path / "out", told.append)
    assert "".join(panel.samples) == samples
    assert any("training reads 1 of 3 contigs, of 900 bases: chr1" in line for line in told)
    assert any("left out: 1 x scaffold (900 bases)" in line for line in told)
    assert any(f"read of {len(samples)} samples" in line for line in told) == (len(samples) < 4)


def test_an_arm_has_populations_of_its_own(study, tmp_path):
    from kleiber.study import stages

    made = study('sample_table = "table.tsv"', ', populations = ["GBR", "YRI"], shares = [0.25, 0.75]')
    stages.genome(made, tmp_path / "out")
    corpus = stages.corpus_of(made, tmp_path / "out", "pan")
    owners = corpus.places(np.arange(4000))["sample"]
    assert set(owners) == {"A", "B", "D"}
    assert binomtest(owners.count("D"), 4000, 0.75).pvalue > 1e-4
    plain = stages.corpus_of(study('sample_table = "table.tsv"', ', populations = ["GBR"]'), tmp_path / "out", "pan")
    assert set(plain.places(np.arange(99))["sample"]) == {"A", "B"}
    named = stages.corpus_of(study("", ', samples = ["D"]'), tmp_path / "out", "pan")
    assert set(named.places(np.arange(99))["sample"]) == {"D"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('samples = ["E"]', r"Unknown sample 'E' in the panel, which \[genome\] samples"),
        ('sample_table = "table.tsv"\npopulations = ["GBX"]', r"Unknown population 'GBX'"),
        ('sample_table = "absent.tsv"\npopulations = ["GBR"]', r"no file .*absent.tsv, which \[genome\] sample_table"),
        ('include = ["chr1"]', r"\[genome\] include names nothing of what is held out \(chr2\)"),
        ('include = ["chr2"]', r"holdout \(chr2\) is all that the study reads of ref.fa"),
        ('include = ["chr3"]', r"\[genome\] include 'chr3': Unknown contig 'chr3'"),
        ('exclude = ["absent.bed"]', r"no file .*absent.bed"),
    ],
)
def test_what_a_study_cannot_read_is_told_before_anything_is_built(study, tmp_path, more, message):
    with pytest.raises(KleiberError, match=message):
        build_genome(study(more), tmp_path / "out")
    assert not (tmp_path / "out" / "genome" / "reference").exists()


def test_plan_tells_the_territory(study):
    assert territory(study('include = ["chr1", "chr2:1-100", "chrUn_KI27v1"]'))[0].startswith("training reads 2 of 3")
    assert territory(study())[0] == "training reads 1 of 3 contigs, of 900 bases: chr1"
