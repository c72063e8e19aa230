"""Studies that name entries of the catalogue: found where they are, and never fetched by a run."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from kleiber.errors import ConfigError, DataError, UnknownName
from kleiber.genome import sources
from kleiber.genome.sources import Source, SourceFile
from kleiber.study import paths, populations, stages
from kleiber.study.config import load_study, parse_study
from kleiber.study.stages import genome_files
from study.conftest import TOY

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = Path(str(files("kleiber") / "data" / "embedded"))
FASTA, VCF = EMBEDDED / "chr20_1-4Mb.GRCh37.fa.gz", EMBEDDED / "EUR300.chr20_1-4Mb.vcf.gz"
STUDY = TOY.replace('reference = "embedded"', 'assembly = "Small"').replace('["embedded"]', '["Small-panel"]')


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """A catalogue of the embedded data; the current folder is empty."""

    def entry(name: str, kind: str, path: Path) -> Source:
        file = SourceFile(path.name, size=path.stat().st_size)
        return Source(name, kind, "", "", "", "", "", ("https://127.0.0.1/",), (file,))

    entries = {"Small": entry("Small", "assembly", FASTA), "Small-panel": entry("Small-panel", "panel", VCF)}
    for module in (sources, paths, populations, stages):
        monkeypatch.setattr(module, "catalogue", lambda: entries)
    monkeypatch.delenv("KLEIBER_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def test_what_is_missing_is_named_with_the_command(monkeypatch, tmp_path):
    study = parse_study(STUDY, "study.toml", tmp_path / "studies")
    assert (study.genome.assembly, study.genome.panel) == ("Small", ("Small-panel",))
    with pytest.raises(ConfigError, match=rf"Small, which \[genome\] assembly .* there is no {FASTA.name}") as error:
        genome_files(study)
    assert f"They belong into {tmp_path / 'data'}. Fetch them: kleiber download Small Small-panel" in str(error.value)

    (tmp_path / "data").mkdir()
    shutil.copy(FASTA, tmp_path / "data")
    with pytest.raises(ConfigError, match=rf"Small-panel, which \[genome\] panel .* there is no {VCF.name}"):
        genome_files(study)

    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.copy(VCF, cache)
    monkeypatch.setenv("KLEIBER_DATA", str(cache))
    assert genome_files(study) == (tmp_path / "data" / FASTA.name, (cache / VCF.name,))

    (cache / VCF.name).write_bytes(b"short")
    with pytest.raises(DataError, match=r"has 5 bytes; the source's has 969,086\.\n.*kleiber download Small-panel"):
        genome_files(study)


def test_a_study_falls_back_from_the_catalogue(tmp_path):
    study = parse_study(STUDY.replace("[arms]", 'fallback = "embedded"\n[arms]'), "study.toml", tmp_path)
    assert genome_files(study) == (FASTA, (VCF,))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"Small"', '"Smal"', r"Unknown assembly 'Smal' in \[genome\] of study.toml.\n.*'Small'"),
        ('"Small"', '"Small-panel"', r"Unknown assembly 'Small-panel'"),
        (
            "Small-panel",
            "Small-pane",
            r"Unknown panel or file 'Small-pane' in \[genome\] panel of study.toml.\n.*'Small-p",
        ),
        ('"Small-panel"', '"Small"', r"Unknown panel or file 'Small'"),
        ('assembly = "Small"', 'assembly = "Small"\nreference = "a.fa"', "either a FASTA"),
        ('assembly = "Small"', "", "either a FASTA"),
    ],
)
def test_what_a_study_cannot_name(old, new, message, tmp_path):
    with pytest.raises((UnknownName, ConfigError), match=message):
        parse_study(STUDY.replace(old, new), "study.toml", tmp_path)


def test_a_file_may_have_any_name(tmp_path):
    (tmp_path / "panel").write_text("")
    study = parse_study(STUDY.replace("Small-panel", "panel"), "study.toml", tmp_path)
    assert study.genome.panel == (str(tmp_path / "panel"),)


def test_the_original_study_names_the_catalogue(monkeypatch):
    monkeypatch.undo()
    genome = load_study(ROOT / "studies" / "original.toml").genome
    assert (genome.assembly, genome.panel) == ("GRCh38", ("1000G-30x-phased",))
