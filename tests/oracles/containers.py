"""Bytes wrapped as a plain, gzipped or bgzipped file, with every length and checksum right: damage goes inside.

And what all checks of parsers share: to be refused in words is right, and any other error is not.
"""

from __future__ import annotations

import functools
import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from kleiber.errors import KleiberError

BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzf_block(contents: bytes, claimed: int | None = None) -> bytes:
    """Return one block, which may claim another length of its contents than they have."""
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(contents) + packer.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\6\0BC\2\0" + struct.pack("<H", len(body) + 25)
    size = len(contents) if claimed is None else claimed
    return head + body + struct.pack("<II", zlib.crc32(contents), size)


def bgzf(contents: bytes, block: int = 200) -> bytes:
    """Return a bgzipped file of small blocks."""
    parts = (contents[at : at + block] for at in range(0, len(contents), block))
    return b"".join(map(bgzf_block, parts)) + BGZF_END


WRAPS = (bytes, lambda contents: gzip.compress(contents, mtime=0), bgzf)


def unwrapped(data: bytes) -> tuple[int, bytes]:
    """Return which of several kinds the first byte of `data` asks for, and what follows."""
    return data[0] if data else 0, data[1:]


def refusing(check: Callable[[bytes, Path], None]) -> Callable[[bytes, Path], bool]:
    """Return a check that says whether the parser took the bytes."""

    @functools.wraps(check)
    def checked(data: bytes, folder: Path) -> bool:
        try:
            check(data, folder)
        except KleiberError as error:
            words = str(error)
        else:
            return True
        assert words, "an error without words"
        return False

    return checked
