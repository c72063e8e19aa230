"""Bytes of plain, gzipped and bgzipped files in large pieces, every block checked.

A BGZF file is a chain of small gzip members whose sizes stand in their headers, so that libdeflate can inflate each in
one call, four times as fast as zlib streams; each block's CRC-32 and length are compared. A file without the empty last
block was cut between two blocks, and would read as a shorter panel: it is an error. Rejected: Python's ``gzip``, which
is slower than everything behind it, and is kept for plain gzip only.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kleiber.errors import DataError

try:
    from deflate import DeflateError, crc32, deflate_decompress

    _INFLATE_ERRORS: tuple[type[Exception], ...] = (DeflateError, ValueError, MemoryError)
except ImportError:  # libdeflate is for speed alone
    from zlib import crc32  # type: ignore[assignment]

    _INFLATE_ERRORS = (zlib.error,)

    def deflate_decompress(data: bytes, originalsize: int) -> bytes:  # type: ignore[misc]
        return zlib.decompress(data, -15, originalsize)


__all__ = ["damaged", "is_bgzf", "pieces"]

LARGEST = 1 << 16  # bytes of a block's contents, by the format
PIECE = 1 << 20  # bytes of text handed on at a time: larger ones cost page faults
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def damaged(path: Path, why: object) -> DataError:
    """Return the error of a file that cannot be read to its end."""
    return DataError(f"{path} is cut short or damaged: {why}.\n  Fetch it again and compare its size and checksum.")


def is_bgzf(path: Path) -> bool:
    """Say whether a file begins with a BGZF block."""
    with open(path, "rb") as file:
        head = file.read(18)
    return len(head) == 18 and head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC"


def pieces(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the contents of a file, inflated, in pieces of about a megabyte.

    Parameters
    ----------
    start
        The byte of the contents to begin with; blocks of BGZF before it are stepped over, not inflated.

    Raises
    ------
    DataError
        When the file is missing, cut short or damaged.
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(2)
            file.seek(0)
            if is_bgzf(path):
                yield from _bgzf(path, file, start)
            elif magic == b"\x1f\x8b":
                with gzip.open(file, "rb") as text:
                    text.seek(start)
                    while piece := text.read(PIECE):
                        yield piece
            else:
                file.seek(start)
                while piece := file.read(PIECE):
                    yield piece
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except PermissionError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
        raise damaged(path, error) from None


def _bgzf(path: Path, file: BinaryIO, start: int) -> Iterator[bytes]:
    """Inflate block after block: header, deflate stream, CRC-32 and length of its contents."""
    held: list[bytes] = []
    size, wanted, number = 0, 1, 0
    while head := file.read(18):
        number += 1
        if len(head) < 18 or head[:4] != END[:4] or head[12:14] != b"BC":
            raise damaged(path, f"block {number} has no BGZF header")
        extra = int.from_bytes(head[10:12], "little")
        length = int.from_bytes(head[16:18], "little") + 1
        if length < extra + 20:
            raise damaged(path, f"block {number} claims {length} bytes, and its header alone has {extra + 12}")
        block = file.read(length - 18)
        if len(block) < length - 18:
            raise damaged(path, f"it ends inside block {number}")
        wanted = int.from_bytes(block[-4:], "little")
        if wanted > LARGEST:
            raise damaged(path, f"block {number} claims to hold {wanted:,} bytes, and {LARGEST:,} are the most")
        if 0 < wanted <= start:
            start -= wanted
            continue
        try:
            text = bytes(deflate_decompress(block[extra - 6 : -8], wanted)) if wanted else b""
        except _INFLATE_ERRORS as error:
            raise damaged(path, f"block {number}: {error}") from None
        if len(text) != wanted or crc32(text) != int.from_bytes(block[-8:-4], "little"):
            raise damaged(path, f"block {number} does not have the checksum that it names")
        held.append(text[start:])
        size += wanted - start
        start = 0
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    if wanted:
        raise damaged(path, "the end marker of bgzip is missing")
    if size:
        yield b"".join(held)
