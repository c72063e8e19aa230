"""What somebody else put where output goes is never deleted."""

from __future__ import annotations

import pytest

from hardening.test_permissions import run_each
from kleiber import storage
from kleiber.errors import StateError
from study.conftest import TOY


def test_a_study_that_fails_keeps_what_was_in_its_folder(tmp_path):
    home = tmp_path / "home"
    (home / "here").mkdir(parents=True)
    (home / "here" / "thesis.txt").write_text("three years")
    (home / "bad.fa").write_text("no FASTA")
    (home / "study.toml").write_text(TOY.replace('reference = "embedded"', 'reference = "bad.fa"'))
    outs = (".", "here", "../home/here", "new")
    for code, message in run_each([], *(["run", "study.toml", "--out", out] for out in outs), cwd=home):
        assert code == 2, message
        assert "bad.fa" in message
        assert "Traceback" not in message
    assert (home / "here" / "thesis.txt").read_text() == "three years"
    assert not (home / "new").exists()


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(StateError, match=r"thesis\.txt"), storage.staged_folder(tmp_path) as folder:
        storage.write_manifest(folder, {})
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_a_folder_is_replaced_and_an_empty_one_filled(tmp_path):
    (tmp_path / "unit").mkdir()
    for version in (1, 2):
        with storage.staged_folder(tmp_path / "unit") as folder:
            (folder / f"data-{version}").touch()
            storage.write_manifest(folder, {"version": version})
    assert sorted(path.name for path in (tmp_path / "unit").iterdir()) == ["data-2", "manifest.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unit.lock", "unit"]


def test_what_is_replaced_is_there_until_the_new_one_is(tmp_path, monkeypatch):
    """A writer that dies between the two renames costs the old folder nothing."""
    unit = tmp_path / "unit"
    with storage.staged_folder(unit) as folder:
        storage.write_manifest(folder, {"version": 1})
    rename, calls = storage.os.replace, []

    def dies_at_second(source, target):
        calls.append(source)
        if target == unit:
            raise KeyboardInterrupt
        rename(source, target)

    with pytest.raises(KeyboardInterrupt), storage.staged_folder(unit) as folder:
        storage.write_manifest(folder, {"version": 2})
        monkeypatch.setattr(storage.os, "replace", dies_at_second)
    monkeypatch.undo()
    assert not unit.exists()
    with pytest.raises(RuntimeError), storage.staged_folder(unit):
        raise RuntimeError
    assert storage.read_manifest(unit) == {"version": 1}
