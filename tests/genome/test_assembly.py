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
        (("chrM", "MT", "M", "NC_012920.1", "mitochondrion_genome", "Mito", "MtDNA", "NC_001224.1"), "M"),
        (("chr25", "25", "Chr25", "NC_007136.7", "NC_037352.1"), "25"),
        (("chr01", "Chr1", "1", "CM000663.2", "CP068277.2", "NC_000067.7", "CM000994.3"), "1"),
        (("chrIV", "IV", "NC_001136.10", "NC_003282.8"), "IV"),
        (("chr2L", "2L", "NT_033779.5"), "2L"),
        (("chr1_KI270706v1_random", "KI270706.1"), "KI270706.1"),
        (("chr1_gl000191_random", "GL000191.1"), "GL000191.1"),
    ],
)
def test_aliases(names, canonical):
    assert {canonical_name(name) for name in names} == {canonical}


@pytest.mark.parametrize(
    "name", ["NC_060924.1", "NC_060949.1", "NC_000025.1", "NC_000000.1", "NT_187361.1", "chrUn", "c"]
)
def test_other_names_are_their_own(name):
    assert canonical_name(name) == name
