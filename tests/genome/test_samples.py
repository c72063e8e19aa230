"""Published tables of samples say the same in all of their formats."""

from __future__ import annotations

import gzip
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import DataError, UnknownName
from kleiber.genome.samples import Sample, founders, of_populations, read_names, read_samples

TABLES = {
    "ped_population.txt": "FamilyID SampleID FatherID MotherID Sex Population Superpopulation\n"
    "F1 M1 0 0 1 GBR EUR\nF1 W1 0 0 2 GBR EUR\nF1 C1 M1 W1 2 GBR EUR\n",
    "all.panel": "sample\tpop\tsuper_pop\tgender\t\t\nM1\tGBR\tEUR\tmale\nW1\tGBR\tEUR\tfemale\nC1\tGBR\tEUR\tfemale\n",
    "igsr.tsv": "Sample name\tSex\tBiosample ID\tPopulation code\tPopulation name\tSuperpopulation code\n"
    "M1\tmale\tS\tGBR\tBritish\tEUR\nW1\tfemale\tS\t\tGBR\tEUR\r\nC1\tfemale\tS\tGBR\tBritish\tEUR\n",
    "g1k.ped": "Family ID\tIndividual ID\tPaternal ID\tMaternal ID\tGender\tPhenotype\tPopulation\n"
    "F1\tM1\t0\t0\t1\t0\tGBR\nF1\tW1\t0\t0\t2\t0\tGBR\nF1\tC1\tM1\tW1\t2\t0\tGBR\n",
    "p.fam": "F1 M1 0 0 1 -9\nF1 W1 0 0 2 -9\nF1 C1 M1 W1 2 -9\n",
    "p.psam": "##comment\n#FID\tIID\tPAT\tMAT\tSEX\tSuperPop\tPopulation\n"
    "F1\tM1\t0\t0\t1\tEUR\tGBR\nF1\tW1\t0\t0\t2\tEUR\tGBR\nF1\tC1\tM1\tW1\t2\tEUR\tGBR\n",
    "short.psam": "#IID\tSEX\nM1\t1\nW1\t2\nC1\t2\n",
    "p.sample": "ID_1 ID_2 missing sex\n0 0 0 D\nM1 M1 0 1\nW1 W1 0 2\nC1 C1 0 2\n",
    "impute.samples": "sample population group sex\nM1 GBR EUR 1\nW1 GBR EUR 2\nC1 GBR EUR 2\n",
    "list.csv": "sample,sex,population\nM1,M,GBR\nW1,F,GBR\nC1,F,GBR\n",
    "sexes.txt": "M1 male\nW1 female\nC1 F\n",
    "pops.txt": "M1\tGBR\tEUR\nW1\tGBR\tEUR\nC1\tGBR\tEUR\n",
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_published_formats(name, ending, tmp_path):
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(gzip.compress(TABLES[name].encode()) if ending else TABLES[name].encode())
    table = read_samples(path)
    assert list(table) == ["M1", "W1", "C1"]
    full = Sample("C1", "female", "GBR", "EUR", "M1", "W1", "F1")
    for key, value in vars(table["C1"]).items():
        assert value in ("", getattr(full, key)), key
    assert any((s.sex, s.population) != ("", "") for s in table.values())
    if "sex" in TABLES[name].lower() or "gender" in TABLES[name] or name in ("p.fam", "sexes.txt"):
        assert [s.sex for s in table.values()] == ["male", "female", "female"]
    if "GBR" in TABLES[name]:
        assert {s.population for s in table.values()} == {"GBR"}
    if "EUR" in TABLES[name]:
        assert {s.superpopulation for s in table.values()} == {"EUR"}
    if "C1 M1 W1" in TABLES[name].replace("\t", " "):
        assert (table["C1"].father, table["C1"].mother, table["M1"].father) == ("M1", "W1", "")
        assert founders(list(table), table) == ["M1", "W1"]


def test_table_of_the_igsr(shared_data, tmp_path):
    text = lzma.decompress((shared_data / "meta" / "igsr_samples.tsv.xz").read_bytes())
    (tmp_path / "igsr.tsv").write_bytes(text)
    table = read_samples(tmp_path / "igsr.tsv")
    assert len(table) == text.count(b"\n") - (0 if text.endswith(b"\n") else -1) - 1
    members = of_populations(table, {**table}, ["GBR", "AFR"])
    assert len(members["GBR"]) == 107
    assert set(members["AFR"]) == {s for s, entry in table.items() if entry.superpopulation == "AFR"}
    assert table["HG00271"] == Sample("HG00271", "male", "FIN", "EUR")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sample\tsex\nA\tmale\nB\tboy\n", r"line 3: 'boy' is no sex"),
        ("sample sex\nA male\nA female\n", r"line 3: 'A' is another than in line 2"),
        ("sample\tsex\nA\n", r"line 2: 1 columns, and the table has more"),
        ("sample\tsex\n\tmale\n", r"line 2: no sample"),
        ("A male\nB GBR\n", "is no table of samples"),
        ("A\nB\n", "is no table of samples"),
        ("\n\n", "is empty"),
        ("#IID\tSEX\n", "has a header and no sample"),
    ],
)
def test_what_is_no_table(text, wanted, tmp_path):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(DataError, match=wanted):
        read_samples(tmp_path / "t.txt")
    with pytest.raises(DataError, match="no file"):
        read_samples(tmp_path / "absent")
    (tmp_path / "t.bin").write_bytes(bytes(range(128, 256)))
    with pytest.raises(DataError, match="is no table"):
        read_samples(tmp_path / "t.bin")


