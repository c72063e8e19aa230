"""Names of a study become parts of paths: none leads out of its folder, and no two become one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.errors import ConfigError, KleiberError
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


def test_two_tokenizers_of_one_name(embedded, tmp_path, monkeypatch):
    from kleiber.tokens.kmer import KmerTokenizer

    files = [tmp_path / folder / "mine.json" for folder in ("a", "b")]
    for k, file in enumerate(files, 2):
        KmerTokenizer(k).save(file)
    study = parse_study(TOY, "study.toml", Path())
    monkeypatch.setattr(stages, "genome", lambda study, out: embedded)
    first = stages.tokenizer_of(study, tmp_path / "out", str(files[0]))
    assert first.max_token_length == 2
    with pytest.raises(ConfigError, match="would both be called 'mine'"):
        stages.tokenizer_of(study, tmp_path / "out", str(files[1]))
    assert stages.tokenizer_of(study, tmp_path / "out", str(files[0])).max_token_length == 2
