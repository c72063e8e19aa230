"""Servers that lie, corrupt, redirect and refuse: another address is asked, or nothing lands and the error says why."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.request import Request

import pytest

from genome.downloads import BYTES, HASTY, NAME, fetch, flipped, md5, nothing_landed, source
from genome.misbehaving import misserve, refuse, stall
from kleiber.errors import DownloadError, NoNetwork
from kleiber.genome.fetch import AddressError, _Redirects


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


def test_a_page_in_place_of_a_table(server, tmp_path):
    server.files["/table.txt"] = b"<html>Sign in</html>"
    with pytest.raises(DownloadError, match="it begins with b'<html>Sig', and the source's with 'FamilyID '"):
        fetch(source(server, names=["table.txt"], checksums="", begins="FamilyID "), tmp_path)
