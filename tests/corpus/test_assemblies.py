"""Assemblies are read as haplotypes: the bases of their files, and nothing of what is held out."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from kleiber.corpus.assembled import open_assemblies
from kleiber.corpus.config import CorpusConfig
from kleiber.errors import ConfigError, DataError, UnknownSample
from kleiber.genome.assemblies import Assemblies, assembly_files, chromosome_table, chromosomes_of
from kleiber.genome.reference import Reference, Region
from kleiber.study.config import parse_study

CHROMOSOMES = {"chr1": 900, "chr2": 700, "chrX": 500, "chrY": 400}


def random_bases(draw, n: int) -> str:
    return "".join(draw.choice(list("ACGT"), n))


def write_pangenome(folder, names: str = "{sample}#{hap}#{chromosome}") -> dict[tuple[str, int, str], str]:
    """Write a reference and the two haplotypes of two samples that differ from it by SNVs; return their bases."""
    draw = np.random.default_rng(5)
    reference = {name: random_bases(draw, n) for name, n in CHROMOSOMES.items()}
    (folder / "ref.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in reference.items()))
    (folder / "hprc").mkdir()
    found = {}
    for sample in ("HG1", "HG2"):
        for hap in (1, 2):
            lines = []
            for chromosome, bases in reference.items():
                if chromosome == ("chrY" if hap == 2 else "chrX"):
                    continue
                changed = list(bases)
                for at in draw.integers(0, len(bases), 9):
                    changed[at] = draw.choice(list("ACGT"))
                found[sample, hap - 1, chromosome] = "".join(changed)
                name = names.format(sample=sample, hap=hap, chromosome=chromosome)
                lines += [f">{name} more", "".join(changed)]
            (folder / "hprc" / f"{sample}.hap{hap}.fa").write_text("\n".join(lines) + "\n")
    return found


def build(folder, chromosomes="") -> Assemblies:
    reference = Reference.build(folder / "ref.fa", folder / "reference")
    return Assemblies.build_all(assembly_files([folder / "hprc"]), folder / "built", reference, chromosomes)


@pytest.mark.parametrize(
    "names",
    ["{sample}#{hap}#{chromosome}", "{chromosome}", "{chromosome}_PATERNAL", "{chromosome}:1-900", "h_{chromosome}"],
)
def test_every_window_is_the_files(names, tmp_path):
    bases = write_pangenome(tmp_path, names)
    corpus = open_assemblies(build(tmp_path), CorpusConfig("pangenome", 80, holdout=("2",)), 3)
    for index in range(300):
        where = corpus.explain(index)
        text = bases[where["sample"], where["slot"], where["chromosome"]]
        assert corpus[index].tobytes().decode() == text[where["start"] - 1 : where["start"] + 79]
        assert where["assembly"] == f"{where['sample']}.hap{where['slot'] + 1}.fa"
        assert where["chromosome"] != "chr2"
    described = corpus.describe()
    wanted = {key: len(text) - 79 for key, text in bases.items() if key[2] != "chr2"}
    assert described["n_windows"] == sum(wanted.values())
    assert described["n_haplotypes"] == 4
    assert described["windows_by_chromosome"]["chrY"] == 2 * (400 - 79)
    assert described["holdout"] == ["2"]
    json.dumps(described)
    places = corpus.places(np.arange(100))
    assert {(s, h) for s, h in zip(places["sample"], places["slot"], strict=True)} == {(s, h) for s, h, _ in bases}
    heldout = open_assemblies(build_again(tmp_path), CorpusConfig("pangenome", 80, holdout=("2",), split="heldout"), 3)
    assert heldout.describe()["windows_by_chromosome"] == {"chr2": 4 * (700 - 79)}


def build_again(folder) -> Assemblies:
    return Assemblies.open(folder / "built")


def test_no_window_shares_a_word_that_only_the_held_out_chromosome_has(tmp_path):
    bases = write_pangenome(tmp_path)
    words: dict[bool, set[str]] = {True: set(), False: set()}
    for (_, _, chromosome), text in bases.items():
        words[chromosome == "chr1"] |= {text[i : i + 64] for i in range(len(text) - 63)}
    forbidden = words[True] - words[False]
    assert len(forbidden) > 1000
    corpus = open_assemblies(build(tmp_path), CorpusConfig("pangenome", 100, holdout=("chr1",)), 1)
    rows = corpus.batch(np.arange(2000))
    for row in rows:
        text = row.tobytes().decode()
        assert not forbidden & {text[i : i + 64] for i in range(37)}
    starts = set()
    for index in range(2000):
        where = corpus.explain(index)
        starts.add((where["sample"], where["slot"], where["contig"], where["start"]))
    assert len(starts) > 900


def test_sequences_of_a_panel_read_back_are_its_windows(embedded, tmp_path):
    """Three haplotypes written as FASTA, as `kleiber panel sequence` does, give the store's bases."""
    _, panel = embedded
    whole = Region("20", 1_000_000, 1_300_000)
    (tmp_path / "asm").mkdir()
    for sample, slot in ((panel.samples[0], 0), (panel.samples[0], 1), (panel.samples[7], 1)):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "kleiber",
                "panel",
                "sequence",
                str(panel.path),
                str(whole),
                "--sample",
                sample,
                "--slot",
                str(slot),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        (tmp_path / "asm" / f"{sample}.hap{slot + 1}.fa").write_text(done.stdout)
    assemblies = Assemblies.build_all(assembly_files([tmp_path / "asm"]), tmp_path / "built", panel.reference)
    corpus = open_assemblies(assemblies, CorpusConfig("pangenome", 200), 2)
    rows = corpus.batch(np.arange(200))
    for index, row in enumerate(rows):
        where = corpus.explain(index)
        haplotype = panel.sequence(where["sample"], where["slot"], whole, "span")
        assert row.tobytes() == haplotype[where["start"] - 1 :][:200].tobytes()
    assert {entry.chromosome for entry in assemblies.placed.values()} == {"20"}
    assert corpus.describe()["n_haplotypes"] == 3


