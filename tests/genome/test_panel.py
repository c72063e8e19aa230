"""What a build does with every kind of record and file; stores are complete, checked, and the same however made."""

from __future__ import annotations

import gzip
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pysam
import pysam.bcftools
import pytest

from kleiber.errors import ConfigError, DataError, StateError, UnknownContig, UnknownSample
from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.ploidy import read_sexes
from kleiber.genome.reference import Reference, Region
from kleiber.genome.store import empty_store
from oracles import haplotype as oracle

BASES = "ACGTACGTACGTACGTACGTACGTACGTACGTACGTACGT"
HEADER = "##fileformat=VCFv4.2\n##contig=<ID=c,length=40>\n"


def build(folder: Path, records: list[str], samples: str = "S", rules: PanelRules | None = None, **more) -> Panel:
    """Build a panel on one contig of 40 bases from lines ``POS REF ALT GT…``."""
    (folder / "r.fa").write_text(f">c\n{BASES}\n")
    lines = ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples.split()])]
    for record in records:
        position, ref, alt, *calls = record.split()
        info = calls.pop(0) if calls[0].startswith("END=") else "."
        lines.append("\t".join(["c", position, ".", ref, alt, ".", "PASS", info, "GT", *calls]))
    (folder / "p.vcf").write_text(HEADER + "\n".join(lines) + "\n")
    reference = Reference.build(folder / "r.fa", folder / "r")
    return Panel.build(reference, [folder / "p.vcf"], folder / "p", rules, **more)


def both(panel: Panel, sample: str = "S") -> tuple[str, str]:
    whole = Region("c", 0, 40)
    one, two = (panel.sequence(sample, slot, whole, "span").tobytes().decode() for slot in (0, 1))
    return one, two


def counts(panel: Panel) -> dict[str, int]:
    return {name: n for name, n in panel.manifest["contigs"][0]["counts"].items() if n}


@pytest.mark.parametrize(
    ("records", "slots", "counted"),
    [
        (["2 C G 0|1"], ("", "2CG"), {"calls": 1}),
        (["2 C G,T 1|2"], ("2CG", "2CT"), {"calls": 2}),
        (["2 c g 1|1"], ("2CG", "2CG"), {"calls": 2}),
        (["2 C G .|1"], ("", "2CG"), {"calls": 1, "missing": 1}),
        (["2 C G ./."], ("", ""), {"missing": 2, "monomorphic": 1}),
        (["2 C *,G 1|2"], ("", "2CG"), {"calls": 1, "star": 1}),
        (["2 C <DEL> END=5 1|0"], ("", ""), {"symbolic": 1}),
        (["2 C G[c:30[ 1|0"], ("", ""), {"breakend": 1}),
        (["2 C <NON_REF> 1|0"], ("", ""), {"symbolic": 1}),
        (["2 C R 1|0"], ("", ""), {"other letters": 1}),
        (["2 C N 1|0"], ("2CN", ""), {"calls": 1}),
        (["2 C . 0|0"], ("", ""), {}),
        (["2 C G 1/1"], ("2CG", "2CG"), {"calls": 2}),
        (["2 C CTT 1|0", "2 C G 0|1"], ("2CCTT", "2CG"), {"calls": 2}),
        (["2 CGTA C 1|0"], ("2CGTAC", ""), {"calls": 1}),
    ],
)
def test_every_kind_of_record(records, slots, counted, tmp_path):
    """Expected haplotypes are written as one edit: position, REF and ALT run together."""
    panel = build(tmp_path, records)
    expected = []
    for edit in slots:
        text = BASES
        if edit:
            position, alleles = int(edit[0]), edit[1:]
            ref = "CGTA" if alleles == "CGTAC" else "C"
            text = BASES[: position - 1] + alleles[len(ref) :] + BASES[position - 1 + len(ref) :]
        expected.append(text)
    assert both(panel) == tuple(expected)
    assert counts(panel) == {"records": len(records), **counted}


