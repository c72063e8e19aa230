"""One contig, many names."""

import pytest

from kleiber.genome.assembly import canonical_name


@pytest.mark.parametrize(
    ("names", "canonical"),
    [
        (("chr20", "20", "CHR20", "NC_000020.10", "NC_000020.11", "NC_060944.1"), "20"),
        (("chr1", "1", "NC_000001.11", "NC_060925.1"), "1"),
        (("chrX", "X", "x", "NC_000023.11", "NC_060947.1"), "X"),
        (("chrY", "Y", "NC_000024.10", "NC_060948.1"), "Y"),
        (("chrM", "MT", "M", "NC_012920.1"), "M"),
    ],
)
def test_aliases(names, canonical):
    assert {canonical_name(name) for name in names} == {canonical}


@pytest.mark.parametrize(
    "name", ["NC_060924.1", "NC_060949.1", "NC_000025.1", "NC_000000.1", "NT_187361.1", "chr23", "c"]
)
def test_other_names_are_their_own(name):
    assert canonical_name(name) == name
