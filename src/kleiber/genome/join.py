"""The contigs of a panel from the parts of its files: shards of a contig, files of single samples, samples by contig.

Most contigs stand in one file, for all samples, and their part is taken as it is. Shards follow each other by their
positions, whatever their names; what the last edits of one reach into is read once more behind it, so that conflicts
are decided over the whole contig. Files of other samples stand beside each other. What overlaps is an error. Rejected:
to demand one file a contig, and to send people to bcftools for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError
from kleiber.genome.build import Task, rebuild
from kleiber.genome.edits import Edits, State
from kleiber.genome.ploidy import absences
from kleiber.genome.reference import Reference, load_array
from kleiber.genome.rules import PanelRules
from kleiber.genome.store import ARRAYS, GROUP, SKIP, Store, StoreWriter, open_store
from kleiber.storage import file_digest, staged_folder, write_manifest

__all__ = ["join"]


class _Shard(NamedTuple):
    """What one file has of one contig."""

    part: int
    number: int
    entry: dict[str, Any]
    task: Task
    folder: Path


def join(
    tasks: Sequence[Task],
    parts: Sequence[Mapping[str, Any]],
    folder: Path,
    reference: Reference,
    rules: PanelRules,
    samples: tuple[str, ...],
    sexes: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """Return the contigs' entries for a panel's manifest, in the order of the reference.

    Contigs that do not stand in one part for all samples are written into ``part-I``, I behind those of the files.

    Raises
    ------
    DataError
        When files of one contig overlap, or hold some of each other's samples; names both files.
    ConfigError
        When alleles are to be counted over samples that stand in files of their own.
    """
    by_contig: dict[str, list[_Shard]] = {}
    for i, (task, part) in enumerate(zip(tasks, parts, strict=True)):
        for k, entry in enumerate(part["contigs"]):
            by_contig.setdefault(entry["name"], []).append(_Shard(i, k, entry, task, task.folder))
    numbers = {sample: i for i, sample in enumerate(samples)}
    entries, written = [], list[dict[str, Any]]()
    with ExitStack() as stack:
        joined: Path | None = None
        for name in [contig.name for contig in reference.contigs if contig.name in by_contig]:
            length, (first, *more) = reference.length(name), by_contig[name]
            groups = _groups(name, [first, *more], rules)
            with TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
                if more or first.task.samples != samples:
                    joined = joined or stack.enter_context(staged_folder(folder / f"part-{len(tasks)}"))
                    groups = [_in_a_row(name, group, Path(scratch)) for group in groups]
                    found = {"part": len(tasks), "number": len(written)}
                    written.append(_write(joined, len(written), groups, numbers, length))
                    found |= written[-1]
                else:
                    kept = {key: first.entry[key] for key in ("name", "length", "n_edits", "counts", "sha256")}
                    found = {"part": first.part, "number": first.number, **kept}
                shards = [shard for group in groups for shard in group]
                absent, warning = absences(
                    name, length, tuple((a, b) for a, b in first.entry["pars"]), samples, _rows(groups, numbers),
                    _without_column(groups, tasks, numbers), _heterozygous(shards, numbers), sexes,
                )  # fmt: skip
            entries.append({**found, "absent": absent, "warning": warning})
        if joined:
            write_manifest(joined, {"decides": None, "contigs": written})
    return entries


def _groups(name: str, shards: list[_Shard], rules: PanelRules) -> list[list[_Shard]]:
    """Return the shards of a contig by their samples, in the order of their positions."""
    groups: dict[tuple[str, ...], list[_Shard]] = {}
    for shard in shards:
        groups.setdefault(shard.task.samples, []).append(shard)
    owner: dict[str, tuple[str, ...]] = {}
    for key in groups:
        for sample in key:
            if sample in owner:
                ours, theirs = groups[owner[sample]][0], groups[key][0]
                raise DataError(
                    f"{theirs.task.file} and {ours.task.file} both hold {sample} on {name}, and not the same samples.\n"
                    "  Files of one contig hold the same samples, or other ones: leave one out, or choose samples."
                )
            owner[sample] = key
    if len(groups) > 1 and (rules.min_af > 0 or rules.min_ac > 1):
        files = [str(group[0].task.file) for group in groups.values()]
        raise ConfigError(
            f"min_af = {rules.min_af} and min_ac = {rules.min_ac} count alleles over all samples, and {files[0]} "
            f"and {files[1]} hold other samples of {name}.\n  Merge them first (bcftools merge), or leave both at 0."
        )
    for group in groups.values():
        group.sort(key=lambda shard: (shard.entry["first"], shard.entry["last"]))
        for one, two in pairwise(group):
            if two.entry["first"] < one.entry["last"] or one.entry["first"] == two.entry["first"]:
                raise DataError(
                    f"{two.task.file} and {one.task.file} overlap: records of {name} for {one.task.samples[0]} stand "
                    f"at {two.entry['first']:,}-{two.entry['last']:,} in one and at "
                    f"{one.entry['first']:,}-{one.entry['last']:,} in the other.\n"
                    "  Join them first (bcftools concat --allow-overlaps), or leave one out."
                )
    return list(groups.values())


def _in_a_row(name: str, group: list[_Shard], scratch: Path) -> list[_Shard]:
    """Return shards that follow each other, those that edits of an earlier one reach into read behind it."""
    done: list[_Shard] = []
    for shard in group:
        if done:
            before = _state(done[-1])
            if before.used.max(initial=0) >= shard.entry["first"] - 1:
                place = scratch / f"{shard.part}-{shard.number}"
                place.mkdir()
                shard = shard._replace(
                    entry=rebuild(shard.task, name, shard.entry, place, before), number=0, folder=place
                )
        done.append(shard)
    return done


def _state(shard: _Shard) -> State:
    rows = load_array(shard.folder / f"{shard.number}.state.npy", np.int64)
    return State(rows[:2].copy(), rows[2:] > 0, np.zeros(1, np.int64))


def _without_column(groups: list[list[_Shard]], tasks: Sequence[Task], numbers: Mapping[str, int]) -> NDArray[np.bool_]:
    """Say which samples a contig's files leave out: those that share another file with samples that they hold.

    A sample whose files hold nobody of the contig's files has a file of its own, and no record there.
    """
    column = {numbers[sample] for group in groups for sample in group[0].task.samples}
    without = np.zeros(len(numbers), bool)
    for task in tasks if len(column) < len(numbers) else ():
        theirs = [numbers[sample] for sample in task.samples]
        if column.intersection(theirs):
            without[theirs] = True
    without[sorted(column)] = False
    return without


def _rows(groups: list[list[_Shard]], numbers: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the runs of calls of all shards, samples numbered as in the panel."""
    found = [np.zeros((0, 4), np.int64)]
    for group in groups:
        ours = np.array([numbers[sample] for sample in group[0].task.samples])
        for shard in group:
            rows = np.array(load_array(shard.folder / f"{shard.number}.slots.npy", np.int64)).reshape(-1, 4)
            rows[:, 0] = ours[rows[:, 0]]
            found.append(rows)
    rows = np.concatenate(found)
    return rows[np.lexsort((rows[:, 2], rows[:, 0]))]


