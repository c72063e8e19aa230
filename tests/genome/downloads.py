"""What the tests of downloads share: a file, an entry of the catalogue that names it, and whether it landed."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from pysam import BGZFile

from kleiber.genome.download import download
from kleiber.genome.fetch import Limits
from kleiber.genome.sources import Source, SourceFile, select

NAME = "chr21.vcf.gz"
HASTY = Limits(timeout=20.0, attempts=3, wait=0.0, longest_wait=2.0)
BYTES = random.Random(7).randbytes(150)
CLOSED = "http://127.0.0.1:9/"  # the port of "discard", at which nothing listens


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


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


def flipped(data: bytes) -> bytes:
    return data[:70] + bytes([data[70] ^ 1]) + data[71:]


def bgzipped(path: Path) -> bytes:
    with BGZFile(str(path), "w") as file:
        file.write(b"##fileformat=VCFv4.2\n" * 1000)
    return path.read_bytes()