def test_rules(tmp_path):
    def made(name: str, records: list[str], **rules) -> Panel:
        (tmp_path / name).mkdir()
        return build(tmp_path / name, records, "A B", PanelRules(**rules))

    rare = ["2 C G 1|0 0|0", "10 C T 1|1 1|0"]
    assert counts(made("af", rare, min_af=0.3)) == {"records": 2, "calls": 3, "rare": 1}
    assert counts(made("ac", rare, min_ac=2)) == {"records": 2, "calls": 3, "rare": 1}
    unphased = ["2 C G 0/1 1|0"]
    assert counts(made("skip", unphased, unphased="skip")) == {"records": 1, "calls": 1, "unphased": 1}
    panel = made("as-is", unphased, unphased="as-is")
    assert both(panel, "A") == (BASES, "AG" + BASES[2:])
    deletion = made("sv", ["2 C <DEL> END=5 1|0 0|1"], sv="del")
    assert both(deletion, "A")[0] == "AC" + BASES[5:]
    wrong = made("mismatch", ["2 T G 1|1 1|1", "6 C G 1|0 0|0"], ref_mismatch="skip")
    assert counts(wrong) == {"records": 2, "calls": 1, "ref mismatch": 1}
    with pytest.raises(ConfigError, match="choose one of bcftools, edits"):
        PanelRules(policy="last")
    with pytest.raises(ConfigError, match="min_af"):
        PanelRules(min_af=1.5)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (["2 C G 0/1"], "genotype of S is not phased"),
        (["2 T G 0|1"], r'REF allele disagrees with the reference at c:2 .*\n  VCF has "T", reference has "C"'),
        (["6 C G 0|1", "2 C G 0|1"], "record at c:2: it stands after position 6"),
        (["39 GTAC G 0|1"], "it ends at 42, and the reference is 40 bases long"),
        (["0 C G 0|1"], "record 1: the position '0' is no number from 1"),
        (["2 C G 0|1|1"], "more than two alleles"),
        (["2 C G 0|2"], "names allele 2, and there are 1 ALT alleles"),
        (["2 C G 0|x"], "is none"),
        (["2 C G 0|1 0|1"], "2 genotype columns, and the header names 1 samples"),
    ],
)
def test_records_that_make_no_sense(records, message, tmp_path):
    with pytest.raises(DataError, match=message):
        build(tmp_path, records)
    assert not (tmp_path / "p").exists()


def damaged(kind: str, data: bytes) -> bytes:
    text = gzip.decompress(data).decode()
    if kind == "truncated":
        return data[: len(data) // 2]
    if kind == "cut between blocks":
        return data[:-28]
    if kind == "flipped":
        return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 64]) + data[len(data) // 2 + 1 :]
    if kind == "without header":
        return "".join(line for line in text.splitlines(True) if not line.startswith("#")).encode()
    if kind == "twice the sample":
        return text.replace("\tHG00099\t", "\tHG00097\t", 1).encode()
    if kind == "without samples":
        return "".join("\t".join(line.split("\t")[:8]).rstrip() + "\n" for line in text.splitlines()).encode()
    return b""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "cut short or damaged"),
        ("cut between blocks", "the end marker of bgzip is missing"),
        ("flipped", "cut short or damaged"),
        ("without header", "no header line that starts with #CHROM"),
        ("twice the sample", "names the sample 'HG00097' twice"),
        ("without samples", "holds no genotypes"),
        ("empty", "is no VCF"),
    ],
)
def test_files_that_are_damaged(kind, message, embedded, tmp_path):
    from importlib.resources import files

    source = Path(str(files("kleiber") / "data" / "embedded" / "EUR300.chr20_1-4Mb.vcf.gz"))
    path = tmp_path / "bad.vcf.gz"
    path.write_bytes(damaged(kind, source.read_bytes()))
    with pytest.raises(DataError, match=message):
        Panel.build(embedded[0], [path], tmp_path / "panel")
    assert not (tmp_path / "panel").exists()


