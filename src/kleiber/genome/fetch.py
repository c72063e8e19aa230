"""The bytes of one file from one address, resumed after any cut.

They go to ``NAME.part``; ``NAME.part.json`` beside it says which address they are from, how many there will be, and
the address's validator (ETag or Last-Modified). A resumed request names the validator in If-Range, so that a file that
changed in between begins again; where the caller compares a checksum in the end, a part may be continued without one,
and from another address.

Built on `urllib` of the standard library, which takes proxies from the environment, follows redirects, and hands on
bytes as they come. Rejected: pooch, whose downloads go to a file of a random name and cannot be resumed, so that only
its comparison of hashes would be left; and requests, which inflates what a server labels ``Content-Encoding: gzip``,
as some do with every ``.gz``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from threading import Event
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from kleiber import __version__
from kleiber.errors import Stopped
from kleiber.storage import write_atomic

__all__ = ["PATIENCE", "AddressError", "Limits", "Transfer", "discard", "held", "size_at"]

CHUNK = 1 << 18
PASSING = {408, 425, 429, 500, 502, 503, 504}  # these may be better in a while


@dataclass(frozen=True)
class Limits:
    """How long to be patient with an address.

    Attributes
    ----------
    timeout
        Seconds without a byte.
    attempts
        How often in a row nothing new may come.
    wait
        Seconds before the second attempt; each further wait is twice as long.
    longest_wait
        Seconds that a server may ask for (Retry-After); an address that wants more is given up.
    """

    timeout: float = 30.0
    attempts: int = 4
    wait: float = 1.0
    longest_wait: float = 120.0


PATIENCE = Limits()


class AddressError(Exception):
    """An address does not give the file, and will not; `is_reached` when something answered there."""

    def __init__(self, reason: str, is_reached: bool = True):
        super().__init__(reason)
        self.is_reached = is_reached


class _Again(Exception):
    """An attempt failed and another may not; the server may have said how long to wait."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


class _NotThatLong(_Again):
    """The file ends before the bytes that were asked for."""


