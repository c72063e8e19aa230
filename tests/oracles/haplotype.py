"""A haplotype by hand: the naive twin of `kleiber.genome`, one Python object a base. Slow, short, and independent."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pysam.bcftools


def is_indel(ref: str, alt: str) -> bool:
    """Say whether exactly one allele is empty once the shared prefix and then the shared suffix are cut off."""
    while ref and alt and ref[0] == alt[0]:
        ref, alt = ref[1:], alt[1:]
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    return (ref == "") != (alt == "")


def accepted(records: list[tuple[int, str, str]], policy: str) -> list[tuple[int, str, str]]:
    """Return the records (1-based position, REF, ALT) that one haplotype takes, of those that it carries."""
    taken, frozen, inserted = [], 0, False
    for position, ref, alt in records:
        if policy == "bcftools":
            anchored = is_indel(ref, alt) and ref[0] == alt[0]
            if position <= frozen and (position < frozen or not anchored or inserted):
                continue
            frozen, inserted = position + len(ref) - 1, len(alt) > len(ref)
        else:
            start, end, _ = trimmed(position, ref, alt)
            if start < frozen or (start == frozen and start == end and inserted):
                continue
            frozen, inserted = end, start == end
        taken.append((position, ref, alt))
    return taken


def trimmed(position: int, ref: str, alt: str) -> tuple[int, int, str]:
    """Return (start, end, alternative), 0-based: shared prefix cut first, then shared suffix."""
    start, first = position - 1, ref[0]
    while ref and alt and ref[0] == alt[0]:
        ref, alt, start = ref[1:], alt[1:], start + 1
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    if start == 0 and not ref:  # before the first base of the contig: a longer first base
        return 0, 1, alt + first
    return start, start + len(ref), alt


def haplotype(reference: str, records: list[tuple[int, str, str]], policy: str = "bcftools") -> list[tuple[str, int]]:
    """Return every base of a haplotype with its reference coordinate."""
    cells = [[base] for base in reference]
    for record in accepted(records, policy):
        start, end, alt = trimmed(*record)
        for at in range(start, end):
            cells[at] = []
        for k, base in enumerate(alt):
            cells[min(start + k, end - 1)].append(base)
    return [(base, i) for i, cell in enumerate(cells) for base in cell]


def span(bases: list[tuple[str, int]], start: int, end: int) -> str:
    """Return the bases whose coordinates lie in [start, end)."""
    return "".join(base for base, at in bases if start <= at < end)


def anchored(bases: list[tuple[str, int]], start: int, length: int) -> str | None:
    """Return `length` bases from the first at or after `start`, or None when there are fewer."""
    rest = "".join(base for base, at in bases if at >= start)
    return rest[:length] if len(rest) >= length else None


def marked(
    reference: str, records: list[tuple[int, str, str]], policy: str = "bcftools"
) -> list[tuple[int, bool, bool]]:
    """Return every base as (coordinate, whether an edit wrote it, whether bases are gone right before it)."""
    cells: list[list[tuple[int, str]]] = [[(i, "")] for i in range(len(reference))]
    for record in accepted(records, policy):
        begin, end, alt = trimmed(*record)
        for at in range(begin, end):
            cells[at] = []
        for k in range(len(alt)):
            cells[min(begin + k, end - 1)].append((min(begin + k, end - 1), "edit"))
        if not alt and begin > 0:
            cells[begin - 1].append((begin - 1, "cut"))
    out, cut = [], False
    for at, what in (entry for cell in cells for entry in cell):
        if what == "cut":
            cut = True
            continue
        out.append((at, what == "edit", cut))
        cut = False
    return out


def _shows_edit(window: list[tuple[int, bool, bool]]) -> bool:
    """Say whether bases show an edit: one that it wrote, or both that stand around a deletion."""
    return any(entry[1] for entry in window) or any(entry[2] for entry in window[1:])


def has_edit(
    reference: str, records: list[tuple[int, str, str]], start: int, length: int, policy: str = "bcftools"
) -> bool:
    """Say whether the window of `length` bases from `start` holds an edit."""
    bases = marked(reference, records, policy)
    index = next((i for i, entry in enumerate(bases) if entry[0] >= start), len(bases))
    return _shows_edit(bases[index : index + length])


def span_has_edit(
    reference: str, records: list[tuple[int, str, str]], start: int, end: int, policy: str = "bcftools"
) -> bool:
    """Say whether the bases with coordinates in [start, end) hold an edit."""
    return _shows_edit([entry for entry in marked(reference, records, policy) if start <= entry[0] < end])


def random_panel(seed: int, n_contigs: int = 25, n_samples: int = 2, length: int = 80) -> dict[str, object]:
    """Draw contigs, and records so dense that most collide: SNVs, indels, complex ones, repeated positions."""
    draw = random.Random(seed)
    contigs, records = {}, []
    for c in range(n_contigs):
        name = f"c{c}"
        contigs[name] = reference = "".join(draw.choices("ACGT", k=length))
        position = 1
        while (position := position + draw.choice((0, 0, 1, 1, 2, 3, 5, 9))) <= length - 8:
            ref = reference[position - 1 : position - 1 + draw.choice((1, 1, 1, 2, 3, 5))]
            alts: list[str] = []
            for _ in range(draw.choice((1, 1, 1, 2))):
                tail = "".join(draw.choices("ACGT", k=draw.choice((0, 0, 1, 2, 4))))
                alt = draw.choice((ref[0] + tail, ref + tail, draw.choice("ACGT"), draw.choice("ACGT") + tail, ref[:1]))
                if alt != ref and alt not in alts:
                    alts.append(alt)
            if alts:
                calls = [[draw.randint(0, len(alts)) for _ in range(2)] for _ in range(n_samples)]
                records.append((name, position, ref, alts, calls))
    return {"contigs": contigs, "records": records, "samples": [f"S{i}" for i in range(n_samples)]}


def write_panel(panel: dict, folder: Path) -> tuple[Path, Path]:
    """Write a random panel as a FASTA and an indexed VCF."""
    folder.mkdir(parents=True, exist_ok=True)
    fasta, vcf = folder / "reference.fa", folder / "panel.vcf"
    fasta.write_text("".join(f">{name}\n{bases}\n" for name, bases in panel["contigs"].items()))
    lines = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += [f"##contig=<ID={name},length={len(bases)}>" for name, bases in panel["contigs"].items()]
    lines.append(
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *panel["samples"]])
    )
    for name, position, ref, alts, calls in panel["records"]:
        cells = ["|".join(map(str, call)) for call in calls]
        lines.append("\t".join([name, str(position), ".", ref, ",".join(alts), ".", "PASS", ".", "GT", *cells]))
    vcf.write_text("\n".join(lines) + "\n")
    pysam.tabix_compress(str(vcf), f"{vcf}.gz", force=True)
    pysam.tabix_index(f"{vcf}.gz", preset="vcf", force=True)
    return fasta, Path(f"{vcf}.gz")


def carried(panel: dict, contig: str, sample: int, slot: int) -> list[tuple[int, str, str]]:
    """Return the (position, REF, ALT) that one haplotype of a random panel carries."""
    return [
        (position, ref, alts[calls[sample][slot] - 1])
        for name, position, ref, alts, calls in panel["records"]
        if name == contig and calls[sample][slot]
    ]


def bcftools_consensus(fasta: Path, vcf: Path, sample: str, slot: int) -> dict[str, str]:
    """Return the haplotypes of all contigs as ``bcftools consensus -H`` writes them."""
    text = pysam.bcftools.consensus("-f", str(fasta), "-s", sample, "-H", str(slot + 1), str(vcf))
    found = {}
    for block in text.split(">")[1:]:
        name, *lines = block.splitlines()
        found[name.split()[0]] = "".join(lines).upper()
    return found