def test_a_file_that_is_not_there_and_contigs_that_do_not_meet(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        (tmp_path / "r.fa").write_text(f">c\n{BASES}\n")
        Panel.build(Reference.build(tmp_path / "r.fa", tmp_path / "r"), [tmp_path / "no.vcf"], tmp_path / "p")
    (tmp_path / "r.fa").write_text(f">other\n{BASES}\n")
    (tmp_path / "p.vcf").write_text(HEADER + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n")
    with pytest.raises(DataError, match=r"have no contig in common"):
        Panel.build(Reference.build(tmp_path / "r.fa", tmp_path / "r"), [tmp_path / "p.vcf"], tmp_path / "p")


def test_a_longer_contig_is_another_assembly(tmp_path):
    (tmp_path / "r.fa").write_text(f">c\n{BASES}A\n")
    (tmp_path / "p.vcf").write_text(HEADER + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n")
    with pytest.raises(DataError, match="says that c is 40 bases long; the reference has 41"):
        Panel.build(Reference.build(tmp_path / "r.fa", tmp_path / "r"), [tmp_path / "p.vcf"], tmp_path / "p")


def test_a_shorter_contig_is_a_piece_of_it(tmp_path):
    """A FASTA cut shorter than the header says builds when REF agrees; a record past its end is an error."""
    (tmp_path / "r.fa").write_text(f">c\n{BASES[:20]}\n")
    head = HEADER + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n"
    reference = Reference.build(tmp_path / "r.fa", tmp_path / "r")
    (tmp_path / "p.vcf").write_text(head + "c\t2\t.\tC\tG\t.\t.\t.\tGT\t0|1\n")
    panel = Panel.build(reference, [tmp_path / "p.vcf"], tmp_path / "p")
    assert panel.sequence("S", 1, Region("c", 0, 20), "span").tobytes().decode() == "AG" + BASES[2:20]
    (tmp_path / "q.vcf").write_text(head + "c\t30\t.\tC\tG\t.\t.\t.\tGT\t0|1\n")
    with pytest.raises(DataError, match="it ends at 30, and the reference is 20 bases long"):
        Panel.build(reference, [tmp_path / "q.vcf"], tmp_path / "q")


def test_two_builds_to_one_path(embedded, tmp_path):
    """One of them builds, the other is told; what is there at the end is whole."""
    from importlib.resources import files

    source = Path(str(files("kleiber") / "data" / "embedded"))
    command = [sys.executable, "-m", "kleiber", "panel", "build", "--out", str(tmp_path / "p"), "--reference"]
    command += [str(source / "chr20_1-4Mb.GRCh37.fa.gz"), "--panel", str(source / "EUR300.chr20_1-4Mb.vcf.gz")]
    both_of_them = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(process.communicate()[1], process.returncode) for process in both_of_them]
    assert {code for _, code in ends} <= {0, 2}
    assert any(code == 0 for _, code in ends)
    assert all("is being written by another process" in text for text, code in ends if code)
    assert Panel.open(tmp_path / "p").fingerprint == embedded[1].fingerprint


def arrays(panel: Panel) -> dict[str, str]:
    return {entry["name"]: entry["sha256"] for entry in panel.manifest["contigs"]}


def test_the_same_store_from_every_form_of_a_file(tmp_path):
    """VCF, gzip, BGZF, BCF, CRLF, one file or one a contig, one worker or two."""
    drawn = oracle.random_panel(3, n_contigs=4, n_samples=3)
    fasta, bgzf = oracle.write_panel(drawn, tmp_path)
    reference = Reference.build(fasta, tmp_path / "r")
    text = gzip.decompress(bgzf.read_bytes())
    (tmp_path / "gzip.vcf.gz").write_bytes(gzip.compress(text))
    (tmp_path / "crlf.vcf").write_bytes(text.replace(b"\n", b"\r\n"))
    (tmp_path / "more.vcf").write_bytes(text.replace(b"PASS\t.\tGT\t", b"PASS\t.\tGT:X\t"))
    pysam.bcftools.view("-Ob", "-o", str(tmp_path / "p.bcf"), str(bgzf), catch_stdout=False)
    pysam.bcftools.view("-Ou", "-o", str(tmp_path / "u.bcf"), str(bgzf), catch_stdout=False)
    expected = arrays(Panel.build(reference, [bgzf], tmp_path / "expected"))
    for name in ("panel.vcf", "gzip.vcf.gz", "crlf.vcf", "more.vcf", "p.bcf", "u.bcf"):
        assert arrays(Panel.build(reference, [tmp_path / name], tmp_path / f"from-{name}")) == expected, name
    lines = text.decode().splitlines(True)
    parts = []
    for contig in drawn["contigs"]:
        part = tmp_path / f"{contig}.vcf"
        part.write_text("".join(line for line in lines if line.startswith(("#", f"{contig}\t"))))
        parts.append(part)
    for workers in (1, 2):
        panel = Panel.build(reference, parts, tmp_path / f"parts-{workers}", workers=workers)
        found = {name: [sums for _, sums in sorted(files.items())] for name, files in arrays(panel).items()}
        by_name = {name: [sums for _, sums in sorted(files.items())] for name, files in expected.items()}
        assert found == by_name


def test_chosen_samples_are_as_if_alone(tmp_path):
    drawn = oracle.random_panel(5, n_contigs=2, n_samples=5)
    fasta, vcf = oracle.write_panel(drawn, tmp_path)
    reference = Reference.build(fasta, tmp_path / "r")
    everyone = Panel.build(reference, [vcf], tmp_path / "all")
    chosen = Panel.build(reference, [vcf], tmp_path / "some", samples=["S3", "S1"])
    assert chosen.samples == ("S3", "S1")
    for contig in chosen.contigs:
        region = Region(contig.name, 0, contig.length)
        for sample in chosen.samples:
            for slot in (0, 1):
                expected = everyone.sequence(sample, slot, region, "span")
                np.testing.assert_array_equal(chosen.sequence(sample, slot, region, "span"), expected)
    with pytest.raises(UnknownSample, match="S9"):
        Panel.build(reference, [vcf], tmp_path / "none", samples=["S9"])


def test_windows_fill_a_matrix(embedded):
    _, panel = embedded
    rng = np.random.default_rng(1)
    slots, starts = rng.integers(0, panel.n_slots, 200), rng.integers(1_000_000, 3_900_000, 200)
    out = np.empty((200, 700), np.uint8)
    panel.windows("20", slots, starts, out)
    for row, slot, start in zip(out, slots, starts, strict=True):
        region = Region("20", int(start), int(start) + 700)
        np.testing.assert_array_equal(row, panel.sequence(panel.samples[slot // 2], int(slot % 2), region))
    with pytest.raises(ConfigError, match="has fewer than 700 bases"):
        panel.windows("20", slots[:1], np.array([3_999_900]), out[:1])


def test_what_is_asked_of_a_store(embedded):
    _, panel = embedded
    region = Region("chr20", 2_000_000, 2_000_100)
    assert len(panel.sequence("HG00097", 0, region)) == 100
    with pytest.raises(UnknownSample, match="HG00097"):
        panel.sequence("HG0097", 0, region)
    with pytest.raises(UnknownContig):
        panel.sequence("HG00097", 0, Region("21", 0, 10))
    with pytest.raises(ConfigError, match="not 2"):
        panel.sequence("HG00097", 2, region)
    with pytest.raises(ConfigError, match="lies outside the contig"):
        panel.sequence("HG00097", 0, Region("20", 3_999_990, 4_000_010))


def test_kernels_are_compiled_for_one_kind_of_store(embedded, tmp_path):
    """Mapped, with files that are empty, or without any edit: another type would be compiled anew, in seconds."""
    _, panel = embedded
    sparse = build(tmp_path, ["2 C G 0|1"])
    assert min(len(array) for array in sparse.store("c")) == 0
    kinds = {numba.typeof(store) for store in (panel.store("20"), sparse.store("c"), empty_store(1000))}
    assert len(kinds) == 1


def test_a_store_opens_where_it_is_moved_and_on_its_own_reference_only(tmp_path):
    panel = build(tmp_path, ["2 C G 0|1"])
    moved = tmp_path / "elsewhere" / "store"
    shutil.copytree(panel.path, moved)
    shutil.rmtree(panel.path)
    shutil.rmtree(tmp_path / "r")
    assert both(Panel.open(moved))[1] == "AG" + BASES[2:]
    (tmp_path / "o.fa").write_text(f">c\n{BASES[::-1]}\n")
    with pytest.raises(StateError, match="built on another reference"):
        Panel.open(moved, Reference.build(tmp_path / "o.fa", tmp_path / "o"))
    with pytest.raises(StateError, match="holds no complete panel"):
        Panel.open(tmp_path)


def test_x_has_one_haplotype_in_males(shared_data, tmp_path):
    edge = shared_data / "edge"
    reference = Reference.build(edge / "chrX_mini.GRCh37.fa.gz", tmp_path / "r")
    panel = Panel.build(reference, [edge / "chrX_mini.26samples.haploid_males.bcf"], tmp_path / "p")
    (contig,) = panel.contigs
    exists = panel.exists(contig.name, 0, contig.length).reshape(-1, 2)
    with pysam.VariantFile(str(edge / "chrX_mini.26samples.haploid_males.bcf")) as file:
        haploid = np.zeros(26, bool)
        for record in file:
            haploid |= [len(call["GT"]) == 1 for call in record.samples.values()]
    assert 0 < haploid.sum() < 26
    np.testing.assert_array_equal(exists[:, 1], ~haploid)
    assert exists[:, 0].all()
    male = panel.samples[int(haploid.argmax())]
    with pytest.raises(ConfigError, match=f"{male} has no slot 1"):
        panel.sequence(male, 1, Region(contig.name, 0, 10))


def test_a_table_of_sexes(tmp_path):
    (tmp_path / "sex.tsv").write_text("sample\tpopulation\tsex\nA\tx\tmale\nB\ty\tF\n")
    assert read_sexes(tmp_path / "sex.tsv") == {"A": "male", "B": "female"}
    (tmp_path / "pedigree.txt").write_text("FamilyID SampleID FatherID MotherID Sex\nF1 A 0 0 1\nF2 B 0 0 2\n")
    (tmp_path / "igsr.tsv").write_text("Sample name\tSex\tBiosample ID\nA\tmale\tx\nB\tfemale\ty\n")
    for name in ("pedigree.txt", "igsr.tsv"):
        assert read_sexes(tmp_path / name) == {"A": "male", "B": "female"}
    (tmp_path / "bare.tsv").write_text("A 1\nB 2\n")
    assert read_sexes(tmp_path / "bare.tsv") == {"A": "male", "B": "female"}
    (tmp_path / "bad.tsv").write_text("A\tmale\nB\tunknown\n")
    with pytest.raises(DataError, match="line 2"):
        read_sexes(tmp_path / "bad.tsv")
    (tmp_path / "r.fa").write_text(f">chrX\n{BASES}\n>chrY\n{BASES}\n")
    lines = [f"{c}\t2\t.\tC\tG\t.\t.\t.\tGT\t0|1\t1|1" for c in ("chrX", "chrY")]
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tA\tB\n"
    (tmp_path / "p.vcf").write_text(head + "\n".join(lines) + "\n")
    reference = Reference.build(tmp_path / "r.fa", tmp_path / "r")
    panel = Panel.build(reference, [tmp_path / "p.vcf"], tmp_path / "p", sexes=read_sexes(tmp_path / "sex.tsv"))
    assert panel.exists("chrX", 0, 40).tolist() == [True, False, True, True]
    assert panel.exists("chrY", 0, 40).tolist() == [True, False, False, False]
    without = Panel.build(reference, [tmp_path / "p.vcf"], tmp_path / "q")
    assert "no sexes are given" in without.manifest["contigs"][0]["warning"]
    with pytest.raises(DataError, match="lacks 'B'"):
        Panel.build(reference, [tmp_path / "p.vcf"], tmp_path / "s", sexes={"A": "male"})


def test_a_killed_build_goes_on(embedded, tmp_path):
    """Killed at some moments, it leaves nothing that looks complete, and ends in the same store."""
    from importlib.resources import files

    source = Path(str(files("kleiber") / "data" / "embedded"))
    command = [sys.executable, "-m", "kleiber", "panel", "build", "--out", str(tmp_path / "p"), "--reference"]
    command += [str(source / "chr20_1-4Mb.GRCh37.fa.gz"), "--panel", str(source / "EUR300.chr20_1-4Mb.vcf.gz")]
    for seconds in (0.6, 0.9, 1.2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "p").exists():  # the machine was faster than the signal
            assert Panel.open(tmp_path / "p").damage() == []
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert Panel.open(tmp_path / "p").fingerprint == embedded[1].fingerprint