def test_contigs_that_no_chromosome_is_known_of(tmp_path):
    write_pangenome(tmp_path, "{sample}#{hap}#JAHB{chromosome}.1")
    with pytest.raises(DataError, match=r"12 contigs cannot be assigned to a chromosome: HG1#1#JAHBchr1.1 of HG1.hap1"):
        build(tmp_path)
    lines = [f"HG{s}#{h}#JAHB{c}.1\t{c}" for s in (1, 2) for h in (1, 2) for c in CHROMOSOMES]
    (tmp_path / "table.tsv").write_text("contig\tchromosome\n" + "\n".join(lines) + "\n")
    assert {e.chromosome for e in build(tmp_path, chromosomes_of(str(tmp_path / "table.tsv"))).placed.values()} == set(
        CHROMOSOMES
    )
    assert {e.chromosome for e in build(tmp_path, "chr2").placed.values()} == {"chr2"}
    made = build(tmp_path, {"*JAHBchrX*": ".", "*JAHBchrY*": "-", "*JAHB*": "1"})
    assert len(made.placed) == 8
    assert made.left_out == {"n_contigs": 4, "n_bases": 2 * 500 + 2 * 400}
    with pytest.raises(DataError, match="cannot be assigned"):
        build(tmp_path, {"*": "chr9"})


def test_organelles_are_left_out_and_unplaced_contigs_are_errors(tmp_path):
    write_pangenome(tmp_path)
    file = tmp_path / "hprc" / "HG1.hap1.fa"
    file.write_text(file.read_text() + ">HG1#1#chrM\nACGTACGT\n")
    assert build(tmp_path).left_out == {"n_contigs": 1, "n_bases": 8}
    file.write_text(file.read_text() + ">HG1#1#chrUn_KI270302v1\nACGTACGT\n")
    with pytest.raises(DataError, match=r"1 contigs cannot be assigned to a chromosome: HG1#1#chrUn_KI270302v1"):
        build(tmp_path)


