"""The kernels of sampling by themselves, against enumeration: every start of every slot, and what a number draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber import counter
from kleiber.corpus import draws
from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.reference import Reference
from kleiber.genome.store import TILE
from oracles import haplotype as oracle

SEED, STREAM = np.uint64(5), np.uint64(9)


class Drawn:
    """A panel of one contig, and what a naive twin says of its haplotypes."""

    def __init__(self, drawn: dict, folder, policy: str = "bcftools", begin: int = 0):
        """Build it, and the twin of what stands from `begin` on."""
        fasta, vcf = oracle.write_panel(drawn, folder)
        reference = Reference.build(fasta, folder / "r")
        panel = Panel.build(reference, [vcf], folder / "p", PanelRules(policy=policy))
        self.store, self.reference = panel.store("c0"), reference.bases("c0")
        text = drawn["contigs"]["c0"]
        self.length, self.n_slots = len(text), panel.n_slots
        carried = [oracle.carried(drawn, "c0", slot // 2, slot % 2) for slot in range(self.n_slots)]
        here = [[(at - begin, *alleles) for at, *alleles in records] for records in carried]
        bases = [oracle.haplotype(text[begin:], records, policy) for records in here]
        marked = [oracle.marked(text[begin:], records, policy) for records in here]
        self.bases = [[(base, at + begin) for base, at in one] for one in bases]
        self.marked = [[(at + begin, *what) for at, *what in one] for one in marked]

    def valid(self, slot: int, begin: int, end: int, reach: int, is_span: bool) -> list[int]:
        """Return the starts in [begin, end) that `reach` bases of it follow."""
        if is_span:
            return list(range(begin, end - reach + 1))
        places = [at for _, at in self.bases[slot] if begin <= at < end]
        return [s for s in range(begin, end) if sum(at >= s for at in places) >= reach]

    def holds(self, slot: int, start: int, window: int, is_span: bool) -> bool:
        entries = [entry for entry in self.marked[slot] if entry[0] >= start]
        shown = [entry for entry in entries if entry[0] < start + window] if is_span else entries[:window]
        return any(entry[1] for entry in shown) or any(entry[2] for entry in shown[1:])


REGIONS = np.array([[0, 80], [3, 41], [40, 52], [60, 66]])


@pytest.fixture(scope="module", params=[(1, "bcftools"), (2, "edits"), (4, "edits")])
def panel(request, tmp_path_factory) -> Drawn:
    seed, policy = request.param
    return Drawn(oracle.random_panel(seed, n_contigs=1), tmp_path_factory.mktemp("draws"), policy)


@pytest.mark.parametrize("is_span", [False, True])
@pytest.mark.parametrize("reach", [1, 7, 20])
def test_starts_are_counted(panel, reach, is_span):
    last, n_valid = np.full(len(REGIONS), -9), np.full((len(REGIONS), 2), -9)
    slots = np.array([0, 3, 1])
    draws.count_valid(panel.store, 4, slots, REGIONS, reach, is_span, last, n_valid)
    for r, (begin, end) in enumerate(REGIONS):
        found = [panel.valid(slot, begin, end, reach, is_span) for slot in slots]
        sizes = [len(starts) for starts in found]
        assert n_valid[r].tolist() == [max(sizes), sum(sizes)]
        if min(sizes):
            assert last[r] == min(starts[-1] for starts in found)
        else:
            assert last[r] < begin


@pytest.mark.parametrize("is_span", [False, True])
@pytest.mark.parametrize(("window", "reach"), [(1, 1), (4, 4), (6, 9), (12, 12)])
def test_windows_with_an_edit_are_counted_and_told(panel, window, reach, is_span):
    slots, held = np.array([2, 0, 3]), {}
    for slot in range(4):
        starts = np.arange(panel.length - window + 1 if is_span else panel.length)
        told = np.zeros(len(starts), bool)
        draws.hold_edit(panel.store, 4, np.full(len(starts), slot), starts, window, is_span, told)
        expected = [panel.holds(slot, s, window, is_span) for s in starts]
        assert told.tolist() == expected
        held[slot] = expected
    for region in REGIONS:
        expected = sum(held[slot][s] for slot in slots for s in panel.valid(slot, *region, reach, is_span))
        assert draws.count_holding(panel.store, 4, slots, region[None], reach, window, is_span) == expected
    one, two = (draws.count_holding(panel.store, 4, slots, REGIONS[[r]], reach, window, is_span) for r in (1, 2))
    assert draws.count_holding(panel.store, 4, slots, REGIONS[1:3], reach, window, is_span) == one + two


@pytest.mark.parametrize("is_span", [False, True])
def test_candidates_are_accepted_whose_slot_has_the_start(panel, is_span):
    reach, slots = 7, np.array([3, 0, 1])
    last, n_valid = np.empty(len(REGIONS), np.int64), np.empty((len(REGIONS), 2), np.int64)
    draws.count_valid(panel.store, 4, slots, REGIONS, reach, is_span, last, n_valid)
    region, rank, start = (
        x.ravel() for x in np.meshgrid(np.arange(len(REGIONS)), np.arange(3), np.arange(80), indexing="ij")
    )
    which = np.flatnonzero((REGIONS[region, 0] <= start) & (start < REGIONS[region, 1]))[::-1][1:]
    accepted = np.zeros(len(start), bool)
    draws.accept(panel.store, 4, slots, which, region, rank, start, REGIONS[:, 1], last, reach, is_span, accepted)
    for i in which:
        assert accepted[i] == (start[i] in panel.valid(slots[rank[i]], *REGIONS[region[i]], reach, is_span))
    assert not accepted[np.setdiff1d(np.arange(len(start)), which)].any()


def test_windows_are_copied_and_stretches_measured(panel):
    slots, rank, start = np.array([3, 1]), np.array([0, 1, 1, 0]), np.array([5, 30, 11, 0])
    out = np.full((4, 9), ord("x"), np.uint8)
    draws.fill(panel.reference, panel.store, 4, slots, np.array([3, 0, 1]), rank, start, out)
    for i in (0, 1, 3):
        assert out[i].tobytes().decode() == oracle.anchored(panel.bases[slots[rank[i]]], start[i], 9)
    assert out[2].tobytes() == b"x" * 9
    for slot in range(4):
        for begin, end in REGIONS:
            expected = sum(begin <= at < end for _, at in panel.bases[slot])
            assert draws.span_length(panel.store, 4, slot, begin, end) == expected


EDGE = [  # records about the end of the first tile, 1-based; each is of a haplotype alone, and of one with the next
    ("C", "T", TILE),
    ("C", "CTTT", TILE),
    ("G", "GA", TILE + 1),
    ("GA", "G", TILE + 1),
    ("CGA", "C", TILE),
    ("ACGAT", "A", TILE - 1),
]


def test_windows_about_the_end_of_a_tile(tmp_path):
    text = "ACGT" * (TILE // 4 - 1) + "GGAC" + "GATT" * 4
    n = len(EDGE)
    records = [
        ("c0", at, ref, [alt], [[int(k == sample), int(k in (sample, (sample + 1) % n))] for sample in range(n)])
        for k, (ref, alt, at) in enumerate(EDGE)
    ]
    assert all(text[at - 1 : at - 1 + len(ref)] == ref for ref, _, at in EDGE)
    drawn = {"contigs": {"c0": text}, "records": sorted(records), "samples": [f"S{k}" for k in range(n)]}
    near = Drawn(drawn, tmp_path, "edits", TILE - 20)
    begin, end = TILE - 12, len(text)
    for window in (1, 3, 6):
        for is_span in (False, True):
            total = 0
            for slot in range(2 * n):
                starts = np.array(near.valid(slot, begin, end, window, is_span))
                told = np.zeros(len(starts), bool)
                draws.hold_edit(near.store, 2 * n, np.full(len(starts), slot), starts, window, is_span, told)
                assert told.tolist() == [near.holds(slot, s, window, is_span) for s in starts]
                total += told.sum()
            slots, region = np.arange(2 * n), np.array([[begin, end]])
            assert draws.count_holding(near.store, 2 * n, slots, region, window, window, is_span) == total


ENDS, BEGINS, SPANS = np.array([0, 6, 26, 29]), np.array([100, 200, 300]), np.array([3, 5, 1])
GROUPS = np.array([0, 1, 3])  # the first region, and the others


def drawn(groups: np.ndarray, chosen: np.ndarray, used: np.ndarray, n: int) -> list[np.ndarray]:
    found = [np.full(n, -9) for _ in range(3)]
    draws.draw(SEED, STREAM, np.arange(n), used, ENDS, groups, BEGINS, SPANS, *found, chosen)
    return found


@pytest.mark.parametrize("way", ["all regions", "groups first", "a group that is given"])
def test_a_number_draws_its_candidate(way):
    """Region, slot and start are those of the candidate whose number the counter gives, in order."""
    n = 300
    chosen = np.arange(n) % 2 if way == "a group that is given" else np.full(n, -1)
    groups = np.array([0, 3]) if way == "all regions" else GROUPS
    used = np.zeros(n, np.uint64)
    region, rank, start = drawn(groups, chosen, used, n)
    candidates = [
        (r, k, BEGINS[r] + s)
        for r in range(3)
        for k in range((ENDS[r + 1] - ENDS[r]) // SPANS[r])
        for s in range(SPANS[r])
    ]
    seen = set()
    for i in range(n):
        index, at = np.uint64(i), np.uint64(0)
        low, high = 0, 3
        if way == "groups first":
            group, at = counter.bounded(SEED, STREAM, index, at, np.uint64(2))
            low, high = GROUPS[int(group)], GROUPS[int(group) + 1]
        elif way == "a group that is given":
            low, high = GROUPS[i % 2], GROUPS[i % 2 + 1]
        value, at = counter.bounded(SEED, STREAM, index, np.uint64(at), np.uint64(ENDS[high] - ENDS[low]))
        assert (region[i], rank[i], start[i]) == candidates[int(ENDS[low]) + int(value)]
        assert used[i] == at
        seen.add((region[i], rank[i], start[i]))
    assert seen == set(candidates)
    again = drawn(groups, chosen, used, n)
    assert any((a != b).any() for a, b in zip(again, (region, rank, start), strict=True))  # it goes on from there


def test_groups_have_their_shares():
    ends, n = np.cumsum([0.5, 0.0, 1.5, 2.0]), 400
    group = np.full(n, -9)
    draws.groups_of(SEED, STREAM, np.arange(n), ends, group)
    at = 4.0 * np.array([counter.uniform(SEED, STREAM, np.uint64(i), np.uint64(0)) for i in range(n)])
    assert group.tolist() == [0 if x < 0.5 else 2 if x < 2.0 else 3 for x in at]
    assert set(group.tolist()) == {0, 2, 3}


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@given(st.lists(st.sampled_from(list(b"ACGT")), min_size=1, max_size=9))
@settings(max_examples=10)
def test_rows_are_turned_around_with_their_probability(probability, bases):
    complement = np.zeros(256, np.uint8)
    complement[list(b"ACGT")] = list(b"TGCA")
    rows = np.tile(np.array(bases, np.uint8), (20, 1))
    draws.strands(SEED, STREAM, np.arange(20) + 7, probability, complement, rows)
    turned = bytes(complement[bases[::-1]])
    for i in range(20):
        is_turned = counter.uniform(SEED, STREAM, np.uint64(i + 7), np.uint64(0)) < probability
        assert rows[i].tobytes() == (turned if is_turned else bytes(bases))