def _heterozygous(shards: list[_Shard], numbers: Mapping[str, int]) -> NDArray[np.bool_]:
    marked = np.zeros(len(numbers), bool)
    for shard in shards:
        marked[[numbers[shard.task.samples[i]] for i in shard.entry["heterozygous"]]] = True
    return marked


def _write(
    folder: Path, number: int, groups: list[list[_Shard]], numbers: Mapping[str, int], length: int
) -> dict[str, Any]:
    """Write one contig from its shards, tile by tile; return its entry."""
    shards = [shard for group in groups for shard in group]
    opened = [
        open_store(shard.folder, shard.number, length, shard.entry["n_edits"], 2 * len(shard.task.samples))
        for shard in shards
    ]
    slots = [
        (2 * np.array([numbers[sample] for sample in shard.task.samples])[:, None] + [0, 1]).ravel().astype(np.int32)
        for shard in shards
    ]
    writer = StoreWriter(folder, number, length, 2 * len(numbers))
    try:
        for tile in range(writer.n_tiles):
            found = [
                _edits_of_tile(store, int(store.row[tile]), ours)
                for store, ours in zip(opened, slots, strict=True)
                if store.row[tile] >= 0
            ]
            for edits in found if len(groups) == 1 else [_once(found)] if found else []:
                writer.add(edits)
        writer.close()
    except OverflowError as problem:
        files = " and ".join(str(shard.task.file) for shard in shards[:2])
        raise DataError(f"{files}, contig {shards[0].entry['name']}: {problem}.") from None
    finally:
        writer.release()
    counts: dict[str, int] = {}
    for shard in shards:
        counts = {key: counts.get(key, 0) + n for key, n in shard.entry["counts"].items()}
    return {
        "name": shards[0].entry["name"],
        "length": length,
        "n_edits": writer.n_edits,
        "counts": counts,
        "sha256": {f"{number}.{name}": file_digest(folder / f"{number}.{name}") for name in ARRAYS},
    }


