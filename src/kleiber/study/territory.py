"""What a study will read of its FASTA, told and checked from names and lengths alone, before anything long begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kleiber.corpus.regions import regions_of, regions_or_bed
from kleiber.errors import ConfigError
from kleiber.genome.assembly import Contig, assembled, left_out
from kleiber.genome.reference import Reference, contigs_of
from kleiber.study.config import Study

__all__ = ["outline", "tell_territory", "territory_lines"]

QUICK = 1 << 28  # bytes of a FASTA without an index that are read for its contigs alone


def outline(fasta: Path) -> Reference | None:
    """Return a FASTA's contigs without their bases; None where they cannot be had quickly."""
    if not Path(f"{fasta}.fai").is_file() and fasta.stat().st_size > QUICK:
        return None
    contigs = [{"name": contig.name, "length": contig.length} for contig in contigs_of(fasta)]
    return Reference(fasta, {"source": fasta.name, "contigs": contigs})


def tell_territory(study: Study, reference: Reference | None, tell: Callable[[str], None]) -> bool:
    """Tell what a study reads, contig by contig, and what it leaves out; say whether it could be told.

    Raises
    ------
    ConfigError, DataError
        When a region is none of the reference, or one side of the split is empty.
    """
    if reference is None:
        return False
    named = study.genome
    heldout = regions_of(reference, named.holdout, "[genome] holdout")
    included = regions_of(reference, regions_or_bed(named.include, reference, tell), "[genome] include")
    regions_of(reference, regions_or_bed(named.exclude, reference, tell), "[genome] exclude")
    if included and not any(
        a.contig == b.contig and a.start < b.end and b.start < a.end for a in included for b in heldout
    ):
        raise ConfigError(
            f"[genome] include names nothing of what is held out ({', '.join(named.holdout)}): "
            "there would be no honest loss.\n  Add it to include; training does not read it."
        )
    whole = {r.contig for r in heldout if (r.start, r.end) == (0, reference.length(r.contig))}
    chosen = {r.contig for r in included} if included else assembled(reference.contigs)
    if not chosen - whole:
        raise ConfigError(
            f"[genome] holdout ({', '.join(named.holdout)}) is all that the study reads of "
            f"{reference.manifest['source']}: nothing is left for training.\n  Hold out a block, or fewer contigs."
        )
    for line in territory_lines(reference.contigs, chosen - whole, chosen | whole):
        tell(line)
    return True


def territory_lines(contigs: Sequence[Contig], read: set[str], named: set[str]) -> list[str]:
    """Return what training reads of the contigs, and, of those not named at all, how many of which kind."""
    chosen = [contig for contig in contigs if contig.name in read]
    few = ", ".join(contig.name for contig in chosen[:3]) + (f" … {chosen[-1].name}" if len(chosen) > 3 else "")
    n_bases = sum(contig.length for contig in chosen)
    lines = [f"training reads {len(chosen):,} of {len(contigs):,} contigs, of {n_bases:,} bases: {few}"]
    others = left_out(contigs, named)
    if others:
        kinds = ", ".join(f"{n:,} x {role} ({bases:,} bases)" for role, (n, bases) in others.items())
        lines.append(f"left out: {kinds}; include reads what it names")
    return lines
