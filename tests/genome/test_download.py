"""Downloads end with the right bytes under the right name, or with an error and nothing under it."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.request import Request

import pytest
from pysam import BGZFile

from genome.misbehaving import misserve, refuse, running, serve, stall
from kleiber.errors import ConfigError, DataError, DownloadError, NoNetwork, StateError, Stopped
from kleiber.genome import download as module
from kleiber.genome.download import RECORDS, download
from kleiber.genome.fetch import AddressError, Limits, _Redirects
from kleiber.genome.sources import Source, SourceFile, select
from kleiber.storage import locked

NAME = "chr21.vcf.gz"
HASTY = Limits(timeout=20.0, attempts=3, wait=0.0, longest_wait=2.0)
BYTES = random.Random(7).randbytes(150)
SHORT = BYTES[:40]
CLOSED = "http://127.0.0.1:9/"  # the port of "discard", at which nothing listens


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("KLEIBER_DATA", raising=False)


@pytest.fixture
def server():
    with running() as server:
        server.files[f"/{NAME}"] = BYTES
        publish(server)
        yield server


@pytest.fixture
def second():
    with running() as server:
        server.files[f"/{NAME}"] = BYTES
        publish(server)
        yield server


def publish(server) -> None:
    """Write the list of checksums of all that is served."""
    lines = [f"{md5(data)}  ./{path[1:]}" for path, data in server.files.items() if path != "/md5sums"]
    server.files["/md5sums"] = "\n".join(lines).encode()


def source(*servers, names=(NAME,), checksums="md5sums", **known) -> Source:
    """An entry as the catalogue would have it; `known` is pinned of each file."""
    files = tuple(SourceFile(name, **known) for name in names)
    addresses = tuple(s if isinstance(s, str) else s.url for s in servers)
    return Source("test", "panel", "", "", "", "", "", addresses, files, checksums)


def fetch(entry: Source, to: Path, **options):
    return download(select([entry], []), to, **{"limits": HASTY, **options})


def nothing_landed(to: Path) -> bool:
    return not (to / NAME).exists()


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


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_at_any_byte(ranges, server, tmp_path):
    server.files[f"/{NAME}"] = SHORT
    server.forever = {} if ranges else {f"/{NAME}": misserve(ranges=False)}
    for cut in range(0, len(SHORT), 1 if ranges else 5):
        server.asked.clear()
        server.faults[f"/{NAME}"] = [misserve(upto=cut)]
        fetch(source(server, md5=md5(SHORT)), tmp_path / str(cut))
        assert (tmp_path / str(cut) / NAME).read_bytes() == SHORT
        assert server.ranges(f"/{NAME}") == [None, f"bytes={cut}-" if cut else None]


@pytest.mark.parametrize("checksums", ["md5sums", ""])
def test_a_later_call_goes_on_at_any_byte(checksums, server, tmp_path):
    plain = "table.txt"
    server.files[f"/{plain}"] = SHORT
    publish(server)
    once = replace(HASTY, attempts=1)
    for cut in range(0, len(SHORT), 3):
        to = tmp_path / str(cut)
        server.faults[f"/{plain}"] = [misserve(upto=cut)]
        with pytest.raises(DownloadError, match=rf"it ended after {cut} of {len(SHORT)} bytes"):
            fetch(source(server, names=[plain], checksums=checksums), to, limits=once)
        server.asked.clear()
        fetch(source(server, names=[plain], checksums=checksums), to, limits=once)
        assert (to / plain).read_bytes() == SHORT
        assert server.ranges(f"/{plain}") == [f"bytes={cut}-" if cut else None]


def test_a_part_that_was_complete_is_not_fetched_again(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BYTES)
    fetch(source(server, size=len(BYTES), md5=md5(BYTES)), tmp_path)
    assert server.asked == []


@pytest.mark.parametrize("heed_if_range", [True, False])
def test_a_file_that_changes_between_two_calls_begins_again(heed_if_range, server, tmp_path):
    plain = "table.txt"
    server.files[f"/{plain}"] = BYTES
    server.faults[f"/{plain}"] = [misserve(upto=50)]
    entry = source(server, names=[plain], checksums="")
    with pytest.raises(DownloadError):
        fetch(entry, tmp_path, limits=replace(HASTY, attempts=1))
    server.files[f"/{plain}"] = BYTES[::-1]
    server.faults[f"/{plain}"] = [misserve(heed_if_range=heed_if_range)]
    n_asked = len(server.asked)
    fetch(entry, tmp_path)
    assert (tmp_path / plain).read_bytes() == BYTES[::-1]
    (resumed, *_) = [headers for method, _, headers in server.asked[n_asked:] if method == "GET"]
    assert (resumed["Range"], resumed["If-Range"]) == ("bytes=50-", f'"{md5(BYTES)}"')


def test_without_validator_and_sum_nothing_is_continued(server, tmp_path):
    plain = "table.txt"
    server.files[f"/{plain}"] = BYTES
    server.faults[f"/{plain}"] = [misserve(upto=50, tag="none")]
    fetch(source(server, names=[plain], checksums=""), tmp_path)
    assert server.ranges(f"/{plain}") == [None, None]
    assert (tmp_path / plain).read_bytes() == BYTES


def test_another_address_goes_on_with_what_the_first_gave(server, second, tmp_path):
    server.faults[f"/{NAME}"] = [misserve(upto=60)]
    server.forever[f"/{NAME}"] = refuse(500)
    (outcome,) = fetch(source(server, second), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    assert outcome.address == second.url + NAME
    assert second.ranges(f"/{NAME}") == ["bytes=60-"]


def test_a_stall_is_a_cut(server, tmp_path):
    server.faults[f"/{NAME}"] = [stall(40)]
    fetch(source(server), tmp_path, limits=Limits(timeout=0.3, attempts=20, wait=0.0))
    assert server.ranges(f"/{NAME}")[:2] == [None, "bytes=40-"]
    assert (tmp_path / NAME).read_bytes() == BYTES


def test_a_server_that_only_stalls(server, tmp_path):
    server.forever[f"/{NAME}"] = stall(40)
    with pytest.raises(DownloadError, match="timed out") as error:
        fetch(source(server), tmp_path, limits=replace(HASTY, timeout=0.1))
    assert not isinstance(error.value, NoNetwork)
    assert nothing_landed(tmp_path)


@pytest.mark.parametrize("length", [len(BYTES) - 20, len(BYTES) + 20])
def test_a_lie_about_the_length_with_a_known_size(length, server, second, tmp_path):
    server.forever[f"/{NAME}"] = misserve(length=length)
    entry = source(server, second, md5=md5(BYTES), size=len(BYTES))
    fetch(entry, tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    with pytest.raises(DownloadError, match=rf"it has {length} bytes, and the file has {len(BYTES)}"):
        fetch(replace(entry, addresses=(server.url,)), tmp_path / "alone")
    assert nothing_landed(tmp_path / "alone")


@pytest.mark.parametrize(("length", "message"), [(len(BYTES) - 20, "its md5 is"), (len(BYTES) + 20, "it ended after")])
def test_a_lie_about_the_length_with_a_sum_only(length, message, server, tmp_path):
    server.forever[f"/{NAME}"] = misserve(length=length)
    with pytest.raises(DownloadError, match=message):
        fetch(source(server), tmp_path)
    assert nothing_landed(tmp_path)


def test_a_lie_about_the_range(server, tmp_path):
    def shifted(handler):
        handler.headers.replace_header("Range", "bytes=30-")
        serve(handler)

    server.files["/table.txt"] = BYTES
    server.faults["/table.txt"] = [misserve(upto=60), shifted]
    fetch(source(server, names=["table.txt"], checksums=""), tmp_path)
    assert (tmp_path / "table.txt").read_bytes() == BYTES


def flipped(data: bytes) -> bytes:
    return data[:70] + bytes([data[70] ^ 1]) + data[71:]


def test_a_flipped_bit_is_fetched_once_more(server, tmp_path):
    server.faults[f"/{NAME}"] = [misserve(change=flipped)]
    fetch(source(server), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    assert server.ranges(f"/{NAME}") == [None, None]


def test_a_flipped_bit_is_fetched_from_another_mirror(server, second, tmp_path):
    server.forever[f"/{NAME}"] = misserve(change=flipped)
    (outcome,) = fetch(source(server, second), tmp_path)
    assert outcome.address == second.url + NAME
    assert len(server.ranges(f"/{NAME}")) == 1


def test_a_wrong_sum_never_lands(server, tmp_path):
    server.forever[f"/{NAME}"] = misserve(change=flipped)
    with pytest.raises(DownloadError, match=f"its md5 is {md5(flipped(BYTES))}, and the source's is {md5(BYTES)}"):
        fetch(source(server), tmp_path)
    assert nothing_landed(tmp_path)
    assert not list(tmp_path.glob("*.part*")), "nothing wrong is kept to be continued"
    assert len(server.ranges(f"/{NAME}")) == 2


def test_a_wrong_list_lets_nothing_land(server, tmp_path):
    server.files["/md5sums"] = f"{md5(b'another')}  {NAME}".encode()
    with pytest.raises(DownloadError, match=f"and the source's is {md5(b'another')}"):
        fetch(source(server), tmp_path)
    assert nothing_landed(tmp_path)


@pytest.mark.parametrize(
    ("published", "message"),
    [(b"", f"md5sums of test names no {NAME}"), (None, "md5sums of test could not be fetched.\n.*404 Not Found")],
)
def test_without_its_sum_nothing_is_fetched(published, message, server, tmp_path):
    server.files.pop("/md5sums")
    if published is not None:
        server.files["/md5sums"] = published
    with pytest.raises(DownloadError, match=message):
        fetch(source(server), tmp_path)
    assert server.ranges(f"/{NAME}") == []


def test_redirects_are_followed(server, tmp_path):
    server.files["/elsewhere"] = BYTES
    server.forever[f"/{NAME}"] = refuse(302, Location="/elsewhere")
    server.faults["/elsewhere"] = [misserve(upto=60)]
    fetch(source(server), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    assert server.ranges("/elsewhere") == [None, "bytes=60-"]
    assert server.paths("HEAD") == [f"/{NAME}", "/elsewhere"]


def test_redirects_end(server, tmp_path):
    server.forever[f"/{NAME}"] = refuse(302, Location=f"/{NAME}")
    with pytest.raises(DownloadError, match="infinite loop"):
        fetch(source(server), tmp_path)


@pytest.mark.parametrize("target", ["http://127.0.0.1/x", "ftp://127.0.0.1/x"])
def test_redirects_stay_encrypted(target):
    class Answer:
        def close(self) -> None:
            pass

    with pytest.raises(AddressError, match=f"from https to {target}"):
        _Redirects().redirect_request(Request("https://127.0.0.1/a"), Answer(), 302, "Found", None, target)


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_refusal_goes_to_the_mirror_at_once(code, server, second, tmp_path):
    server.forever[f"/{NAME}"] = refuse(code)
    (outcome,) = fetch(source(server, second, md5=md5(BYTES), size=len(BYTES)), tmp_path)
    assert outcome.address == second.url + NAME
    assert len(server.asked) == 1
    with pytest.raises(DownloadError, match=rf"{server.url}{NAME}: it answers {code} [\s\S]*--mirror"):
        fetch(source(server), tmp_path / "alone")


def test_ones_own_mirror_comes_first_and_the_list_from_the_source(server, second, tmp_path):
    second.files["/md5sums"] = b""
    (outcome,) = fetch(source(server), tmp_path, mirror=second.url.rstrip("/"))
    assert outcome.address == second.url + NAME
    assert server.paths() == ["/md5sums"]


def test_a_part_longer_than_the_file_begins_again(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BYTES + b"more")
    fetch(source(server), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    assert server.ranges(f"/{NAME}") == [f"bytes={len(BYTES) + 4}-", None]


def test_a_server_that_only_answers_416(server, tmp_path):
    server.forever[f"/{NAME}"] = refuse(416)
    with pytest.raises(DownloadError, match=r"it answers 416 .* \(3 times in a row\)"):
        fetch(source(server), tmp_path)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_what_may_pass_is_tried_again(code, server, tmp_path):
    server.faults[f"/{NAME}"] = [refuse(code), refuse(code, Retry_After="0")]
    fetch(source(server), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    server.forever[f"/{NAME}"] = refuse(code)
    with pytest.raises(DownloadError, match=rf"it answers {code} .* \(3 times in a row\)"):
        fetch(source(server), tmp_path / "again")


def test_retry_after_is_heeded(server, tmp_path):
    server.faults[f"/{NAME}"] = [refuse(503, Retry_After="1")]
    start = time.monotonic()
    fetch(source(server), tmp_path)
    assert time.monotonic() - start >= 1
    server.faults[f"/{NAME}"] = [refuse(503, Retry_After="3600")]
    with pytest.raises(DownloadError, match="asks to come back in 3,600 s"):
        fetch(source(server), tmp_path / "later")


def bgzipped(path: Path) -> bytes:
    with BGZFile(str(path), "w") as file:
        file.write(b"##fileformat=VCFv4.2\n" * 1000)
    return path.read_bytes()


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


def test_a_page_in_place_of_a_table(server, tmp_path):
    server.files["/table.txt"] = b"<html>Sign in</html>"
    with pytest.raises(DownloadError, match="it begins with b'<html>Sig', and the source's with 'FamilyID '"):
        fetch(source(server, names=["table.txt"], checksums="", begins="FamilyID "), tmp_path)


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


def test_a_stop_keeps_what_has_come(server, tmp_path):
    stop = threading.Event()
    server.files[f"/{NAME}"] = BYTES * 10_000
    publish(server)
    with pytest.raises(Stopped, match="The same command goes on"):
        fetch(source(server), tmp_path, stop=stop, moved=lambda name, n_bytes, total: stop.set())
    kept = (tmp_path / f"{NAME}.part").stat().st_size
    assert 0 < kept < 1_500_000
    server.asked.clear()
    fetch(source(server), tmp_path)
    assert server.ranges(f"/{NAME}") == [f"bytes={kept}-"]
    assert (tmp_path / NAME).read_bytes() == BYTES * 10_000


def test_a_killed_process_goes_on(server, tmp_path):
    server.files[f"/{NAME}"] = BYTES * 10_000
    publish(server)
    server.faults[f"/{NAME}"] = [stall(700_000)]
    code = (
        "import sys; from pathlib import Path; from genome.test_download import *\n"
        "print('go', flush=True)\n"
        "download(select([source(sys.argv[1])], []), Path(sys.argv[2]))"
    )
    tests = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{code}", server.url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        part = tmp_path / f"{NAME}.part"
        while not part.exists() or part.stat().st_size < 500_000:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = part.stat().st_size
    fetch(source(server), tmp_path)
    assert server.ranges(f"/{NAME}") == [None, f"bytes={kept}-"]
    assert (tmp_path / NAME).read_bytes() == BYTES * 10_000


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_damaged_records_are_an_error(text, server, tmp_path):
    (tmp_path / RECORDS).write_text(text)
    with pytest.raises(DataError, match="Delete it"):
        fetch(source(server), tmp_path)


@pytest.mark.parametrize("mirror", ["ftp://host/", "file:///etc/", "nonsense", "http:///x", "http://[", "http://a:b/"])
def test_what_is_no_mirror(mirror, server, tmp_path):
    with pytest.raises(ConfigError, match="is no mirror"):
        fetch(source(server), tmp_path, mirror=mirror)
