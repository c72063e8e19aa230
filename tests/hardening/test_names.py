"""Names of a study become parts of paths: none leads out of its folder, and no two become one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.errors import ConfigError, KleiberError, StateError
from kleiber.model.config import shape_for
from kleiber.study import stages
from kleiber.study.config import parse_study
from study.conftest import TOY

OUTSIDE = ["../x", "/etc/x", "..", "a/b", "a\\\\b", "x\\u0000y", ".hidden"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_study_and_its_arms_are_no_paths(name):
    for old, new in (('name = "toy"', f'name = "{name}"'), ("pan-bpe =", f'"{name}" =')):
        with pytest.raises(ConfigError, match="name"):
            parse_study(TOY.replace(old, new), "study.toml", Path())


@pytest.mark.parametrize("size", ["../x", "/etc/x", "0.1M/../..", "", "0.1M\0"])
def test_a_size_is_no_path(size):
    with pytest.raises(KleiberError):
        shape_for(size, 100)


@pytest.mark.parametrize("spec", ["../../x.json", "/etc/passwd.json", "a\0b.json", "..json", "../bpe64", "a/b/6mer"])
def test_a_tokenizer_gets_a_name_without_a_path(spec):
    label = stages.tokenizer_label(spec)
    assert label
    assert Path("out", label).resolve().parent == Path("out").resolve()
    assert "\0" not in label


def test_two_tokenizers_of_one_name(tmp_path):
    files = [f'"{tmp_path / folder / "mine.json"}"' for folder in ("a", "b")]
    study = parse_study(TOY.replace('"bpe64"', files[0]).replace('"3mer"', files[1]), "study.toml", Path())
    with pytest.raises(ConfigError, match="would both be called 'mine'"):
        stages.tokenizer_of(study, tmp_path / "out", study.tokenizers()[0])


def test_a_tokenizer_that_changes_under_a_study(embedded, tmp_path, monkeypatch):
    from kleiber.tokens.kmer import KmerTokenizer

    file = tmp_path / "mine.json"
    KmerTokenizer(2).save(file)
    study = parse_study(TOY.replace('"bpe64"', '"mine.json"'), "study.toml", tmp_path)
    spec = str(file)
    assert spec in study.tokenizers()
    monkeypatch.setattr(stages, "genome", lambda study, out: embedded)
    for _ in range(2):
        assert stages.tokenizer_of(study, tmp_path / "out", spec).max_token_length == 2
    KmerTokenizer(3).save(file)
    with pytest.raises(StateError, match="has changed since the study began"):
        stages.tokenizer_of(study, tmp_path / "out", spec)
    file.unlink()
    assert stages.tokenizer_of(study, tmp_path / "out", spec).max_token_length == 2