class _Redirects(HTTPRedirectHandler):
    """Follow up to ten redirects, never from an encrypted address to an open one."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            fp.close()
            raise AddressError(f"it leads from https to {newurl}, which is not encrypted")
        again = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if again is not None:
            again.method = req.get_method()  # a question for the size stays one
        return again


_opener = build_opener(_Redirects)
_opener.addheaders = [("User-Agent", f"kleiber/{__version__}")]


@dataclass(frozen=True)
class Transfer:
    """The bytes of one address, brought into a part that may hold some of them.

    Attributes
    ----------
    part
        Where the bytes go; they stay there, whatever happens.
    size
        Bytes that the file has; 0 when unknown.
    is_checked
        Whether the caller compares a checksum in the end, so that bytes of unknown origin may be continued.
    stop
        Ends the transfer when it is set.
    moved
        Told the bytes held and their total (0 when unknown).
    """

    address: str
    part: Path
    size: int = 0
    is_checked: bool = False
    limits: Limits = PATIENCE
    stop: Event = field(default_factory=Event)
    moved: Callable[[int, int], None] = lambda n_bytes, total: None

    def run(self) -> None:
        """Bring all bytes, going on after every cut as long as something new comes.

        Raises
        ------
        AddressError
            When the address does not give the file.
        Stopped
            When `stop` was set.
        """
        most, failures, is_reached = held(self.part), 0, False
        while True:
            try:
                return self._attempt()
            except AddressError as error:
                if error.is_reached or not is_reached:
                    raise
                reason, wait = str(error), 0.0
            except _Again as again:
                is_reached, reason, wait = True, str(again), again.wait
            failures = 1 if held(self.part) > most else failures + 1
            most = max(most, held(self.part))
            if failures >= self.limits.attempts:
                raise AddressError(f"{reason} ({failures} times in a row)")
            if wait > self.limits.longest_wait:
                raise AddressError(f"{reason} and asks to come back in {wait:,.0f} s")
            self.stop.wait(max(wait, self.limits.wait * 2 ** (failures - 1)))
            self._heed_stop()

    def _attempt(self) -> None:
        """Ask once for what is missing, and write what comes."""
        known = _state(self.part, self.address)
        offset = held(self.part) if known or self.is_checked else 0
        total = self.size or known.get("size", 0)
        if offset and offset == total:
            return
        request = Request(self.address)
        if offset and not (total and offset > total):
            request.add_header("Range", f"bytes={offset}-")
            if known:
                request.add_header("If-Range", known["validator"])
        try:
            response = _open(request, self.limits.timeout)
        except _NotThatLong as error:
            discard(self.part)  # it has fewer bytes than are here: another file
            raise _Again(str(error)) from None
        with response:
            offset, total = self._extent(response, offset, known)
            validator = _validator(response) or (known["validator"] if known and offset else "")
            if not offset:
                discard(self.part)
            write_atomic(
                _state_file(self.part),
                json.dumps({"address": self.address, "size": total, "validator": validator}),
            )
            self._write(response, offset, total)

    def _extent(self, response: HTTPResponse, offset: int, known: dict[str, Any]) -> tuple[int, int]:
        """Return where the bytes of an answer belong, and the total (0 when unknown)."""
        if response.status == 200:
            offset, total = 0, _number(response.headers["Content-Length"])
        elif response.status == 206 and offset:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers["Content-Range"] or "")
            is_changed = known and _validator(response) not in ("", known["validator"])
            if not match or int(match[1]) != offset or is_changed:
                discard(self.part)
                raise _Again("it does not go on with the file where that was cut")
            total = _number(match[2])
        else:
            raise AddressError(f"it answers {response.status} {response.reason}")
        if self.size and total and total != self.size:
            raise AddressError(f"it has {total:,} bytes, and the file has {self.size:,}")
        return offset, total or self.size

    def _write(self, response: HTTPResponse, offset: int, total: int) -> None:
        """Append an answer to the part, to its end."""
        with open(self.part, "ab") as file:
            while not total or offset < total:
                self._heed_stop()
                try:
                    piece = response.read1(min(CHUNK, total - offset) if total else CHUNK)
                except (OSError, HTTPException) as error:
                    raise _Again(_broken(error)) from None
                if not piece:
                    break
                file.write(piece)
                offset += len(piece)
                self.moved(offset, total)
        if offset < total:
            raise _Again(f"it ended after {offset:,} of {total:,} bytes")

    def _heed_stop(self) -> None:
        if self.stop.is_set():
            raise Stopped("The download was stopped, and what has come is kept.\n  The same command goes on.")


def held(part: Path) -> int:
    """Return the bytes that a part holds."""
    return part.stat().st_size if part.exists() else 0


def discard(part: Path) -> None:
    """Remove a part and what is known of it."""
    _state_file(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def size_at(address: str, limits: Limits = PATIENCE) -> int:
    """Return the size that an address tells, or 0 when it tells none.

    Raises
    ------
    AddressError
        When the address does not give the file.
    """
    try:
        with _open(Request(address, method="HEAD"), limits.timeout) as response:
            return _number(response.headers["Content-Length"])
    except _Again:
        return 0


def _open(request: Request, timeout: float) -> HTTPResponse:
    """Send a request; every failure becomes an `AddressError` or an `_Again`."""
    try:
        return _opener.open(request, timeout=timeout)
    except HTTPError as error:
        with error:
            reason = f"it answers {error.code} {error.reason}".splitlines()[0]
            wait = _retry_after(error.headers["Retry-After"])
        if error.code == 416:
            raise _NotThatLong(reason) from None
        if error.code in PASSING:
            raise _Again(reason, wait) from None
        raise AddressError(reason) from None
    except URLError as error:
        if isinstance(error.reason, ConnectionResetError | BrokenPipeError):
            raise _Again(_broken(error.reason)) from None
        raise AddressError(f"it cannot be reached: {error.reason}", is_reached=False) from None
    except (OSError, HTTPException) as error:
        raise _Again(_broken(error)) from None


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _state(part: Path, address: str) -> dict[str, Any]:
    """Return what is known of a part from this address that can be resumed safely, or nothing."""
    try:
        state = json.loads(_state_file(part).read_bytes())
        return state if state["address"] == address and state["validator"] else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _validator(response: HTTPResponse) -> str:
    """Return what changes when the file does: a strong ETag, else the date of its last change, else nothing."""
    tag = response.headers["ETag"] or ""
    return tag if tag.startswith('"') else response.headers["Last-Modified"] or ""


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _retry_after(text: str | None) -> float:
    """Return the seconds that a server asks to wait, given as a number or as a date."""
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds() if text else 0.0
    except (ValueError, TypeError):
        return float(_number(text))


def _broken(error: Exception) -> str:
    return f"the connection broke: {str(error) or type(error).__name__}"
