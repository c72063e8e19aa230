"""A naive reading of VCF text, line by line and cell by cell, and what the records of any VCF or BCF have to be."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from oracles.containers import WRAPS, bgzf, unwrapped

CONTIG = "20"
BASES = "ACGTTGCAAC" * 30
WORDS = (
    "0|1",
    "1|0",
    "2|1",
    ".|.",
    "0/1",
    "\t",
    "PASS",
    "<DEL>",
    "END=",
    "SVLEN=",
    "|0|1",
    "\t.\t",
    "GT",
    "GT:DP",
    ",",
    "*",
    "20\t",
    "X\t",
    "\0",
    "POOR",
)

HEADER = (
    "##fileformat=VCFv4.4\n"
    '##FILTER=<ID=PASS,Description="All filters passed">\n'
    '##FILTER=<ID=POOR,Description="Poor">\n'
    f"##contig=<ID={CONTIG},length={len(BASES)}>\n"
    "##contig=<ID=X,length=300>\n"
    '##INFO=<ID=END,Number=1,Type=Integer,Description="Last base">\n'
    '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="Length">\n'
    '##ALT=<ID=DEL,Description="Deletion">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS2\tS3\n"
)
REGULAR = (
    "20\t1\trs1\tA\tC\t.\tPASS\t.\tGT\t0|1\t1|0\t1|1\n"
    "20\t3\t.\tGT\tG,GTT\t50\tPOOR\t.\tGT\t0|0\t1|2\t2|0\n"
    "20\t9\t.\tA\tAC\t.\t.\tEND=9\tGT\t0|1\t0|0\t1|0\n"
    "X\t5\t.\tT\tG\t.\tPASS\t.\tGT\t0|1\t1|0\t1|1\n"
)
IRREGULAR = (
    "20\t1\t.\tA\t.\t.\tPASS\t.\tGT\t0|0\t0|0\t0|0\n"
    "20\t11\t.\tA\tC\t.\tPASS\t.\tGT:DP\t0|1:3\t.|.:0\t1|1\n"
    "20\t20\t.\tC\t<DEL>\t.\tPASS\tEND=30\tGT\t0|1\t1|0\t0|0\n"
    "20\t40\t.\tC\tG,*\t.\tPASS\t.\tGT\t0/1\t1\t0|2\n"
    "20\t50\t.\tC\t<DEL>,G\t.\tPASS\tSVLEN=-5,.\tGT:DP\t|0|1:3\t.\t/2:4\n"
    "20\t60\t.\tC\tG\t.\tPASS\t.\tDP\t3\t.\t4\n"
)


@functools.cache
def vcf_seeds() -> list[bytes]:
    """Return the same records as text and as BCF, in every wrapping."""
    text = (HEADER + REGULAR).encode()
    odd = (HEADER + IRREGULAR.replace("\n", "\r\n")).encode()
    binary = as_bcf(HEADER + REGULAR)
    seeds = [bytes([kind]) + contents for contents in (text, odd, binary) for kind in range(3)]
    return [*seeds, b"\3" + bgzf(text, 300), b"\3" + WRAPS[1](odd), b"\0" + as_bcf(HEADER + IRREGULAR)]


def as_bcf(text: str) -> bytes:
    """Return what htslib makes of a VCF: BCF, not compressed."""
    import pysam
    import pysam.bcftools

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "x.vcf", Path(folder) / "x.bcf"
        source.write_text(text)
        # not by pysam's records, which write an END that the text does not have
        pysam.bcftools.view("-Ou", "-o", str(target), str(source), catch_stdout=False)
        with pysam.BGZFile(str(target)) as binary:
            return binary.read()


@functools.cache
def reference(folder: Path):
    """Return the reference of the seeds."""
    from kleiber.genome.reference import Reference

    path = folder / "vcf.fa"
    path.write_text(f">{CONTIG}\n{BASES}\n>X\n{'ACGTT' * 60}\n")
    return Reference.build(path, folder / "vcf-reference")


def check_vcf(data: bytes, folder: Path) -> None:
    """Records are those of a naive reading, carriers are slots that exist, and a panel can be built and read."""
    from kleiber.genome.calls import reading
    from kleiber.genome.panel import Panel, PanelRules
    from kleiber.genome.reference import Region
    from kleiber.genome.vcf import VcfFile

    kind, contents = unwrapped(data)
    path = folder / "x.vcf"
    path.write_bytes((*WRAPS, bytes)[kind & 3](contents))
    source = VcfFile(path)
    how = reading(source.samples, "as-is")
    found = [record for batch in source.batches(how) for record in records_of(*batch, len(source.samples))]
    if not source.is_bcf and kind & 3 < 3:
        assert found == naive_records(contents, len(source.samples))
    if kind & 16:  # a panel takes ten times as long
        return
    shutil.rmtree(folder / "panel", ignore_errors=True)
    rules = PanelRules(unphased="skip", ref_mismatch="skip", sv="del", policy=("bcftools", "edits")[kind >> 2 & 1])
    panel = Panel.build(reference(folder), [path], folder / "panel", rules)
    for contig in panel.contigs:
        for sample in panel.samples[:2]:
            if panel.exists(contig.name, 0, contig.length)[panel.slot(sample, 1)]:
                bases = panel.sequence(sample, 1, Region(contig.name, 0, contig.length), "span")
                assert set(bases.tobytes()) <= set(b"ACGTN")


def records_of(contig: str, text: Any, batch: Any, n_samples: int) -> list[tuple]:
    """Return the records of a batch as tuples; see that every offset lies in the text and every carrier is a slot."""
    n_records, n_alleles, n_carriers, n_copies = (int(n) for n in batch.n)
    assert (np.diff(batch.record[:n_alleles]) >= 0).all()
    assert (batch.position[:n_records] >= 0).all()
    found = []
    at = 0
    for r in range(n_records):
        alleles = []
        while at < n_alleles and batch.record[at] == r:
            low, high = int(batch.carriers_at[at]), int(batch.carriers_at[at + 1])
            assert 0 <= low <= high <= n_carriers
            carriers = batch.carriers[low:high].tolist()
            assert carriers == sorted(set(carriers))
            assert not carriers or (carriers[0] >= 0 and carriers[-1] < 2 * n_samples)
            assert batch.allele[at] == len(alleles) + 1
            alt = cut(text, batch.alt_at[at], batch.alt_len[at])
            alleles.append((alt, carriers, int(batch.stop[at]) if alt.startswith(b"<") else None))
            at += 1
        ref = cut(text, batch.ref_at[r], batch.ref_len[r])
        assert 0 <= batch.n_missing[r] <= 2 * n_samples
        assert 0 <= batch.n_present[r] <= 2 * n_samples
        assert -1 <= batch.unphased[r] < n_samples
        assert (batch.unphased[r] >= 0) == (batch.n_unphased[r] > 0)
        facts = (int(batch.n_present[r]), int(batch.n_missing[r]), int(batch.n_unphased[r]))
        begin = int(batch.copies_at[r])
        assert -1 <= begin <= n_copies - (n_samples if begin >= 0 else 0)
        copies = batch.copies[begin : begin + n_samples].tolist() if begin >= 0 else [2] * n_samples
        found.append((contig, int(batch.position[r]), ref, alleles, bool(batch.passes[r]), *facts, copies))
    assert at == n_alleles
    return found


def cut(text: Any, at: int, length: int) -> bytes:
    """Return a stretch of the text, which has to lie in it."""
    assert length > 0
    assert 0 <= at <= at + length <= len(text)
    return text[at : at + length].tobytes()


def naive_records(contents: bytes, n_samples: int) -> list[tuple]:
    """Return the records of VCF text as `records_of` does."""
    lines = contents.split(b"\n")
    first = next((i for i, line in enumerate(lines) if not line.startswith(b"#")), len(lines))
    return [naive_record(line.rstrip(b"\r"), n_samples) for line in lines[first:] if line.rstrip(b"\r")]


def naive_record(line: bytes, n_samples: int) -> tuple:
    """Return one record: contig, position, REF, ALTs with carriers and ends, passes, counts, copies of each sample."""
    contig, position, _, ref, alt, _, filter_, info, keys, *cells = line.split(b"\t")
    assert len(cells) == n_samples
    alts = [] if alt == b"." else alt.split(b",")
    carriers: list[list[int]] = [[] for _ in alts]
    copies = [0] * n_samples
    has_calls = b"GT" in keys.split(b":")
    present = missing = unphased = 0
    for i, cell in enumerate(cells):
        if not has_calls:
            continue
        fields = [*cell.split(b":"), *[b"."] * keys.count(b":")]
        call = fields[keys.split(b":").index(b"GT")]
        call = call[1:] if call[:1] in (b"|", b"/") else call
        alleles = call.replace(b"/", b"|").split(b"|")
        copies[i] = len(alleles) if set(alleles) != {b"."} else 0
        unphased += b"/" in call and alleles[0] != alleles[-1] and b"." not in alleles
        for slot, allele in enumerate(alleles):
            present += allele != b"."
            missing += allele == b"."
            if allele not in (b".", b"0") and int(allele):
                carriers[int(allele) - 1].append(2 * i + slot)
    end, lengths = re.search(rb"(?:^|;)END=(\d+)", info), re.search(rb"(?:^|;)SVLEN=([^;]*)", info)
    sizes = lengths[1].split(b",") if lengths else []
    sizes = sizes * len(alts) if len(sizes) == 1 else sizes
    stops = [int(position) + len(ref) - 1] * len(alts)
    if end:
        stops = [int(end[1])] * len(alts)
    elif len(sizes) == len(alts):
        spans = [int(size.lstrip(b"-") or 0) if re.fullmatch(rb"-*[0-9]{1,9}", size) else 0 for size in sizes]
        stops = [int(position) + span if span else stop for span, stop in zip(spans, stops, strict=True)]
    return (
        contig.decode("utf-8", "replace"),
        int(position),
        ref,
        [
            (text, slots, stop if text.startswith(b"<") else None)
            for text, slots, stop in zip(alts, carriers, stops, strict=True)
        ],
        filter_ in (b".", b"PASS"),
        present,
        missing,
        unphased,
        copies,
    )
