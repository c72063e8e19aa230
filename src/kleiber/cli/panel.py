"""Verbs of haplotype stores: panel build, info, sequence, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

__all__ = ["app", "build", "info", "sequence", "verify"]

app = App(name="panel", help="Build and read haplotype stores.")
Several = Parameter(consume_multiple=True, negative="")
WIDTH = 60  # bases in a line of FASTA


@app.command
def build(
    *,
    reference: Path,
    panel: Annotated[list[Path], Several],
    out: Path,
    policy: Literal["bcftools", "edits"] = "bcftools",
    min_af: float = 0.0,
    min_ac: int = 0,
    samples: Annotated[list[str] | None, Several] = None,
    sex: Path | None = None,
    unphased: Literal["error", "skip", "as-is", "random"] = "error",
    seed: int = 17,
    ref_mismatch: Literal["error", "skip"] = "error",
    sv: Literal["skip", "del"] = "skip",
    only_pass: Annotated[bool, Parameter(negative="")] = False,
    workers: int = 1,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Build a haplotype store from a FASTA and phased VCF or BCF files.

    Example: ``kleiber panel build --reference GRCh38.fa.gz --panel chr20.vcf.gz chr21.bcf --out panel``

    Parameters
    ----------
    reference
        A FASTA file, plain or compressed.
    panel
        Phased VCF or BCF files, with or without index, in any order: of one contig each or of several, shards of one,
        one for each sample.
    out
        The folder of the store. Files that are in it already, and the same, are not read again; nor is what a stopped
        build has done.
    policy
        Which of two conflicting edits of a haplotype wins: as bcftools consensus has it, or more are kept.
    min_af
        Drop ALT alleles that are rarer in the panel, as a share of the called alleles.
    min_ac
        Drop ALT alleles that are rarer in the panel, as a count.
    samples
        Keep these samples, or those that a file names, one a line.
    sex
        A table of samples and sexes, for X and Y: of the 1000 Genomes Project, IGSR or PLINK (fam, psam), a pedigree,
        or sample and sex.
    unphased
        What to do with heterozygotes written 0/1; random puts each in an order that the seed decides.
    seed
        Decides what unphased leaves to chance.
    ref_mismatch
        What to do with records whose REF is not the reference's.
    sv
        Drop symbolic alleles, or take <DEL> as the deletion that it is.
    only_pass
        Drop records whose FILTER is neither PASS nor missing.
    workers
        Files to read side by side.
    json
        Print what was built as JSON.
    """
    from tempfile import TemporaryDirectory

    from kleiber.genome.panel import Panel, PanelRules
    from kleiber.genome.ploidy import read_sexes
    from kleiber.genome.reference import Reference
    from kleiber.study.progress import Narrator

    say = Narrator()
    rules = PanelRules(
        policy, min_af, min_ac, only_pass, unphased, ref_mismatch, sv, seed if unphased == "random" else 0
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        with say.stage("reference"):
            opened = Reference.build(reference, Path(scratch) / "reference")
        with say.stage("panel"):
            made = Panel.build(
                opened,
                panel,
                out,
                rules,
                samples=_names(samples),
                sexes=read_sexes(sex) if sex else None,
                workers=workers,
                progress=say.line,
            )
    _print_info(made, json)


@app.command
def info(store: Path, *, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Show a store's samples, contigs, edits, sizes and what was dropped.

    Example: ``kleiber panel info panel``

    Parameters
    ----------
    store
        The folder of a panel.
    json
        Print JSON.
    """
    from kleiber.genome.panel import Panel

    _print_info(Panel.open(store), json)


@app.command
def sequence(
    store: Path,
    *region: str,
    sample: str | None = None,
    slot: int = 0,
    bed: Path | None = None,
    mode: Literal["anchored", "span"] = "span",
) -> None:
    """Print the bases of haplotypes as FASTA.

    Example: ``kleiber panel sequence panel --sample HG00096 --slot 1 20:1,000,001-1,000,700``

    Parameters
    ----------
    store
        The folder of a panel.
    region
        contig:start-end, 1-based and inclusive, or a whole contig.
    sample
        Whose haplotype.
    slot
        0 (left of the bar) or 1.
    bed
        A BED file of regions; columns 4 and 5 may name sample and slot.
    mode
        span: the bases whose coordinates lie in the region, so that the length varies. anchored: as many bases as the
        region is long, from its start on.
    """
    from kleiber.corpus.regions import read_bed, regions_of
    from kleiber.errors import ConfigError
    from kleiber.genome.assembly import Region
    from kleiber.genome.panel import Panel

    panel = Panel.open(store)
    wanted = [(place, sample, slot) for place in regions_of(panel.reference, region, "region")]
    for fields in read_bed(bed) if bed else ():
        place = Region(panel.reference.resolve(fields[0]), int(fields[1]), int(fields[2]))
        named = fields[3] if len(fields) > 3 else sample
        number = fields[4] if len(fields) > 4 else str(slot)
        if number not in ("0", "1"):
            raise ConfigError(f"{bed}: column 5 of {place} is {number!r}; a slot is 0 or 1.")
        wanted.append((place, named, int(number)))
    if not wanted:
        raise ConfigError("No region is named.\n  Name some, such as 20:1,000-2,000, or pass --bed FILE.")
    for place, name, which in wanted:
        if name is None:
            raise ConfigError(
                f"No sample is named for {place}.\n  Pass --sample NAME, or name it in column 4 of the BED file."
            )
        text = panel.sequence(name, which, place, mode).tobytes().decode()
        print(f">{place.contig}:{place.start + 1}-{place.end} {name} {which}")
        for at in range(0, len(text), WIDTH):
            print(text[at : at + WIDTH])


@app.command
def verify(store: Path) -> None:
    """Compare every file of a store with its checksum.

    Example: ``kleiber panel verify panel``

    Parameters
    ----------
    store
        The folder of a panel.
    """
    from kleiber.errors import DataError
    from kleiber.genome.panel import Panel

    panel = Panel.open(store)
    if problems := panel.damage():
        raise DataError(f"{store} is damaged:\n  " + "\n  ".join(problems) + "\n  Build it again, or fetch it again.")
    print(f"{store} is whole: {len(panel.contigs)} contigs, {len(panel.samples):,} samples")


def _names(samples: list[str] | None) -> list[str] | None:
    """Return sample names; a lone file name stands for the names in it, one a line."""
    if samples and len(samples) == 1 and Path(samples[0]).is_file():
        return [line.split()[0] for line in Path(samples[0]).read_text(encoding="utf-8").splitlines() if line.strip()]
    return samples


def _print_info(panel: Any, json: bool) -> None:
    from json import dumps

    from kleiber.genome.reference import reference_changes

    n_bytes = sum(path.stat().st_size for path in panel.path.glob("part-*/*"))
    cells = sum(entry["n_edits"] for entry in panel.manifest["contigs"]) * panel.n_slots
    facts = {
        "store": str(panel.path),
        "fingerprint": panel.fingerprint,
        "reference": panel.reference.fingerprint,
        "n_samples": len(panel.samples),
        "samples": list(panel.samples),
        "rules": panel.manifest["rules"],
        "n_bytes": n_bytes,
        "bits_per_cell": 8 * n_bytes / cells if cells else None,
        "contigs": [
            {key: entry[key] for key in ("name", "length", "n_edits", "counts", "warning")}
            for entry in panel.manifest["contigs"]
        ],
        "sources": panel.manifest["sources"],
        "reference_changes": panel.reference.changes,
        "contigs_not_read": panel.manifest["foreign"],
    }
    if json:
        print(dumps(facts))
        return
    few = ", ".join(panel.samples[:3]) + (" …" if len(panel.samples) > 3 else "")
    print(f"{panel.path}: {len(panel.samples):,} samples ({few}), {len(panel.contigs)} contigs")
    print(f"{n_bytes:,} bytes without the reference" + (f", {8 * n_bytes / cells:.3f} bit a cell" if cells else ""))
    print("rules: " + ", ".join(f"{key} {value}" for key, value in facts["rules"].items()))
    for line in reference_changes(panel.reference):
        print(line)
    if foreign := facts["contigs_not_read"]:
        names = ", ".join(f"{name} {n:,}" for name, n in foreign.items())
        print(f"records of contigs that the reference lacks, which are not read: {names}")
    for entry in facts["contigs"]:
        dropped = ", ".join(
            f"{name} {n:,}" for name, n in entry["counts"].items() if n and name not in ("records", "calls")
        )
        counts = entry["counts"]
        print(f"{entry['name']}: {counts['records']:,} records, {entry['n_edits']:,} edits, {counts['calls']:,} calls")
        if dropped:
            print(f"  {dropped}")
        if entry["warning"]:
            print(f"  {entry['warning']}")
    print(f"fingerprint {panel.fingerprint}")