def test_names_and_populations(tmp_path):
    (tmp_path / "names").write_text("B extra\nA\nB\n")
    assert read_names(tmp_path / "names") == ("B", "A")
    table = {n: Sample(n, "", p, "EUR") for n, p in (("A", "GBR"), ("B", "FIN"), ("C", "TSI"))}
    assert of_populations(["A", "B"], table, ["FIN"]) == {"FIN": ["B"]}
    assert of_populations(["A", "B"], table, ["EUR"]) == {"EUR": ["A", "B"]}
    with pytest.raises(UnknownName, match=r"population 'GBX'[^?]*'GBR'"):
        of_populations(["A", "B"], table, ["GBX"])
    with pytest.raises(DataError, match=r"None of the panel's 2 samples is of the population 'TSI'"):
        of_populations(["A", "B"], table, ["TSI"])
    with pytest.raises(DataError, match=r"A is of the populations 'EUR' and 'GBR'"):
        of_populations(["A", "B"], table, ["EUR", "GBR"])
    with pytest.raises(DataError, match=r"lacks 'D' and 1 more of the panel's 3"):
        of_populations(["A", "D", "E"], table, ["GBR"])


def test_nobody_is_his_own_ancestor():
    table = {"A": Sample("A", father="B"), "B": Sample("B", father="A")}
    with pytest.raises(DataError, match="an ancestor of itself"):
        founders(["A", "B"], table)


@given(st.integers(1, 14).flatmap(lambda n: st.lists(st.tuples(st.integers(-4, n), st.integers(-4, n)), min_size=n)))
def test_founders_are_unrelated_and_none_can_be_added(parents):
    """Parents stand before children, so that there is no loop; negative numbers are people outside of the table."""

    def name(parent: int, i: int) -> str:
        return f"out{-parent}" if -4 < parent < 0 else f"S{parent}" if 0 <= parent < i else ""

    table = {f"S{i}": Sample(f"S{i}", father=name(a, i), mother=name(b, i)) for i, (a, b) in enumerate(parents)}

    def line(sample: str) -> set[str]:
        entry = table.get(sample, Sample(sample))
        return {sample}.union(*(line(parent) for parent in (entry.father, entry.mother) if parent))

    kept = founders(list(table), table)
    lines = {s: line(s) for s in table}
    assert not any(lines[a] & lines[b] for a in kept for b in kept if a != b)
    assert all(any(lines[s] & lines[k] for k in kept) for s in table if s not in kept)