def test_what_assemblies_cannot_be(tmp_path):
    write_pangenome(tmp_path)
    assemblies = build(tmp_path)

    def refused(error, message, **options):
        with pytest.raises(error, match=message):
            open_assemblies(assemblies, CorpusConfig(**{"strategy": "pangenome", "window": 50, **options}), 1)

    refused(ConfigError, "nothing says which of their bases are variants", strategy="variant")
    refused(ConfigError, "is a block, and assemblies have coordinates of their own", holdout=("chr1:1-100",))
    refused(ConfigError, "X is held out alone", holdout=("chrX",))
    refused(UnknownSample, "HG3", samples=("HG3",))
    refused(ConfigError, "No contig of the assemblies is left", holdout=tuple(CHROMOSOMES))
    one = open_assemblies(assemblies, CorpusConfig("pangenome", 50, samples=("HG2",), include=("1", "2")), 1).describe()
    assert one["windows_by_sample"] == {"HG2": 2 * (851 + 651)}
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="holds no FASTA"):
        assembly_files([tmp_path / "none"])
    with pytest.raises(ConfigError, match="no assembly"):
        assembly_files([tmp_path / "absent.fa"])
    (tmp_path / "twice.fa").write_text(">HG1#1#chr1\nACGT\n")
    with pytest.raises(DataError, match=r"both have a contig HG1#1#chr1"):
        Assemblies.build_all([tmp_path / "hprc" / "HG1.hap1.fa", tmp_path / "twice.fa"], tmp_path / "b")
    (tmp_path / "bad.tsv").write_text("a\n")
    with pytest.raises(DataError, match="line 1: no contig and chromosome"):
        chromosome_table(tmp_path / "bad.tsv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": True}, "assemblies come without records"),
        ({"holdout": "chr1:1-100"}, "names a block"),
        ({"panel": True}, "stand in place of a panel"),
    ],
)
def test_what_a_study_of_assemblies_cannot_say(change, message, tmp_path):
    text = f"""
[study]
name = "t"
[genome]
reference = "ref.fa"
{'panel = ["embedded"]' if "panel" in change else ""}
assemblies = ["hprc"]
holdout = ["{change.get("holdout", "chr1")}"]
[arms]
a = {{ sampling = "{"variant" if "variant" in change else "pangenome"}", tokenizer = "6mer" }}
[ladder]
sizes = ["0.05M"]
tokens = [1e5]
"""
    with pytest.raises(ConfigError, match=message):
        parse_study(text, "study.toml", tmp_path)


def test_a_study_reads_assemblies(tmp_path):
    from kleiber.study import stages

    bases = write_pangenome(tmp_path)
    text = """
[study]
name = "t"
[genome]
reference = "ref.fa"
assemblies = ["hprc"]
holdout = ["chr1"]
[arms]
ref = { sampling = "reference", tokenizer = "nucleotide" }
pan = { sampling = "pangenome", tokenizer = "nucleotide", samples = ["HG2"] }
[ladder]
sizes = ["0.05M"]
tokens = [1e5]
[train]
length = 32
"""
    study = parse_study(text, "study.toml", tmp_path)
    told: list[str] = []
    stages.genome(study, tmp_path / "out", told.append)
    assert any("training reads 3 of 4 contigs" in line for line in told)
    corpora = stages.corpora(study, tmp_path / "out")
    assert corpora["pan"]["windows_by_sample"].keys() == {"HG2"}
    assert corpora["ref"]["n_unique_bases"] == 700 + 500 + 400
    corpus = stages.corpus_of(study, tmp_path / "out", "pan")
    for index in range(50):
        where = corpus.explain(index)
        text = bases[where["sample"], where["slot"], where["chromosome"]]
        assert corpus[index].tobytes().decode() == text[where["start"] - 1 :][: corpus.config.window]
    (tmp_path / "hprc" / "HG1.hap1.fa").write_text(">chr1\nACGT\n")
    with pytest.raises(Exception, match="has changed since the study began"):
        stages.genome(study, tmp_path / "out")
