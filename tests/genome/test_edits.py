"""What becomes of records, decided on arrays alone: every reason to drop an allele, and both policies of conflict."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.genome.calls import Batch, new_batch
from kleiber.genome.edits import (
    BEYOND_END,
    COUNTS,
    FINE,
    MISMATCH,
    NOT_PHASED,
    UNSORTED,
    Edits,
    Letters,
    Rules,
    State,
    accept,
    new_edits,
    new_state,
)
from kleiber.genome.rules import POLICIES
from oracles import haplotype as oracle

BASES = "ACGTACGTAC"
PLAIN = Rules(0, 0.0, 0.0, False, False, True, False)


class Record(NamedTuple):
    """A line of a file: the slots of each ALT, and what a scan says of the whole."""

    position: int
    ref: str
    alts: list[str]
    slots: list[list[int]]
    passes: bool = True
    has_calls: bool = True
    n_present: int = 4
    n_missing: int = 0
    unphased: int = -1
    n_unphased: int = 0
    stop: int = 0


def batch_of(records: list[Record]) -> tuple[np.ndarray, Batch]:
    """Return the letters of all alleles, and a batch that points at them."""
    batch, text, v, c = new_batch(2, len(records) + 1, 4 * len(records) + 4), bytearray(b"#"), 0, 0
    for r, one in enumerate(records):
        for name in ("position", "passes", "has_calls", "n_present", "n_missing", "unphased", "n_unphased"):
            getattr(batch, name)[r] = getattr(one, name)
        batch.ref_at[r], batch.ref_len[r] = len(text), len(one.ref)
        text += one.ref.encode()
        for k, (alt, slots) in enumerate(zip(one.alts, one.slots, strict=True)):
            batch.record[v], batch.allele[v], batch.stop[v] = r, k + 1, one.stop
            batch.alt_at[v], batch.alt_len[v] = len(text), len(alt)
            text += alt.encode()
            batch.carriers[c : c + len(slots)] = slots
            c += len(slots)
            v += 1
            batch.carriers_at[v] = c
    batch.n[:3] = len(records), v, c
    return np.frombuffer(bytes(text) + b"#", np.uint8), batch


def letters(bases: str, codes: dict[int, str] | None = None) -> Letters:
    at = sorted(codes or {})
    return Letters(
        np.frombuffer(bases.encode(), np.uint8),
        np.array(at, np.int64),
        np.array([ord(codes[i]) for i in at], np.uint8) if at else np.empty(0, np.uint8),
    )


class Decided(NamedTuple):
    """(start, end, alternative, slots, position, allele) of each edit; what was counted; and what is wrong, where."""

    edits: list[tuple]
    counts: dict[str, int]
    wrong: tuple[int, int]


def listed(out: Edits) -> list[tuple]:
    n, text = int(out.n[0]), out.alt.tobytes().decode("latin-1")
    assert (int(out.n[1]), int(out.n[2])) == (int(out.alt_at[n]), int(out.carriers_at[n]))
    return [
        (
            int(out.start[i]),
            int(out.end[i]),
            text[out.alt_at[i] : out.alt_at[i + 1]],
            out.carriers[out.carriers_at[i] : out.carriers_at[i + 1]].tolist(),
            int(out.position[i]),
            int(out.allele[i]),
        )
        for i in range(n)
    ]


def decide(
    records: list[Record], rules: Rules = PLAIN, reference: Letters | None = None, state: State | None = None
) -> Decided:
    text, batch = batch_of(records)
    counts, out = np.zeros(len(COUNTS), np.int64), new_edits(batch, len(text))
    wrong = accept(text, batch, reference or letters(BASES), rules, state or new_state(4), counts, out)
    return Decided(listed(out), {name: int(n) for name, n in zip(COUNTS, counts, strict=True) if n}, tuple(wrong))


def one(position: int, ref: str, alt: str, slots: tuple[int, ...] = (0,), **more) -> Record:
    return Record(position, ref, [alt], [list(slots)], **more)


@pytest.mark.parametrize(
    ("position", "ref", "alt", "edit"),
    [
        (2, "C", "G", (1, 2, "G")),
        (2, "c", "g", (1, 2, "G")),
        (2, "CGT", "C", (2, 4, "")),
        (2, "C", "CAA", (2, 2, "AA")),
        (2, "CGT", "CAT", (2, 3, "A")),
        (2, "CGTA", "CTTA", (2, 3, "T")),
        (2, "CGTA", "CA", (2, 4, "")),
        (2, "CG", "AT", (1, 3, "AT")),
        (1, "A", "TA", (0, 1, "TA")),  # before the first base, which it makes longer
        (1, "AC", "C", (0, 1, "")),
        (9, "AC", "A", (9, 10, "")),
        (10, "C", "CN", (10, 10, "N")),
    ],
)
def test_alleles_are_cut_to_what_differs(position, ref, alt, edit):
    """The shared beginning first, then the shared end."""
    found = decide([one(position, ref, alt, (1, 3))])
    assert found.edits == [(*edit, [1, 3], position, 1)]
    assert found.counts == {"records": 1, "calls": 2}
    assert found.wrong == (FINE, 0)


@pytest.mark.parametrize(
    ("alt", "reason"),
    [
        ("*", "star"),
        ("<DEL>", "symbolic"),
        ("G[c:3[", "breakend"),
        ("]c:3]G", "breakend"),
        (".G", "breakend"),
        ("G.", "breakend"),
        (".", "other letters"),
        ("R", "other letters"),
        ("GX", "other letters"),
        ("X[c:3[", "breakend"),
        ("*G", "other letters"),
        ("C", "monomorphic"),
        ("c", "monomorphic"),
    ],
)
def test_alleles_that_are_no_sequence_or_the_reference(alt, reason):
    found = decide([Record(2, "C", [alt, "T"], [[0], [1]])])
    assert found.edits == [(1, 2, "T", [1], 2, 2)]
    assert found.counts == {"records": 1, reason: 1, "calls": 1}


@pytest.mark.parametrize(
    ("rules", "slots", "present", "reason"),
    [
        ({}, (), 4, "monomorphic"),
        ({"min_ac": 3.0}, (), 4, "monomorphic"),
        ({"min_ac": 2.0}, (0,), 4, "rare"),
        ({"min_ac": 2.0}, (0, 1), 4, ""),
        ({"min_af": 0.5}, (0,), 4, "rare"),
        ({"min_af": 0.5}, (0, 1), 4, ""),
        ({"min_af": 0.5}, (0,), 2, ""),
        ({"min_af": 0.5, "min_ac": 2.0}, (0,), 2, "rare"),
        ({}, (0,), 100, ""),
    ],
)
def test_alleles_that_are_rare(rules, slots, present, reason):
    found = decide([one(2, "C", "G", slots, n_present=present)], PLAIN._replace(**rules))
    assert found.counts == {"records": 1, **({reason: 1} if reason else {"calls": len(slots)})}


def test_records_without_calls_or_beside_the_filter():
    some = [
        one(2, "C", "G", passes=False),
        one(3, "G", "T", has_calls=False, n_missing=9),
        one(4, "T", "A", n_missing=2),
    ]
    assert decide(some).counts == {"records": 3, "without genotypes": 1, "missing": 2, "calls": 2}
    only = decide(some, PLAIN._replace(only_pass=True))
    assert only.counts == {"records": 3, "filtered": 1, "without genotypes": 1, "missing": 2, "calls": 1}
    assert [edit[0] for edit in only.edits] == [3]


def test_unphased_heterozygotes_are_refused_or_counted():
    records = [one(2, "C", "G"), one(3, "G", "T", unphased=0, n_unphased=3)]
    assert decide(records).wrong == (NOT_PHASED, 1)
    taken = decide(records, PLAIN._replace(unphased_is_error=False))
    assert taken.wrong == (FINE, 0)
    assert taken.counts == {"records": 2, "unphased": 3, "calls": 2}


def test_records_stand_in_order_over_batches():
    assert decide([one(3, "G", "T"), one(3, "G", "C", (1,)), one(2, "C", "G")]).wrong == (UNSORTED, 2)
    state = new_state(4)
    assert state.used.shape == state.inserted.shape == (2, 4)
    decide([one(3, "G", "T")], state=state)
    assert decide([one(2, "C", "G")], state=state).wrong == (UNSORTED, 0)
    again = decide([one(3, "G", "C", (0, 1))], state=state)
    assert again.counts == {"records": 1, "calls": 2, "conflicts": 1}
    assert again.edits[0][3] == [1]


@pytest.mark.parametrize(
    ("position", "ref", "alt", "wrong"),
    [
        (10, "C", "G", FINE),
        (10, "CA", "C", BEYOND_END),
        (11, "A", "G", BEYOND_END),
        (0, "A", "G", BEYOND_END),
        (11, "N", "<DEL>", FINE),
        (0, "N", "<DEL>", FINE),
        (0, "N", "N.", FINE),
        (12, "N", "<DEL>", BEYOND_END),
        (10, "CA", "<DEL>", FINE),
        (2, "G", "T", MISMATCH),
        (2, "CT", "C", MISMATCH),
        (2, "N", "T", MISMATCH),
        (2, "N", "<DEL>", FINE),
        (2, "N", "N]c:5]", FINE),
        (2, "G", "<DEL>", MISMATCH),
        (2, "cg", "c", FINE),
    ],
)
def test_where_records_may_stand(position, ref, alt, wrong):
    """Symbolic alleles and breakends at a telomere or on N too."""
    found = decide([one(position, ref, alt)])
    assert found.wrong == (wrong, 0)
    symbolic = {"symbolic": 1} if alt == "<DEL>" else {"breakend": 1} if "." in alt or "]" in alt else {"calls": 1}
    assert found.counts == {"records": 1, **(symbolic if wrong == FINE else {})}


def test_one_other_allele_holds_a_record_to_its_reference():
    assert decide([Record(2, "N", ["<DEL>", "T"], [[0], [1]])]).wrong == (MISMATCH, 0)
    assert decide([Record(2, "N", [], [])]).wrong == (MISMATCH, 0)
    assert decide([Record(11, "N", ["<DEL>", "<DUP>"], [[0], [1]])]).counts == {"records": 1, "symbolic": 2}
    skipped = decide([one(2, "G", "T"), one(3, "G", "T")], PLAIN._replace(skip_mismatch=True))
    assert skipped.counts == {"records": 2, "ref mismatch": 1, "calls": 1}


@pytest.mark.parametrize("code", "RYSWKMBDHV")
def test_codes_of_the_reference(code):
    """REF is the code or the first of its bases; on an N that is no code it is N."""
    first = dict(zip("RYSWKMBDHV", "ACCAGACAAA", strict=True))[code]
    reference = letters("ACNNACGTNC", {2: code, 8: "K"})
    for ref, fine in ((code, True), (code.lower(), True), (first, True), ("T", False), ("N", False)):
        assert (decide([one(3, ref, "TTT" if ref != "T" else "A")], reference=reference).wrong[0] == FINE) == fine
    assert decide([one(3, "N", "<DEL>")], reference=reference).wrong[0] == FINE
    assert decide([one(4, "N", "G")], reference=reference).edits == [(3, 4, "G", [0], 4, 1)]
    assert decide([one(4, first, "T")], reference=reference).wrong[0] == MISMATCH
    assert decide([one(3, f"{code}NA", "T")], reference=reference).wrong[0] == FINE
    assert decide([one(3, f"{code}NC", "T")], reference=reference).wrong[0] == MISMATCH


@pytest.mark.parametrize(
    ("alt", "stop", "taken"),
    [
        ("<DEL>", 4, True),
        ("<DEL:ME>", 4, True),
        ("<DEL>", 10, True),
        ("<DEL>", 2, False),  # it ends where it begins
        ("<DEL>", 3, True),
        ("<DEL>", 11, False),
        ("<DUP>", 4, False),
        ("<DEX>", 4, False),
        ("<DUL>", 4, False),
        ("<BEL>", 4, False),
        ("<DELE>", 4, False),
        ("<CEL>", 4, False),
        ("<DAL>", 4, False),
        ("<DEA>", 4, False),
        ("<DEL;1>", 4, False),
        ("<DEL0>", 4, False),
        ("<DE>", 4, False),
    ],
)
def test_symbolic_deletions_go_up_to_their_end(alt, stop, taken):
    rules = PLAIN._replace(take_deletions=True)
    found = decide([one(2, "C", alt, (0, 2), stop=stop)], rules)
    assert found.edits == ([(2, stop, "", [0, 2], 2, 1)] if taken else [])
    assert found.counts == {"records": 1, **({"calls": 2} if taken else {"symbolic": 1})}
    assert decide([one(2, "C", alt, stop=stop)]).counts == {"records": 1, "symbolic": 1}
    assert decide([one(2, "C", alt, (), stop=stop)], rules).counts == {
        "records": 1,
        "monomorphic" if taken else "symbolic": 1,
    }


def test_a_deletion_uses_all_bases_up_to_its_end():
    rules = PLAIN._replace(take_deletions=True)
    for policy in (0, 1):
        records = [one(2, "C", "<DEL>", stop=5), one(5, "A", "T"), one(6, "C", "T")]
        assert [edit[:2] for edit in decide(records, rules._replace(policy=policy)).edits] == [(2, 5), (5, 6)]


def conflict(first: Record, second: Record) -> tuple[bool, bool]:
    """Return whether each policy takes the second of two edits of one haplotype."""
    taken = []
    for policy in range(len(POLICIES)):
        found = decide([first, second], PLAIN._replace(policy=policy))
        assert found.edits[0][4] == first.position
        taken.append(len(found.edits) == 2)
        assert found.counts.get("conflicts", 0) == 2 - len(found.edits)
    assert found.counts.get("policies differ", 0) == (taken[0] != taken[1])
    return taken[0], taken[1]


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        (one(2, "C", "G"), one(3, "G", "T"), (True, True)),
        (one(2, "C", "G"), one(2, "C", "T"), (False, False)),
        (one(2, "C", "G"), one(2, "C", "CA"), (True, True)),  # an insertion behind the base that was used
        (one(2, "C", "CA"), one(2, "C", "CT"), (False, False)),
        (one(2, "C", "CA"), one(2, "C", "G"), (False, False)),
        (one(2, "C", "CA"), one(2, "CGT", "C"), (False, True)),
        (one(2, "CGT", "C"), one(4, "T", "TA"), (True, True)),
        (one(2, "CGT", "C"), one(4, "TA", "T"), (True, True)),
        (one(2, "CGT", "C"), one(3, "G", "GA"), (False, False)),
        (one(2, "CGT", "C"), one(4, "T", "G"), (False, False)),
        (one(2, "CGT", "CGA"), one(3, "G", "T"), (False, False)),
        (one(2, "CGT", "GGT"), one(3, "G", "T"), (False, True)),
        (one(2, "CG", "C"), one(3, "GT", "T"), (False, False)),
        (one(2, "C", "TA"), one(2, "C", "CA"), (False, True)),
    ],
)
def test_which_of_two_edits_wins(first, second, taken):
    assert conflict(first, second) == taken


def test_conflicts_are_of_one_haplotype():
    found = decide([one(2, "C", "G", (0, 1)), one(2, "C", "T", (1, 2, 3))])
    assert found.edits == [(1, 2, "G", [0, 1], 2, 1), (1, 2, "T", [2, 3], 2, 1)]
    assert found.counts == {"records": 2, "calls": 5, "conflicts": 1}


@given(st.integers(0, 2**32), st.sampled_from(range(len(POLICIES))))
@settings(max_examples=25)
def test_every_haplotype_takes_what_its_naive_twin_takes(seed, policy):
    drawn = oracle.random_panel(seed, n_contigs=1)
    records = [
        Record(position, ref, alts, [[h for h in range(4) if calls[h // 2][h % 2] == k + 1] for k in range(len(alts))])
        for _, position, ref, alts, calls in drawn["records"]
    ]
    found = decide(records, PLAIN._replace(policy=policy), letters(drawn["contigs"]["c0"]))
    n_calls = n_taken = 0
    for h in range(4):
        carried = oracle.carried(drawn, "c0", h // 2, h % 2)
        expected = [oracle.trimmed(*record) for record in oracle.accepted(carried, POLICIES[policy])]
        assert [edit[:3] for edit in found.edits if h in edit[3]] == [
            edit for edit in expected if edit[0] < edit[1] or edit[2]
        ]
        n_calls, n_taken = n_calls + len(carried), n_taken + len(expected)
    assert found.counts.get("calls", 0) == n_calls
    assert found.counts.get("conflicts", 0) == n_calls - n_taken
