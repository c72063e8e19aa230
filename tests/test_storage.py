"""Nothing half-written is ever visible, and nobody else's output is overwritten."""

import os
import subprocess
import sys

import pytest

from kleiber import storage
from kleiber.errors import DataError, StateError


def test_a_failing_writer_leaves_the_old_folder(tmp_path):
    target = tmp_path / "unit"
    with storage.staged_folder(target) as folder:
        (folder / "data").write_text("old")
        storage.write_manifest(folder, {"version": 1})
    with pytest.raises(RuntimeError), storage.staged_folder(target) as folder:
        (folder / "data").write_text("new")
        raise RuntimeError
    assert (target / "data").read_text() == "old"
    assert storage.read_manifest(target) == {"version": 1}
    assert not list(tmp_path.glob(".*.partial"))


def test_a_killed_writer_leaves_nothing_visible(tmp_path):
    script = f"""
import os, signal
from kleiber.storage import staged_folder
with staged_folder({str(tmp_path / "unit")!r}) as folder:
    (folder / "data").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert not (tmp_path / "unit").exists()
    with storage.staged_folder(tmp_path / "unit") as folder:
        assert not list(folder.iterdir())
        (folder / "data").write_text("whole")
    assert (tmp_path / "unit" / "data").read_text() == "whole"


def test_a_partial_folder_is_handed_on_when_asked_for(tmp_path):
    with pytest.raises(RuntimeError), storage.staged_folder(tmp_path / "unit", keep_partial=True) as folder:
        (folder / "part-0").write_text("done")
        raise RuntimeError
    with storage.staged_folder(tmp_path / "unit", keep_partial=True) as folder:
        assert (folder / "part-0").read_text() == "done"


def test_two_writers_of_one_folder(tmp_path):
    with (
        storage.locked(tmp_path / "unit"),
        pytest.raises(StateError, match=f"process {os.getpid()}"),
        storage.locked(tmp_path / "unit"),
    ):
        pass
    with storage.locked(tmp_path / "unit"):
        pass


def test_write_atomic_replaces(tmp_path):
    storage.write_atomic(tmp_path / "a" / "file", "one")
    storage.write_atomic(tmp_path / "a" / "file", b"two")
    assert (tmp_path / "a" / "file").read_bytes() == b"two"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["file"]


def test_a_killed_writer_of_a_file_leaves_nothing_for_good(tmp_path):
    script = f"""
import os, signal
from kleiber import storage
storage.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
storage.write_atomic({str(tmp_path / "file[1]")!r}, "half")
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert [p.suffix for p in tmp_path.iterdir()] == [".partial"]
    (tmp_path / f".file[1].{os.getpid()}.partial").touch()  # of a writer that is alive
    (tmp_path / ".file[1].part.partial").touch()  # of another file
    storage.remove_partials(tmp_path / "file[1]")
    assert len(list(tmp_path.iterdir())) == 2
    storage.write_atomic(tmp_path / "file[1]", "whole")
    assert (tmp_path / "file[1]").read_text() == "whole"


def test_a_damaged_manifest_is_named(tmp_path):
    assert storage.read_manifest(tmp_path) is None
    for text in ("{", "[1]", b"\xff"):
        storage.write_atomic(tmp_path / storage.MANIFEST, text)
        with pytest.raises(DataError, match=r"manifest\.json is damaged"):
            storage.read_manifest(tmp_path)


def test_fingerprints_see_content_and_forgive_time(tmp_path):
    file = tmp_path / "x"
    file.write_text("ACGT")
    recorded = storage.fingerprint(file)
    assert storage.is_unchanged(file, recorded)
    os.utime(file, ns=(1, 1))
    assert storage.is_unchanged(file, recorded)
    file.write_text("ACGA")
    assert not storage.is_unchanged(file, recorded)
    file.unlink()
    assert not storage.is_unchanged(file, recorded)


def test_canonical_json_is_one_text():
    assert storage.canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'
    assert storage.digest({"b": 1, "a": 2}) == storage.digest({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.canonical_json(float("nan"))
