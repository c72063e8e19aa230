"""The catalogue says enough of every file, and lists of checksums are read in each of their forms."""

from __future__ import annotations

import hashlib

import pytest

from kleiber.errors import UnknownContig
from kleiber.genome.sources import SourceFile, catalogue, parse_checksums, select

NAME = "chr21.vcf.gz"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("name", ["../a.gz", "/etc/a", "a/b", "..", ".hidden", ""])
def test_no_name_leaves_its_folder(name):
    with pytest.raises(AssertionError, match="could leave its folder"):
        SourceFile(name)
    assert parse_checksums(f"{md5(b'')}  {name}") == {}


@pytest.mark.parametrize(
    "line",
    [
        f"{md5(b'what the file holds')}  ./{NAME}",
        f"{md5(b'what the file holds').upper()} *{NAME}",
        f"{NAME}\t150\t{md5(b'what the file holds')}",
        f"{NAME} {md5(b'what the file holds')}",
    ],
)
def test_lists_of_checksums(line):
    listed = parse_checksums(f"# a list\n\n{line}\n{md5(b'x')}  ./deeper/{NAME}\n")
    assert {name: file.digest for name, file in listed.items()} == {NAME: ("md5", md5(b"what the file holds"))}
    assert listed[NAME].size == (150 if "150" in line else 0)
    assert parse_checksums(f"{'a' * 64}  {NAME}")[NAME].digest == ("sha256", "a" * 64)


def test_contigs_by_any_name():
    panel, table = catalogue()["1000G-30x-phased"], catalogue()["1000G-samples"]
    chosen = [file.contig for _, file in select([panel, panel, table], ["21", "NC_000023.11"])]
    assert chosen == ["chr21", "chrX", ""]
    with pytest.raises(UnknownContig, match=r"'chrY' in 1000G-30x-phased"):
        select([panel], ["chrY"])


def test_the_catalogue():
    sources = catalogue()
    assert len(sources) == 6
    contigs = [f"chr{name}" for name in (*range(1, 23), "X")]
    for name in ("1000G-30x-phased", "1000G-30x-phased-2022"):
        assert [file.contig for file in sources[name].files] == contigs
        assert all(f"_{file.contig}." in file.name or f".{file.contig}." in file.name for file in sources[name].files)
    names = [file.name for source in sources.values() for file in source.files]
    assert len(set(names)) == len(names)
    sums = [file.md5 for source in sources.values() for file in source.files if file.md5]
    assert len(set(sums)) == len(sums) == 25
    for entry in sources.values():
        assert entry.addresses[0].startswith("https://")
        assert all(address.endswith("/") for address in entry.addresses)
        assert entry.licence
        assert entry.terms.startswith("https://")
        assert entry.citation
        assert entry.doi.startswith("10.")
        assert entry.checksums or all(file.begins for file in entry.files)
