"""What the manifests of a panel's store say, and whether they and its files are whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from kleiber.errors import DataError
from kleiber.genome.build import few
from kleiber.genome.ploidy import absences, pseudo_autosomal
from kleiber.genome.reference import Reference
from kleiber.storage import MANIFEST, digest, file_digest

__all__ = [
    "ABSENT",
    "arrays_of",
    "difference",
    "is_inside",
    "refuse_damaged",
    "refuse_nothing",
    "silent_samples",
    "totals",
]

NUMBERS = ("part", "number", "n_edits")  # of a contig, which become parts of file names and lengths
ABSENT = ("contigs", "silent")  # what a manifest says of contigs with and without records


def totals(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by name."""
    total: dict[str, int] = {}
    for each in counts:
        for name, n in each.items():
            total[name] = total.get(name, 0) + n
    return total


def silent_samples(
    reference: Reference, contigs: Sequence[Mapping], samples: tuple[str, ...], sexes: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    """Return which slots do not exist on contigs of the reference without a record."""
    told = None if sexes is None else {**dict.fromkeys(samples, "unknown"), **sexes}
    nobody, nothing = np.zeros(len(samples), bool), np.zeros((0, 4), np.int64)
    found = []
    for contig in reference.contigs:
        if all(contig.name != entry["name"] for entry in contigs):
            pars = pseudo_autosomal(contig.name, contig.length)
            absent, _ = absences(contig.name, contig.length, pars, samples, nothing, nobody, nobody, told)
            found += [{"name": contig.name, "absent": absent}] if absent else []
    return found


def refuse_nothing(contigs: Sequence[Mapping], foreign: Mapping[str, int], reference: Reference, files: str) -> None:
    """Refuse a panel that has records, and nothing of the reference's contigs or no genotype.

    Raises
    ------
    DataError
        With what the two have, and what to pass.
    """
    counts = totals(entry["counts"] for entry in contigs)
    if foreign and not contigs:
        raise DataError(
            f"{files} and the reference {reference.manifest['source']} have no contig in common.\n"
            f"  The panel's records are of {few(list(foreign))}; the reference has "
            f"{few([contig.name for contig in reference.contigs])}.\n  Pass the FASTA that the panel was called on."
        )
    if counts and counts["records"] and counts["records"] == counts["without genotypes"]:
        raise DataError(f"{files} holds no genotypes: no record's FORMAT has GT.")


def arrays_of(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the checksums of all arrays of edits, by their paths in the store."""
    return {
        f"part-{entry['part']}/{name}": value
        for entry in manifest["contigs"]
        for name, value in entry["sha256"].items()
    }


def refuse_damaged(path: Path, manifest: dict[str, Any]) -> None:
    """See that the manifests are as they were written, and name no file outside of the store.

    Raises
    ------
    DataError
        With the first thing that is wrong.
    """
    unsealed = {key: value for key, value in manifest.items() if key != "checksum"}
    sums = manifest.get("sha256", {})
    problems = []
    if "checksum" in manifest and manifest["checksum"] != digest(unsealed):
        problems = [f"{path / MANIFEST}: has changed"]
    elif outside := [name for name in {**sums, **arrays_of(manifest)} if not is_inside(name)]:
        problems = [f"{path / MANIFEST}: names {outside[0]!r}, outside of the store"]
    elif any(type(entry[key]) is not int or entry[key] < 0 for entry in manifest["contigs"] for key in NUMBERS):
        problems = [f"{path / MANIFEST}: gives a contig a place that is no number"]
    elif not all(_are_absences(entry, len(manifest["samples"])) for key in ABSENT for entry in manifest[key]):
        problems = [f"{path / MANIFEST}: gives a contig slots that cannot be"]
    else:
        problems = [difference(path / name, value) for name, value in sums.items()]
    if any(problems):
        raise DataError(f"{path} is damaged:\n  {max(problems)}\n  Build it again, or fetch it again.")


def _are_absences(entry: Mapping[str, Any], n_samples: int) -> bool:
    """Say whether what a contig's slots lack is stretches, and slots that there are."""
    return all(
        all(0 <= slot < 2 * n_samples for slot in slots) and all(0 <= start < end for start, end in stretches)
        for stretches, slots in entry["absent"]
    )


def is_inside(name: str) -> bool:
    """Say whether a file's name stays within the folder that it is relative to."""
    return not PurePath(name).is_absolute() and ".." not in PurePath(name).parts and "\0" not in name


def difference(path: Path, expected: str) -> str:
    """Say what is wrong with a file whose SHA-256 is expected, or nothing."""
    if not path.is_file():
        return f"{path}: is missing"
    return "" if file_digest(path) == expected else f"{path}: has changed"
