"""How many haplotypes a sample has is what its calls say, in any species, slice and notation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.errors import ConfigError, DataError
from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.ploidy import absences, pseudo_autosomal, read_sexes
from kleiber.genome.reference import Reference, Region

LENGTH = 400
BASES = "ACGTTGCAAC" * (LENGTH // 10)


def build(folder: Path, calls: dict[str, list[tuple[int, str]]], contig="chr1", as_bcf=False, declared=LENGTH, **more):
    """Build a panel from (position, genotype) by sample; where a sample has none it is missing."""
    folder.mkdir(exist_ok=True)
    (folder / "r.fa").write_text(f">{contig}\n{BASES}\n>chr2\n{BASES}\n")
    positions = sorted({position for each in calls.values() for position, _ in each})
    lines = [
        "##fileformat=VCFv4.3",
        f"##contig=<ID={contig},length={declared}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *calls]),
    ]
    for position in positions:
        ref = BASES[position - 1]
        alt = "A" if ref != "A" else "C"
        cells = [dict(each).get(position, ".") for each in calls.values()]
        lines.append("\t".join([contig, str(position), ".", ref, alt, ".", ".", ".", "GT", *cells]))
    path = folder / "p.vcf"
    path.write_text("\n".join(lines) + "\n")
    if as_bcf:
        path = folder / "p.bcf"
        pysam.bcftools.view("-Ob", "-o", str(path), str(folder / "p.vcf"), catch_stdout=False)
    return Panel.build(Reference.build(folder / "r.fa", folder / "r"), [path], folder / "p", **more)


def slot_1(panel: Panel, contig: str, sample: str) -> list[tuple[int, int]]:
    """Return where a sample has a second haplotype, 0-based half-open."""
    number = panel.slot(sample, 1)
    return [s for stretches, slots in panel.stretches(contig, 0, LENGTH) if slots[number] for s in stretches]


@pytest.mark.parametrize("as_bcf", [False, True])
@pytest.mark.parametrize("missing", [".", "./.", ".|."])
def test_a_missing_call_says_nothing(missing, as_bcf, tmp_path):
    panel = build(tmp_path, {"A": [(20, "0|1"), (60, missing), (100, "1|1")], "B": [(20, missing)]}, as_bcf=as_bcf)
    assert panel.exists("chr1", 0, LENGTH).all()
    corpus = open_corpus(panel.reference, panel, CorpusConfig("pangenome", 20, contigs=("chr1",)), 1)
    assert corpus.describe()["n_haplotypes"] == 4


@pytest.mark.parametrize("as_bcf", [False, True])
@pytest.mark.parametrize("contig", ["chrX", "X", "chr7", "chrZ"])
def test_a_region_in_which_males_are_diploid(contig, as_bcf, tmp_path):
    """At the beginning or the end of a contig of any species, whatever its name; what is between calls is shared."""
    calls = {
        "M": [(10, "0|1"), (90, "1|0"), (200, "1"), (250, "0")],
        "W": [(30, "1"), (80, "0"), (200, "0|1")],
        "F": [(10, "0|1"), (200, "1|1")],
    }
    panel = build(tmp_path, calls, contig, as_bcf)
    assert slot_1(panel, contig, "M") == [(0, 144)]
    assert slot_1(panel, contig, "W") == [(139, LENGTH)]
    assert slot_1(panel, contig, "F") == [(0, LENGTH)]
    with pytest.raises(ConfigError, match=rf"M has no slot 1 on {contig}:145-260"):
        panel.sequence("M", 1, Region(contig, 100, 260))
    told = build(tmp_path / "told", calls, contig, as_bcf, sexes={"M": "male", "W": "male", "F": "female"})
    for sample in calls:
        assert slot_1(told, contig, sample) == slot_1(panel, contig, sample)


def test_one_haploid_call_takes_no_haplotype_elsewhere(tmp_path):
    panel = build(tmp_path, {"A": [(10, "0|1"), (30, "1"), (60, "0|1")]})
    assert slot_1(panel, "chr1", "A") == [(0, 19), (44, LENGTH)]
    assert "1 samples have haploid calls" in panel.manifest["contigs"][0]["warning"]


runs = st.lists(st.tuples(st.integers(1, LENGTH), st.sampled_from(["0|1", "1|1", "1", "0", ".", "./.", ".|1"])))


@given(st.lists(runs, min_size=1, max_size=3))
@settings(max_examples=25)
def test_every_base_has_as_many_haplotypes_as_the_nearest_call_says(tmp_path_factory, drawn):
    calls = {f"S{i}": [*dict(each).items()] for i, each in enumerate(drawn)}
    calls["S0"] = calls["S0"] or [(1, "0|1")]
    panel = build(tmp_path_factory.mktemp("p"), calls)
    exists = np.stack([panel.exists("chr1", at, at + 1) for at in range(LENGTH)])
    for sample, each in calls.items():
        said = {at - 1: 1 + ("|" in call) for at, call in each if set(call) - set(".|/")}
        for at in range(LENGTH):
            assert exists[at, panel.slot(sample, 0)]
            distance = min((abs(at - each) for each in said), default=0)
            nearest = {n for place, n in said.items() if abs(at - place) == distance} or {2}
            if len(nearest) == 1:
                assert exists[at, panel.slot(sample, 1)] == (nearest == {2}), (sample, at)
    count_windows(panel, exists)


def count_windows(panel: Panel, exists: np.ndarray, window: int = 25) -> None:
    """See that U and A are what enumeration over the stretches of every slot finds."""
    corpus = open_corpus(panel.reference, panel, CorpusConfig("variant", window, contigs=("chr1",)), 1)
    sizes = [0, 0]
    for slot in range(panel.n_slots):
        whole = None
        for start in range(LENGTH - window + 1):
            if exists[start : start + window, slot].all():
                whole = panel.sequence(panel.samples[slot // 2], slot % 2, Region("chr1", start, start + window))
                sizes[0] += 1
                sizes[1] += whole.tobytes().decode() != BASES[start : start + window]
    facts = corpus.describe()
    assert [facts["n_windows"], facts["n_variant_windows"]] == sizes
    if sizes[1]:
        for index in range(20):
            where = corpus.explain(index)
            slot = panel.slot(where["sample"], where["slot"])
            assert exists[where["start"] - 1 : where["start"] - 1 + window, slot].all()


X38, PAR = 156_040_895, (10_000, 2_781_479)


def absent(contig: str, length: int, runs: list[list[int]], sexes=None, declared=None, n=1, heterozygous=()):
    pars = pseudo_autosomal(contig, length, declared)
    samples = [f"S{i}" for i in range(n)]
    marked = np.isin(np.arange(n), heterozygous)
    rows = np.array(runs, np.int64).reshape(-1, 4)
    found, warning = absences(contig, length, pars, samples, rows, np.zeros(n, bool), marked, sexes)
    return {slot: stretches for stretches, slots in found for slot in slots}, warning


def test_known_regions_of_x_end_where_they_end():
    """The border between a diploid and a haploid call is that of the region, and a slice has it by its header."""
    calls = [[0, 2, 50_000, 2_000_000], [0, 1, 4_000_000, 155_000_000]]
    end = ((2_781_479, 155_701_382), (156_030_895, X38))
    assert absent("chrX", X38, calls)[0] == {1: end}
    assert absent("chrX", 5_000_000, [calls[0], [0, 1, 4_000_000, 4_100_000]], declared=X38)[0] == {
        1: ((2_781_479, 5_000_000),)
    }
    haploid = [[0, 1, 3_000_000, 155_000_000]]  # a file without the regions: nobody is haploid in them
    assert absent("X", X38, haploid)[0] == {1: ((0, 10_000), *end)}
    assert absent("chr8", X38, haploid)[0] == {1: ((0, X38),)}


def test_a_table_of_sexes_adds():
    diploid = [[0, 2, 20_000, 150_000_000]]
    outside = ((0, 10_000), (2_781_479, 155_701_382), (156_030_895, X38))
    assert absent("chrX", X38, diploid)[0] == {}
    assert "no sexes are given" in absent("chrX", X38, diploid)[1]
    assert absent("chrX", X38, diploid, {"S0": "male"})[0] == {1: outside}
    assert absent("chrX", X38, diploid, {"S0": "female"})[0] == {}
    assert absent("chrX", X38, diploid, {"S0": "unknown"})[0] == {}
    assert absent("chrX", 300, [[0, 2, 5, 200]], {"S0": "male"})[0] == {1: ((0, 300),)}
    assert "heterozygous" in absent("chrX", 300, [[0, 2, 5, 200]], {"S0": "male"}, heterozygous=[0])[1]
    two = [[0, 1, 5, 20], [0, 2, 100, 200]]  # the calls tell the region of a species that nobody listed
    assert absent("X", 300, two, {"S0": "male"}) == absent("X", 300, two)
    with pytest.raises(DataError, match="lacks 'S0'"):
        absent("X", 300, two, {"S1": "male"})


def test_y_and_the_mitochondrion():
    whole = ((0, 300),)
    calls = [[0, 2, 5, 200]]
    assert absent("chrM", 300, calls)[0] == {1: whole}
    assert "heterozygous" in absent("MT", 300, calls, heterozygous=[0])[1]
    assert absent("chrY", 300, calls, n=2)[0] == {1: whole, 2: whole, 3: whole}  # who has no call has no Y
    assert absent("chrY", 300, calls, {"S0": "male", "S1": "male"}, n=2)[0] == {1: whole, 3: whole}
    assert absent("chrY", 300, calls, {"S0": "female"})[0] == {0: whole, 1: whole}


FORMATS = {
    "panel": "sample\tpop\tsuper_pop\tgender\nM1\tGBR\tEUR\tmale\nF1\tGBR\tEUR\tfemale\n",
    "igsr": "Sample name\tSex\tBiosample ID\tPopulation code\nM1\tmale\tx\tGBR\nF1\tfemale\ty\tGBR\n",
    "pedigree of 1000 Genomes": "FamilyID SampleID FatherID MotherID Sex Population\nF M1 0 0 1 ACB\nF F1 0 0 2 ACB\n",
    "pedigree": "Family ID\tIndividual ID\tPaternal ID\tMaternal ID\tGender\nf\tM1\t0\t0\t1\nf\tF1\t0\t0\t2\n",
    "fam": "0 M1 0 0 1 -9\n0 F1 0 0 2 -9\n0 U1 0 0 0 -9\n",
    "psam": "##x\n#FID\tIID\tPAT\tMAT\tSEX\nf\tM1\t0\t0\t1\nf\tF1\t0\t0\t2\nf\tU1\t0\t0\tNA\n",
    "psam of 1000 Genomes": "#IID SEX SuperPop Population\nM1 1 EUR GBR\nF1 2 EUR GBR\n",
    "bare": "M1 M\nF1 F\n",
    "csv": "\ufeffsample,sex\nM1,male\nF1,female\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_tables_of_sexes(name, tmp_path):
    (tmp_path / "t").write_text(FORMATS[name], encoding="utf-8")
    found = read_sexes(tmp_path / "t")
    assert {key: found[key] for key in ("M1", "F1")} == {"M1": "male", "F1": "female"}
    assert found.get("U1", "unknown") == "unknown"


@pytest.mark.parametrize(
    ("text", "message"),
    [("A male\nB x\n", "line 2"), ("A male\nA F\n", "A is female here, and male above"), ("A\n", "line 1")],
)
def test_tables_of_sexes_that_say_nothing(text, message, tmp_path):
    (tmp_path / "t").write_text(text)
    with pytest.raises(DataError, match=message):
        read_sexes(tmp_path / "t")


@pytest.mark.parametrize("as_bcf", [False, True])
def test_unphased_heterozygotes_by_chance(as_bcf, tmp_path):
    """Both orders come up, the seed decides, and neither the format nor who else is read does."""
    sites = [(10 * k + 1, "0/1") for k in range(39)]
    calls = {"A": sites, "B": sites}

    def orders(name: str, seed: int, **more) -> dict[str, list[bool]]:
        rules = PanelRules(unphased="random", seed=seed)
        panel = build(tmp_path / name, calls, as_bcf=as_bcf and name != "text", rules=rules, **more)
        n = 39 * len(panel.samples)
        assert panel.manifest["contigs"][0]["counts"]["unphased"] == n
        assert panel.manifest["contigs"][0]["counts"]["calls"] == n
        whole = Region("chr1", 0, LENGTH)
        return {
            sample: [panel.sequence(sample, 0, whole)[at - 1] != ord(BASES[at - 1]) for at, _ in sites]
            for sample in panel.samples
        }

    first = orders("one", 1)
    assert first == orders("text", 1)
    assert first["B"] == orders("alone", 1, samples=["B"])["B"]
    assert first["A"] != first["B"] != orders("two", 2)["B"]
    assert 8 < sum(first["A"]) < 31