def _edits_of_tile(store: Store, row: int, slots: NDArray[np.int32]) -> Edits:
    """Return the edits that start in a tile of a store, with their carriers as `slots` numbers them."""
    first, stop = int(store.first[row]), int(store.first[row + 1])
    carriers_at, carriers = _carriers(store, row, len(slots))
    alt_at = store.alt_at[first : stop + 1].astype(np.int64)
    columns = {
        name: getattr(store, name)[first:stop].astype(np.int64) for name in ("start", "end", "position", "allele")
    }
    alt = np.asarray(store.alt[alt_at[0] : alt_at[-1]])
    return Edits(
        n=np.array([stop - first, len(alt), len(carriers)]),
        alt_at=alt_at - alt_at[0],
        alt=alt,
        carriers_at=carriers_at,
        carriers=slots[carriers],
        **columns,
    )


@njit(cache=True, nogil=True)
def _carriers(store, row, n_slots):
    """Return the slots that carry each edit that starts in a tile: (edits + 1,) and the slots, increasing."""
    n_reaching = store.carried_at[row + 1] - store.carried_at[row]
    n = store.first[row + 1] - store.first[row]
    dense_at = store.dense_at[row]
    n_dense = store.dense_at[row + 1] - dense_at
    n_bytes = (n_dense + 7) >> 3
    groups = (n_slots + GROUP - 1) // GROUP
    at = np.zeros(n + 1, np.int64)
    out = np.empty(0, np.int64)
    for is_counting in (True, False):
        if not is_counting:
            total = np.int64(0)
            for e in range(n + 1):
                size = at[e]
                at[e] = total
                total += size
            out = np.empty(total, np.int64)
        for slot in range(n_slots):
            bits = store.bits_at[row] + slot * n_bytes
            for bit in range(n_dense):
                if store.bits[bits + (bit >> 3)] >> (bit & 7) & 1:
                    e = np.int64(store.dense[dense_at + bit]) - n_reaching
                    if e >= 0:
                        if not is_counting:
                            out[at[e]] = slot
                        at[e] += 1
            group = row * groups + slot // GROUP
            p = store.group_at[group] + np.int64(store.list_at[row * n_slots + slot])
            if slot % GROUP == GROUP - 1 or slot == n_slots - 1:
                stop = store.group_at[group + 1]
            else:
                stop = store.group_at[group] + np.int64(store.list_at[row * n_slots + slot + 1])
            number = np.int64(-1)
            while p < stop:
                gap = np.int64(store.lists[p])
                p += 1
                if gap == SKIP:
                    number += SKIP
                    continue
                number += gap + 1
                e = number - n_reaching
                if e >= 0:
                    if not is_counting:
                        out[at[e]] = slot
                    at[e] += 1
    ends = at[:n].copy()
    at[0] = 0
    at[1:] = ends
    return at, out


def _once(found: list[Edits]) -> Edits:
    """Return the edits of several files of other samples, each edit once, with all its carriers."""
    merged: dict[tuple[int, int, int, int, bytes], list[NDArray]] = {}
    for edits in found:
        for e in range(int(edits.n[0])):
            alt = edits.alt[edits.alt_at[e] : edits.alt_at[e + 1]].tobytes()
            where = (int(edits.start[e]), int(edits.end[e]), int(edits.position[e]), int(edits.allele[e]), alt)
            merged.setdefault(where, []).append(edits.carriers[edits.carriers_at[e] : edits.carriers_at[e + 1]])
    keys = sorted(merged)
    alts = [key[4] for key in keys]
    carriers = [np.sort(np.concatenate(merged[key])) for key in keys]
    return Edits(
        n=np.array([len(keys), sum(map(len, alts)), sum(map(len, carriers))]),
        start=np.array([key[0] for key in keys]),
        end=np.array([key[1] for key in keys]),
        position=np.array([key[2] for key in keys]),
        allele=np.array([key[3] for key in keys]),
        alt_at=np.cumsum([0, *map(len, alts)]),
        alt=np.frombuffer(b"".join(alts), np.uint8),
        carriers_at=np.cumsum([0, *map(len, carriers)]),
        carriers=np.concatenate([*carriers, np.zeros(0, np.int32)]),
    )
