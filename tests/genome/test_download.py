"""Downloads end with the right bytes under the right name, or with an error and nothing under it."""

from __future__ import annotations

import hashlib
import json
import threading
import time

import pytest

from genome.downloads import BYTES, CLOSED, NAME, bgzipped, fetch, flipped, md5, publish, source
from genome.misbehaving import misserve, refuse, serve
from kleiber.errors import ConfigError, DataError, DownloadError, NoNetwork, StateError
from kleiber.genome import download as module
from kleiber.genome.download import RECORDS
from kleiber.storage import locked


def test_a_file_and_its_record(server, tmp_path):
    (outcome,) = fetch(source(server), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    assert (outcome.status, outcome.verified) == ("fetched", f"md5 {md5(BYTES)}")
    assert outcome.sha256 == hashlib.sha256(BYTES).hexdigest()
    assert outcome.address == server.url + NAME
    assert server.asked[0][2]["User-Agent"].startswith("kleiber/")
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == [NAME, RECORDS]


def test_a_second_call_asks_nobody(server, tmp_path):
    fetch(source(server), tmp_path)
    n_asked = len(server.asked)
    (outcome,) = fetch(source(server), tmp_path)
    assert outcome.status == "there"
    assert len(server.asked) == n_asked


def test_a_changed_file_is_no_longer_trusted(server, tmp_path):
    fetch(source(server), tmp_path)
    (tmp_path / NAME).write_bytes(BYTES[:-1] + b"?")
    with pytest.raises(DataError, match=r"is not the file that test names: its md5 is \w+, and the source's is"):
        fetch(source(server), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES[:-1] + b"?", "what somebody put there is not ours to replace"


def test_ones_own_mirror_comes_first_and_the_list_from_the_source(server, second, tmp_path):
    second.files["/md5sums"] = b""
    (outcome,) = fetch(source(server), tmp_path, mirror=second.url.rstrip("/"))
    assert outcome.address == second.url + NAME
    assert server.paths() == ["/md5sums"]


def test_without_a_published_sum_the_file_itself_is_checked(server, tmp_path):
    whole = bgzipped(tmp_path / "whole.gz")
    server.files[f"/{NAME}"] = whole
    (outcome,) = fetch(source(server, checksums=""), tmp_path / "good")
    assert (outcome.verified, outcome.note) == ("", "the source publishes no checksum")
    assert (tmp_path / "good" / NAME).read_bytes() == whole
    n_asked = len(server.asked)
    assert fetch(source(server, checksums=""), tmp_path / "good")[0].status == "there"
    assert len(server.asked) == n_asked

    server.forever[f"/{NAME}"] = misserve(length=len(whole) - 28)  # without the last block: a shorter, valid gzip
    with pytest.raises(DownloadError, match="end marker of bgzip is missing"):
        fetch(source(server, checksums=""), tmp_path / "short")
    server.forever[f"/{NAME}"] = misserve(change=flipped)
    with pytest.raises(DownloadError, match="is cut short or damaged"):
        fetch(source(server, checksums=""), tmp_path / "flipped")
    server.forever.clear()
    server.files[f"/{NAME}"] = b"<html>Sign in</html>"
    with pytest.raises(DownloadError, match="is no gzip file"):
        fetch(source(server, checksums=""), tmp_path / "page")
    assert [p.name for p in tmp_path.glob("*/*") if p.name == NAME and p.parent.name != "good"] == []


def test_the_disk_is_asked_first(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(DownloadError, match="too small: 150 bytes are to come, and 100 are free"):
        fetch(source(server), tmp_path)
    assert server.paths("GET") == ["/md5sums"]
    (tmp_path / f"{NAME}.part").write_bytes(BYTES[:50])
    fetch(source(server), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"cannot be used[\s\S]*--to"):
        fetch(source(server), tmp_path / "file" / "data")


def test_files_in_the_offline_folder_are_checked_once(server, tmp_path, monkeypatch):
    cache, to = tmp_path / "cache", tmp_path / "to"
    cache.mkdir()
    (cache / NAME).write_bytes(BYTES)
    monkeypatch.setenv("KLEIBER_DATA", f"{tmp_path}:{cache}")
    entry = source(CLOSED, md5=md5(BYTES))
    assert [(o.status, o.path) for o in fetch(entry, to)] == [("checked", str(cache / NAME))]
    assert fetch(entry, to)[0].status == "there"
    assert not (to / NAME).exists()
    (cache / NAME).write_bytes(flipped(BYTES))
    with pytest.raises(DataError, match=r"KLEIBER_DATA"):
        fetch(entry, to)
    monkeypatch.setenv("KLEIBER_DATA", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"KLEIBER_DATA names .*absent"):
        fetch(entry, to)


def test_without_a_network(server, tmp_path):
    for entry in (source(CLOSED), source(CLOSED, checksums=""), source(CLOSED, md5=md5(BYTES), size=150)):
        with pytest.raises(NoNetwork) as error:
            fetch(entry, tmp_path)
        assert CLOSED in str(error.value)
        assert "KLEIBER_DATA" in str(error.value)
        assert "by hand" in str(error.value)


def test_a_file_by_hand_without_a_network_is_checked_when_there_is_one(server, tmp_path):
    whole = bgzipped(tmp_path / NAME)
    (outcome,) = fetch(source(CLOSED), tmp_path)
    assert (outcome.verified, outcome.note) == ("", "the source's list of checksums is out of reach")
    server.files[f"/{NAME}"] = whole
    publish(server)
    (outcome,) = fetch(source(server), tmp_path)
    assert (outcome.status, outcome.verified) == ("checked", f"md5 {md5(whole)}")


def test_a_list_is_asked_for_once(server, tmp_path):
    server.forever["/md5sums"] = refuse(404)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes(BYTES)
    outcomes = fetch(source(server, names=["a.txt", "b.txt"]), tmp_path)
    assert {outcome.note for outcome in outcomes} == {"the source's list of checksums is out of reach"}
    assert server.paths() == ["/md5sums"]


def test_several_files_within_the_limit(server, tmp_path):
    names = [f"chr{i}.vcf.gz" for i in range(7)]
    server.files = {f"/{name}": BYTES + name.encode() for name in names}
    publish(server)
    meeting = threading.Barrier(2)

    def together(handler):
        meeting.wait(timeout=20)
        time.sleep(0.5)  # a third would come now
        serve(handler)

    server.faults = {f"/{name}": [together] for name in names[:2]}
    outcomes = fetch(source(server, names=names), tmp_path, jobs=2)
    assert [outcome.name for outcome in outcomes] == names
    assert server.most_at_once == 2
    assert set(json.loads((tmp_path / RECORDS).read_text())) == set(names)
    with pytest.raises(ConfigError, match="Choose 1 to 8"):
        fetch(source(server), tmp_path, jobs=9)


def test_one_bad_file_does_not_keep_the_others(server, tmp_path):
    names = ["a.gz", "b.gz", "c.gz"]
    server.files = {f"/{name}": BYTES for name in names}
    publish(server)
    server.forever["/b.gz"] = refuse(404)
    with pytest.raises(DownloadError, match=r"b\.gz of test could not be fetched"):
        fetch(source(server, names=names), tmp_path, jobs=1)
    assert (tmp_path / "a.gz").exists()
    assert (tmp_path / "c.gz").exists()


def test_two_processes_do_not_collide(server, tmp_path):
    with locked(tmp_path / RECORDS), pytest.raises(StateError, match="being written by another process"):
        fetch(source(server), tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_damaged_records_are_an_error(text, server, tmp_path):
    (tmp_path / RECORDS).write_text(text)
    with pytest.raises(DataError, match="Delete it"):
        fetch(source(server), tmp_path)


@pytest.mark.parametrize("mirror", ["ftp://host/", "file:///etc/", "nonsense", "http:///x", "http://[", "http://a:b/"])
def test_what_is_no_mirror(mirror, server, tmp_path):
    with pytest.raises(ConfigError, match="is no mirror"):
        fetch(source(server), tmp_path, mirror=mirror)
