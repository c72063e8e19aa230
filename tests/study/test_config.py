"""A study file says everything and is read strictly."""

from pathlib import Path

import pytest

from kleiber.errors import ConfigError, UnknownName
from kleiber.study.config import Unit, load_study, parse_study
from kleiber.study.plan import plan

TEXT = """
[study]
name = "tiny"
[genome]
reference = "embedded"
panel = ["panel.vcf.gz"]
holdout = ["20:3,500,001-4,000,000"]
[arms]
ref = { sampling = "reference", tokenizer = "6mer" }
pan = { sampling = "pangenome", tokenizer = "bpe64" }
[ladder]
sizes = ["0.05M", "0.1M"]
tokens = [1e5, 2e5]
seeds = 2
[train]
batch = 8
"""


def parse(text):
    return parse_study(text, "study.toml", Path("/somewhere"))


def test_a_study_becomes_units():
    study = parse(TEXT)
    assert study.study.seed == 17
    assert study.ladder.tokens == (1e5, 2e5)
    assert study.train.batch == 8
    assert study.tokenizers() == ["6mer", "bpe64"]
    assert study.units()[:3] == [
        Unit("ref", "0.05M", 17, 1.0),
        Unit("ref", "0.05M", 18, 1.0),
        Unit("ref", "0.1M", 17, 1.0),
    ]
    assert len(study.units()) == 8


def test_an_arm_is_trained_at_the_sizes_and_budgets_that_it_names():
    study = parse(TEXT.replace('"bpe64" }', '"bpe64", sizes = ["0.1M"], tokens = [2e5] }'))
    units = study.units()
    assert [(unit.arm, unit.size) for unit in units[-2:]] == [("pan", "0.1M"), ("pan", "0.1M")]
    assert len(units) == study.n_runs == 6
    assert study.budgets(units[0]) == (100_000, 200_000)
    assert study.budgets(units[-1]) == (200_000,)
    assert [run.run.tokens for run in plan(study).runs] == [(100_000, 200_000)] * 4 + [(200_000,)] * 2


def test_paths_are_relative_to_the_study_file():
    study = parse(TEXT.replace('"bpe64"', '"mine.json"'))
    assert study.genome.reference == "embedded"
    assert study.genome.panel == ("/somewhere/panel.vcf.gz",)
    assert study.tokenizers() == ["6mer", "/somewhere/mine.json"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = 2", "sedes = 2", r"Unknown key 'sedes' in \[ladder\] of study.toml.\n.*'seeds'"),
        ("[train]", "[trian]", r"Unknown table 'trian' in study.toml.\n.*'train'"),
        ("batch = 8", "bacth = 8", r"Unknown key 'bacth' in \[train\].*\n.*'batch'"),
        ('tokenizer = "6mer"', 'tokeniser = "6mer"', r"Unknown key 'tokeniser' in \[arms.ref\].*\n.*'tokenizer'"),
        ('"pangenome"', '"pangenom"', r"Unknown sampling 'pangenom' in \[arms\] pan.*\n.*'pangenome'"),
    ],
)
def test_unknown_names_are_errors_that_name_the_nearest(old, new, message):
    with pytest.raises(UnknownName, match=message):
        parse(TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = 2", 'seeds = "2"', "must be a whole number, not '2'"),
        ("seeds = 2", "seeds = 1.5", "must be a whole number, not 1.5"),
        ("seeds = 2", "seeds = 0", "seeds of study.toml must be at least 1, not 0"),
        ("batch = 8", "batch = true", "must be a whole number, not True"),
        ("tokens = [1e5, 2e5]", "tokens = 1e5", "must be a list in brackets"),
        ("tokens = [1e5, 2e5]", "tokens = [2e5, 1e5]", "increasing numbers of tokens"),
        ("tokens = [1e5, 2e5]", "tokens = [nan]", "increasing numbers of tokens"),
        ('name = "tiny"', 'name = "../tiny"', "cannot be '../tiny'"),
        ('name = "tiny"', "", "the key 'name' is missing"),
        ('panel = ["panel.vcf.gz"]', "", r"pan of study.toml needs a panel to sample 'pangenome'"),
        ('holdout = ["20:3,500,001-4,000,000"]', "holdout = []", "holdout of study.toml is empty"),
        ('"bpe64"', '"bpe64", sizes = ["0.2M"]', r"pan sizes of study.toml must be some of .* not \['0.2M'\]"),
        ('"bpe64"', '"bpe64", tokens = [2e5, 1e5]', r"pan tokens of study.toml must be some of .* in order"),
        ("[arms]", "[arms", "no valid TOML"),
    ],
)
def test_bad_values_are_errors_that_show_them(old, new, message):
    with pytest.raises(ConfigError, match=message):
        parse(TEXT.replace(old, new))


def test_a_missing_study_file(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no study file .*absent.toml"):
        load_study(tmp_path / "absent.toml")
