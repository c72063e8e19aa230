"""What a FASTA may hold: codes, RNA, blanks and digits; proteins and alignments are refused by their letters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import DataError
from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.reference import Reference, Region, reference_changes

FIRST = {"R": "A", "Y": "C", "S": "C", "W": "A", "K": "G", "M": "A", "B": "C", "D": "A", "H": "A", "V": "A"}


def reference(folder: Path, *bodies: str) -> Reference:
    text = "".join(f">s{i} words\n{body}\n" for i, body in enumerate(bodies))
    (folder / "r.fa").write_bytes(text.encode("latin-1"))
    return Reference.build(folder / "r.fa", folder / "r")


def panel(folder: Path, body: str, records: list[str], rules: PanelRules | None = None) -> Panel:
    """Build a panel of one sample from ``POS REF ALT INFO GT``."""
    head = "##fileformat=VCFv4.4\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n"
    lines = []
    for record in records:
        position, ref, alt, info, call = record.split()
        lines.append("\t".join(["s0", position, ".", ref, alt, ".", ".", info, "GT", call]))
    (folder / "p.vcf").write_text(head + "\n".join(lines) + "\n")
    return Panel.build(reference(folder, body), [folder / "p.vcf"], folder / "p", rules)


def second(store: Panel) -> str:
    (contig,) = store.contigs
    return store.sequence("S", 1, Region("s0", 0, contig.length), "span").tobytes().decode()


@given(st.text("ACGTNacgtnUuRYSWKMBDHVryswkmbdhv 0123456789\t\n", min_size=1))
def test_letters_are_bases_codes_or_between_them(tmp_path_factory, body):
    made = reference(tmp_path_factory.mktemp("f"), body)
    letters = [letter for letter in body.upper() if letter not in " 0123456789\t\n"]
    expected = "".join("T" if x == "U" else x if x in "ACGT" else "N" for x in letters)
    assert made.bases("s0").tobytes().decode() == expected
    at, codes = made.codes("s0")
    assert [(int(i), chr(c)) for i, c in zip(at, codes, strict=True)] == [
        (i, x) for i, x in enumerate(letters) if x in FIRST
    ]
    lower = [x.islower() for x in body if x not in " 0123456789\t\n"]
    masked = np.zeros(len(letters), bool)
    for a, b in made.soft_masked("s0"):
        masked[a:b] = True
    assert masked.tolist() == lower


def test_what_became_of_letters_is_told(tmp_path):
    made = reference(tmp_path, "ACGTMMR NN", "AC GT 60\nuu", "ACGT")
    assert made.changes == {"s0": {"M": 2, "R": 1, "blanks and digits": 1}, "s1": {"blanks and digits": 4}}
    assert reference_changes(made) == [
        "reference: 2 M became N (s0 2)",
        "reference: 1 R became N (s0 1)",
        "reference: 5 blanks and digits were dropped (s1 4, s0 1)",
    ]


@pytest.mark.parametrize("letter", "EFIJLOPQXZefijlopqxz*")
def test_a_protein_is_refused_by_its_letters(letter, tmp_path):
    with pytest.raises(DataError, match=r"r\.fa, sequence s1: letter 3 is .*protein"):
        reference(tmp_path, "ACGT", f"AC{letter}T")


@pytest.mark.parametrize(
    ("letter", "message"), [("-", "a gap of an alignment"), (".", "a gap"), ("@", "no nucleotide"), ("\xe9", "no nucl")]
)
def test_other_letters_are_refused(letter, message, tmp_path):
    with pytest.raises(DataError, match=rf"sequence s0: letter 5 is .*{message}"):
        reference(tmp_path, f"ACGT{letter}T")


@pytest.mark.parametrize("code", FIRST)
def test_ref_is_the_first_of_an_ambiguity_codes_bases(code, tmp_path):
    assert second(panel(tmp_path, f"ACG{code}ACG", [f"4 {FIRST[code]} {'T' * 3} . 0|1"])) == "ACGTTTACG"
    other = next(base for base in "TGCA" if base != FIRST[code])
    for ref in (other, "N"):
        with pytest.raises(DataError, match="REF allele disagrees with the reference at s0:4"):
            panel(tmp_path, f"ACG{code}ACG", [f"4 {ref} {FIRST[code]} . 0|1"])


def test_n_is_n_and_nothing_else(tmp_path):
    assert second(panel(tmp_path, "ACGNACG", ["4 N T . 0|1"])) == "ACGTACG"
    for ref in "ACGT":
        with pytest.raises(DataError, match="disagrees"):
            panel(tmp_path, "ACGNACG", [f"4 {ref} N . 0|1"])


APART = ["<DEL>", "<INS:ME>", "G[s0:3[", "]s0:3]G", "G.", ".G", "<DEL>,<DUP>"]


@pytest.mark.parametrize("alt", APART)
@pytest.mark.parametrize("place", ["4 N", "0 N", "0 A", "8 N", "8 T"])
def test_symbolic_alleles_and_breakends_stand_at_telomeres_and_on_n(alt, place, tmp_path):
    store = panel(tmp_path, "ACGTACG", sorted([f"{place} {alt} . 0|1", "2 C T . 0|1"], key=lambda text: int(text[0])))
    assert second(store) == "ATGTACG"
    counts = store.manifest["contigs"][0]["counts"]
    assert counts["symbolic"] + counts["breakend"] == len(alt.split(","))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("0 N T . 0|1", "position '0'"),
        ("8 T G . 0|1", "it ends at 8"),
        ("9 N <DEL> . 0|1", "it ends at 9"),
        ("4 N G,<DEL> . 0|1", "disagrees"),
        ("4 A <DEL> . 0|1", "disagrees"),
    ],
)
def test_other_alleles_do_not(record, message, tmp_path):
    with pytest.raises(DataError, match=message):
        panel(tmp_path, "ACGTACG", [record])


@pytest.mark.parametrize(
    ("alt", "info", "expected"),
    [
        ("<DEL>", "END=4", "AACG"),
        ("<DEL>", "SVLEN=-3", "AACG"),
        ("<DEL>", "SVLEN=3", "AACG"),
        ("<DEL:ME>", "SVTYPE=DEL;SVLEN=3", "AACG"),
        ("<DEL>", "SVLEN=-1;END=4", "AACG"),
        ("G,<DEL>", "SVLEN=.,-3", "AACG"),
        ("<DEL>", ".", "ACGTACG"),
        ("<DEL>", "END=9", "ACGTACG"),
        ("<DELETED>", "END=4", "ACGTACG"),
        ("<DUP>", "SVLEN=3", "ACGTACG"),
    ],
)
@pytest.mark.parametrize("as_bcf", [False, True])
def test_deletions_end_where_end_or_svlen_says(alt, info, expected, as_bcf, tmp_path):
    import pysam
    import pysam.bcftools

    number = alt.split(",").index("<DEL>") + 1 if "<DEL>" in alt else 1
    rules = PanelRules(sv="del", ref_mismatch="skip")
    store = panel(tmp_path, "ACGTACG", [f"1 A {alt} {info} 0|{number}"], rules)
    if as_bcf:
        head = (
            '##fileformat=VCFv4.4\n##contig=<ID=s0,length=7>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n'
        )
        head += '##INFO=<ID=END,Number=1,Type=Integer,Description="x">\n'
        head += '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="x">\n'
        head += '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="x">\n'
        (tmp_path / "h.vcf").write_text(head + (tmp_path / "p.vcf").read_text().split("\n", 1)[1])
        pysam.bcftools.view("-Ob", "-o", str(tmp_path / "p.bcf"), str(tmp_path / "h.vcf"), catch_stdout=False)
        store = Panel.build(store.reference, [tmp_path / "p.bcf"], tmp_path / "q", rules)
    assert second(store) == expected
