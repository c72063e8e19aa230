"""Genomes as people have them, through a whole study: other species, files of single samples, assemblies, RNA."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from inprocess import kleiber

LENGTH = 40_000  # of every chromosome
LADDER = """
[ladder]
sizes = ["0.01M"]
tokens = [4e3]
[train]
length = 32
batch = 8
[fit]
bootstrap = 100
"""


def letters(seed: int, alphabet: str = "ACGT", length: int = LENGTH) -> str:
    return "".join(np.random.default_rng(seed).choice(list(alphabet), length))


def fasta(path: Path, contigs: dict[str, str]) -> Path:
    path.write_text("".join(f">{name} of a test\n{bases}\n" for name, bases in contigs.items()))
    return path


def run(folder: Path, text: str) -> tuple[dict, pl.DataFrame]:
    """Run a study; return what it says of its corpora, and its observations."""
    (folder / "study.toml").write_text('[study]\nname = "kind"\nseed = 3\n' + text + LADDER)
    result = kleiber("run", folder / "study.toml", "--out", folder / "out")
    assert result.returncode == 0, result.stderr
    corpora = json.loads((folder / "out" / "corpora.json").read_bytes())
    return corpora, pl.read_csv(folder / "out" / "observations.csv")


def vcf(path: Path, genome: dict[str, str], samples: list[str], calls) -> Path:
    """Write one record every kilobase; `calls(contig, number)` gives the genotype of each sample."""
    lines = ["##fileformat=VCFv4.4", *(f"##contig=<ID={name}>" for name in genome)]
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="">']
    lines += ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples])]
    for name, bases in genome.items():
        for k, at in enumerate(range(500, LENGTH, 1000)):
            ref = bases[at]
            alt = "ACGT"["ACGT".index(ref) - 1]
            lines.append("\t".join([name, str(at + 1), ".", ref, alt, ".", ".", ".", "GT", *calls(name, k)]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def fly() -> dict[str, str]:
    """Chromosomes of a fly, and a scaffold of as many bases that nothing should read."""
    return {name: letters(k) for k, name in enumerate(("2L", "2R", "3L", "3R", "X", "Un_CP007071v1"))}


def test_one_file_per_sample_of_a_fly_with_males_and_two_populations(fly, tmp_path):
    """Chromosome arms are read and the scaffold is not; males have one X; a lone dot takes no haplotype away."""
    fasta(tmp_path / "fly.fa", fly)
    chromosomes = {name: bases for name, bases in fly.items() if not name.startswith("Un")}
    sexes = {"ann": "F", "bea": "F", "cal": "M", "dan": "M"}
    table = ["FamilyID\tSampleID\tFatherID\tMotherID\tSex\tPopulation\tSuperpopulation"]
    for number, (sample, sex) in enumerate(sexes.items()):
        table.append(f"{sample}\t{sample}\t0\t0\t{'MF'.index(sex) + 1}\t{'NORTH' if number % 2 else 'SOUTH'}\tFLY")

        def calls(contig: str, k: int, own: str = sample, is_male: bool = sex == "M", n: int = number) -> list[str]:
            if k % 7 == n:
                return ["."]
            if contig == "X" and is_male:
                return [str(k % 2)]
            return [f"|{(k + n) % 2}|{k % 2}" if k % 3 else f"{(k + n) % 2}/1"]

        vcf(tmp_path / f"{sample}.vcf", chromosomes, [sample], calls)
    (tmp_path / "table.tsv").write_text("\n".join(table) + "\n")
    files = ", ".join(f'"{sample}.vcf"' for sample in sexes)
    corpora, rows = run(
        tmp_path,
        f"""[genome]
reference = "fly.fa"
panel = [{files}]
holdout = ["3R"]
unphased = "random"
sample_table = "table.tsv"
[arms]
all = {{ sampling = "pangenome", tokenizer = "3mer" }}
south = {{ sampling = "pangenome", tokenizer = "3mer", populations = ["SOUTH"] }}
""",
    )
    assert {place.split(":")[0] for place in corpora["all"]["territory"]} == {"2L", "2R", "3L", "X"}
    assert corpora["all"]["n_haplotypes"] == 8
    assert corpora["south"]["n_haplotypes"] == 4
    share = {arm: found["windows_by_contig"] for arm, found in corpora.items()}
    for arm in share:  # two females and two males, one of each south: 6 X for 8 of every autosome
        assert share[arm]["X"] / share[arm]["2L"] == pytest.approx(0.75, abs=0.02)
    assert set(rows["arm"]) == {"all", "south"}
    assert rows["loss"].is_finite().all()


@pytest.mark.slow
def test_assembled_genomes_beside_a_reference(tmp_path):
    """Contigs in PanSN are matched by chromosome; the held-out chromosome is read of no assembly."""
    reference = {f"chr{n}": letters(n) for n in (1, 2, 3)}
    fasta(tmp_path / "r.fa", reference)
    (tmp_path / "assemblies").mkdir()
    for haplotype in (1, 2):
        own = {f"S1#{haplotype}#{name}": bases[:9_000] + bases[9_100:] for name, bases in reference.items()}
        fasta(tmp_path / "assemblies" / f"S1.{haplotype}.fa", own)
    text = """[genome]
reference = "r.fa"
assemblies = ["assemblies"]
holdout = ["chr3"]
[arms]
all = { sampling = "STRATEGY", tokenizer = "3mer" }
"""
    corpora, rows = run(tmp_path, text.replace("STRATEGY", "pangenome"))
    assert not [place for place in corpora["all"]["territory"] if "chr3" in place]
    assert len(rows) == 1
    assert rows["loss"].is_finite().all()


def test_a_study_of_assemblies_has_no_variant_windows(tmp_path):
    fasta(tmp_path / "r.fa", {f"chr{n}": letters(n) for n in (1, 2)})
    fasta(tmp_path / "a.fa", {f"S1#1#chr{n}": letters(n) for n in (1, 2)})
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "kind"\n[genome]\nreference = "r.fa"\nassemblies = ["a.fa"]\nholdout = ["chr2"]\n'
        '[arms]\nall = { sampling = "variant", tokenizer = "3mer" }\n' + LADDER
    )
    result = kleiber("run", tmp_path / "study.toml", "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "variant" in result.stderr
    assert "assemblies" in result.stderr
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.slow
def test_rna_with_blanks_codes_and_soft_masks(tmp_path):
    """U is T, blanks and digits are none of the bases, other codes are N and counted; soft-masked bases can be left."""
    rna = letters(1, "ACGU")
    lines = [f"{at + 1:>9} {rna[at : at + 10]} {rna[at + 10 : at + 20]}" for at in range(0, LENGTH, 20)]
    masked = letters(2)[: LENGTH // 2] + letters(2)[LENGTH // 2 :].lower()
    (tmp_path / "r.fa").write_text(
        ">I\n" + "\n".join(lines) + f"\n>II\n{masked}\n>III\n{letters(3)[:-4]}RYKM\n>IV\n{letters(4)}\n"
    )
    corpora, rows = run(
        tmp_path,
        """[genome]
reference = "r.fa"
holdout = ["IV"]
soft_masked = false
exclude = ["III:30,001-40,000"]
[arms]
all = { sampling = "reference", tokenizer = "3mer" }
""",
    )
    assert corpora["all"]["n_unique_bases"] == LENGTH + LENGTH // 2 + 30_000
    assert len(rows) == 1
    assert rows["loss"].is_finite().all()
