"""A download that was cut, at any byte and by whatever, goes on from there, or begins again where it has to."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from genome.downloads import BYTES, HASTY, NAME, fetch, md5, publish, source
from genome.misbehaving import misserve, refuse, serve, stall
from kleiber.errors import DownloadError, Stopped
from kleiber.genome.fetch import Limits

SHORT = BYTES[:40]


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


def test_a_lie_about_the_range(server, tmp_path):
    def shifted(handler):
        handler.headers.replace_header("Range", "bytes=30-")
        serve(handler)

    server.files["/table.txt"] = BYTES
    server.faults["/table.txt"] = [misserve(upto=60), shifted]
    fetch(source(server, names=["table.txt"], checksums=""), tmp_path)
    assert (tmp_path / "table.txt").read_bytes() == BYTES


def test_a_part_longer_than_the_file_begins_again(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BYTES + b"more")
    fetch(source(server), tmp_path)
    assert (tmp_path / NAME).read_bytes() == BYTES
    assert server.ranges(f"/{NAME}") == [f"bytes={len(BYTES) + 4}-", None]


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
        "import sys; from pathlib import Path; from genome.downloads import *\n"
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
