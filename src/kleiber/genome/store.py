"""The haplotypes of one contig on disk: which edits each slot carries, by tiles of 64 kb.

Inside a tile the edits are numbered. What many slots carry is a matrix of bits, one row a slot; what few carry is a
list of gaps a slot, one byte each. So a window reads one row and one short list, whatever the number of samples, and
a real panel takes about 0.16 bit for each variant and haplotype. A deletion that reaches into a tile from the left is
numbered there too. Rejected: compressed bitmaps by variant, as in PGEN, which touch every variant of the window in
another place; and one list of numbers a slot, four times the size.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.genome.edits import Edits

__all__ = ["Store", "StoreWriter", "empty_store", "open_store"]

SHIFT = 16
TILE = 1 << SHIFT  # bases
BLOCK_SHIFT = 7
BLOCKS = TILE >> BLOCK_SHIFT  # of 128 bases, in a tile: where a search begins
GROUP = 32  # slots whose lists share one wide offset
DENSE = 8  # an edit that one slot in 8 carries costs less as a column of bits
SKIP = 255  # a gap that leads to no edit: go on 255

ARRAYS = {
    "start": np.uint32,
    "end": np.uint32,
    "alt_at": np.uint32,
    "alt": np.uint8,
    "position": np.uint32,
    "allele": np.uint8,
    "row": np.int32,
    "first": np.int64,
    "carried_at": np.int64,
    "carried": np.uint32,
    "block": np.uint16,
    "block_dense": np.uint16,
    "dense_at": np.int64,
    "dense": np.uint16,
    "bits_at": np.int64,
    "bits": np.uint8,
    "group_at": np.int64,
    "list_at": np.uint16,
    "lists": np.uint8,
}


class Store(NamedTuple):
    """The edits of a contig, sorted by (start, end), and their carriers.

    Attributes
    ----------
    start, end, alt_at, alt
        (E,), (E,), (E + 1,), bases: edit e replaces reference [start, end) by ``alt[alt_at[e]:alt_at[e + 1]]``.
    position, allele
        1-based position and ALT number of the record that edit e came from.
    row
        (T,): the row of each tile in what follows, -1 for a tile without edits.
    first
        (rows + 1,): the first edit that starts in each tile.
    carried_at, carried
        Edits that reach into each tile from the left. They are numbered before the tile's own.
    block, block_dense
        (rows · BLOCKS,): the first number in the tile of an edit that ends at or after the block's first base, and how
        many dense edits have smaller numbers.
    dense_at, dense
        Numbers of each tile's dense edits.
    bits_at, bits
        Where each tile's matrix begins; a row a slot, least significant bit first.
    group_at, list_at, lists
        Slot h of a tile: its list begins at ``group_at[g] + list_at[h]``, g the tile's group of 32 slots.
    """

    start: NDArray
    end: NDArray
    alt_at: NDArray
    alt: NDArray
    position: NDArray
    allele: NDArray
    row: NDArray
    first: NDArray
    carried_at: NDArray
    carried: NDArray
    block: NDArray
    block_dense: NDArray
    dense_at: NDArray
    dense: NDArray
    bits_at: NDArray
    bits: NDArray
    group_at: NDArray
    list_at: NDArray
    lists: NDArray


def open_store(folder: Path, number: int, length: int, n_edits: int, n_slots: int) -> Store:
    """Map the arrays of contig `number`.

    Raises
    ------
    DataError
        When a file is missing, or has not the size that follows from the contig, its edits and its slots: what reads
        the arrays does not look where they end.
    """
    store = Store(**{name: _map(folder / f"{number}.{name}", kind) for name, kind in ARRAYS.items()})
    rows = int((store.row >= 0).sum())
    sizes = {
        "row": (max(1, length) + TILE - 1) >> SHIFT,
        **dict.fromkeys(("start", "end", "position", "allele"), n_edits),
        "alt_at": n_edits + 1,
        **dict.fromkeys(("first", "carried_at", "dense_at", "bits_at"), rows + 1),
        **dict.fromkeys(("block", "block_dense"), rows * BLOCKS),
        "group_at": rows * -(-n_slots // GROUP) + 1,
        "list_at": rows * n_slots,
    }
    for name, size in sizes.items():
        _refuse_size(folder / f"{number}.{name}", len(getattr(store, name)), size)
    for name, offsets in {**{n: f"{n}_at" for n in ("alt", "carried", "dense", "bits")}, "lists": "group_at"}.items():
        _refuse_size(folder / f"{number}.{name}", len(getattr(store, name)), int(getattr(store, offsets)[-1]))
    return store


def _refuse_size(path: Path, found: int, wanted: int) -> None:
    if found != wanted:
        raise DataError(
            f"{path} holds {found:,} numbers, and {wanted:,} follow from its manifest.\n"
            "  It was cut short or belongs to another store: build it again, or copy it again."
        )


def _map(path: Path, kind: type) -> NDArray:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"There is no {path}.\n  Build the store again, or copy it again.") from None
    if size % np.dtype(kind).itemsize:
        raise DataError(f"{path} is cut short: {size:,} bytes are no {np.dtype(kind)}.\n  Copy it again.")
    return np.asarray(np.memmap(path, kind, "r")) if size else _kept(np.zeros(0, kind))


def empty_store(length: int) -> Store:
    """Return the store of a contig without edits: that of the reference itself."""
    arrays = {name: np.zeros(1, kind) for name, kind in ARRAYS.items()}
    arrays["row"] = np.full((max(1, length) + TILE - 1) >> SHIFT, -1, np.int32)
    return Store(**{name: _kept(array) for name, array in arrays.items()})


def _kept(array: NDArray) -> NDArray:
    """Make an array read-only, as mapped ones are: each mixture of the two would be compiled for anew."""
    array.flags.writeable = False
    return array


class StoreWriter:
    """Write one contig, tile by tile, in the order of the file; memory holds the tile at hand."""

    def __init__(self, folder: Path, number: int, length: int, n_slots: int):
        self.n_slots, self.n_tiles = n_slots, (max(1, length) + TILE - 1) >> SHIFT
        self._files: dict[str, BinaryIO] = {name: (folder / f"{number}.{name}").open("wb") for name in ARRAYS}
        self._waiting: list[Edits] = []
        self._reaching = _Piece.empty()  # edits of earlier tiles that end in or behind the tile at hand
        self._tile = self._rows = 0
        self.n_edits = 0
        self._n_alt = self._n_carried = self._n_dense = self._n_bits = self._n_lists = 0
        for name in ("alt_at", "first", "carried_at", "dense_at", "bits_at"):
            self._write(name, 0)

    def add(self, edits: Edits) -> None:
        """Take accepted edits, in the order of their positions; write the tiles that are complete."""
        if edits.n[0]:
            self._waiting.append(edits)
            self._write_until(int(edits.position[edits.n[0] - 1] - 1) >> SHIFT)

    def close(self) -> None:
        """Write what is left, and flush."""
        self._write_until(self.n_tiles)
        self._write("group_at", self._n_lists)
        self.release()

    def release(self) -> None:
        """Close the files, complete or not."""
        for file in self._files.values():
            file.close()

    def _write_until(self, tile: int) -> None:
        """Write every tile before `tile`: no further edit can start there."""
        if tile <= self._tile:
            return
        piece = _Piece.of(self._waiting)
        self._waiting = []
        while self._tile < tile:
            edge = (self._tile + 1) << SHIFT
            self._write_tile(piece.take(piece.start < edge), edge - TILE)
            piece = piece.take(piece.start >= edge)
            self._tile += 1
        self._waiting = [piece.edits()] if len(piece.start) else []

    def _write_tile(self, own: _Piece, begin: int) -> None:
        own = own.take(np.lexsort((own.end, own.start)))
        reaching = self._reaching.take(self._reaching.end > begin)
        both = reaching.joined(own)
        self._write("row", self._rows if len(both.start) else -1)
        if not len(both.start):
            return
        self._rows += 1
        n_reaching = len(reaching.start)
        if len(both.start) > 0xFFFF:
            raise OverflowError(f"{len(both.start):,} edits in the 64 kb from {begin + 1:,} on; 65,535 fit")
        counts = np.diff(both.carriers_at)
        is_dense = counts * DENSE > self.n_slots
        dense = np.flatnonzero(is_dense).astype(np.uint16)
        bits = np.zeros((self.n_slots, -(-len(dense) // 8)), np.uint8)
        sizes = np.zeros(self.n_slots, np.int64)
        _count_and_set(both.carriers_at, both.carriers, is_dense, bits, sizes)
        lists = np.empty(sizes.sum(), np.uint8)
        ends = np.cumsum(sizes)
        begins = ends - sizes
        _write_lists(both.carriers_at, both.carriers, is_dense, begins.copy(), lists)
        groups = begins[::GROUP]
        within = begins - np.repeat(groups, GROUP)[: self.n_slots]
        if len(within) and within.max() > 0xFFFF:
            raise OverflowError(f"the lists of 32 slots from {begin + 1:,} on are longer than 65,535 bytes")
        # where a search from each block begins: the first edit that ends at or after it
        starts = begin + (np.arange(BLOCKS) << BLOCK_SHIFT)
        block = _first_ending_at(both.end, starts)
        self._write("start", own.start)
        self._write("end", own.end)
        self._write("position", own.position)
        self._write("allele", own.allele)
        self._write("alt", own.alt)
        self._write("alt_at", self._n_alt + own.alt_at[1:])
        self._write("carried", reaching.number)
        self._write("block", block)
        self._write("block_dense", np.searchsorted(dense, block))
        self._write("dense", dense)
        self._write("bits", bits)
        self._write("group_at", self._n_lists + groups)
        self._write("list_at", within)
        self._write("lists", lists)
        own.number[:] = self.n_edits + np.arange(len(own.start))
        self.n_edits += len(own.start)
        self._n_alt += len(own.alt)
        self._n_carried += n_reaching
        self._n_dense += len(dense)
        self._n_bits += bits.size
        self._n_lists += len(lists)
        totals = (self.n_edits, self._n_carried, self._n_dense, self._n_bits)
        for name, total in zip(("first", "carried_at", "dense_at", "bits_at"), totals, strict=True):
            self._write(name, total)
        self._reaching = both.take(both.end > begin + TILE)

    def _write(self, name: str, values: NDArray | int) -> None:
        self._files[name].write(np.ascontiguousarray(values, ARRAYS[name]).tobytes())


class _Piece:
    """Edits with their carriers, as columns that can be cut and joined."""

    def __init__(
        self, columns: dict[str, NDArray], alt_at: NDArray, alt: NDArray, carriers_at: NDArray, carriers: NDArray
    ):
        self.columns, self.alt_at, self.alt, self.carriers_at, self.carriers = (
            columns,
            alt_at,
            alt,
            carriers_at,
            carriers,
        )
        self.start, self.end = columns["start"], columns["end"]
        self.position, self.allele, self.number = columns["position"], columns["allele"], columns["number"]

    @classmethod
    def empty(cls) -> _Piece:
        return cls.of([])

    @classmethod
    def of(cls, batches: list[Edits]) -> _Piece:
        """Join batches of edits."""
        n = [int(batch.n[0]) for batch in batches]
        names = ("start", "end", "position", "allele")
        nothing = [np.zeros(0, np.int64)]
        columns = {
            name: np.concatenate([getattr(b, name)[:k] for b, k in zip(batches, n, strict=True)] + nothing)
            for name in names
        }
        columns["number"] = np.zeros(sum(n), np.int64)
        alts = np.concatenate([np.diff(b.alt_at[: k + 1]) for b, k in zip(batches, n, strict=True)] + nothing)
        carried = np.concatenate([np.diff(b.carriers_at[: k + 1]) for b, k in zip(batches, n, strict=True)] + nothing)
        alt = np.concatenate([b.alt[: b.n[1]] for b in batches] + [np.zeros(0, np.uint8)])
        carriers = np.concatenate([b.carriers[: b.n[2]] for b in batches] + [np.zeros(0, np.int32)])
        return cls(columns, _offsets(alts), alt, _offsets(carried), carriers)

    def take(self, which: NDArray) -> _Piece:
        """Return some edits: a mask, or numbers in a new order."""
        chosen = np.flatnonzero(which) if which.dtype == bool else which
        if len(chosen) == len(self.start) and (np.diff(chosen) == 1).all():
            return self
        alt_at, alt = _gather(self.alt_at, self.alt, chosen)
        carriers_at, carriers = _gather(self.carriers_at, self.carriers, chosen)
        return _Piece({k: v[chosen] for k, v in self.columns.items()}, alt_at, alt, carriers_at, carriers)

    def joined(self, other: _Piece) -> _Piece:
        """Return these edits and then others."""
        columns = {k: np.concatenate([v, other.columns[k]]) for k, v in self.columns.items()}
        return _Piece(
            columns,
            np.concatenate([self.alt_at, self.alt_at[-1] + other.alt_at[1:]]),
            np.concatenate([self.alt, other.alt]),
            np.concatenate([self.carriers_at, self.carriers_at[-1] + other.carriers_at[1:]]),
            np.concatenate([self.carriers, other.carriers]),
        )

    def edits(self) -> Edits:
        """Return the columns as a batch again."""
        n = np.array([len(self.start), len(self.alt), len(self.carriers)], np.int64)
        columns = {name: self.columns[name] for name in ("start", "end", "position", "allele")}
        return Edits(
            n=n, alt_at=self.alt_at, alt=self.alt, carriers_at=self.carriers_at, carriers=self.carriers, **columns
        )


def _offsets(sizes: NDArray) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@njit(cache=True, nogil=True)
def _gather(offsets, values, chosen):
    """Return the rows `chosen` of a ragged array."""
    out_at = np.zeros(chosen.size + 1, np.int64)
    for i in range(chosen.size):
        out_at[i + 1] = out_at[i] + offsets[chosen[i] + 1] - offsets[chosen[i]]
    out = np.empty(out_at[-1], values.dtype)
    for i in range(chosen.size):
        for j in range(out_at[i + 1] - out_at[i]):  # no slices: the text of their errors takes seconds to compile
            out[out_at[i] + j] = values[offsets[chosen[i]] + j]
    return out_at, out


@njit(cache=True, nogil=True)
def _first_ending_at(ends, starts):
    """Return, for each of the increasing `starts`, the smallest i with ends[i] >= start (the ends in any order)."""
    out = np.empty(starts.size, np.int64)
    at = 0
    for i in range(starts.size):
        while at < ends.size and ends[at] < starts[i]:
            at += 1
        out[i] = at
    return out


@njit(cache=True, nogil=True)
def _count_and_set(carriers_at, carriers, is_dense, bits, sizes):
    """Set the bits of dense edits, and count the bytes of each slot's list of the others."""
    last = np.full(sizes.size, -1, np.int64)
    column = 0
    for e in range(is_dense.size):
        if is_dense[e]:
            for q in range(carriers_at[e], carriers_at[e + 1]):
                bits[carriers[q], column >> 3] |= np.uint8(1 << (column & 7))
            column += 1
        else:
            for q in range(carriers_at[e], carriers_at[e + 1]):
                slot = carriers[q]
                sizes[slot] += 1 + (e - last[slot] - 1) // SKIP
                last[slot] = e


@njit(cache=True, nogil=True)
def _write_lists(carriers_at, carriers, is_dense, at, lists):
    """Write each slot's list at its place `at`."""
    last = np.full(at.size, -1, np.int64)
    for e in range(is_dense.size):
        if is_dense[e]:
            continue
        for q in range(carriers_at[e], carriers_at[e + 1]):
            slot = carriers[q]
            gap = e - last[slot] - 1
            while gap >= SKIP:
                lists[at[slot]] = SKIP
                at[slot] += 1
                gap -= SKIP
            lists[at[slot]] = gap
            at[slot] += 1
            last[slot] = e
