"""Counts of words against a dictionary of contexts, and against what is known of real DNA."""

from __future__ import annotations

import gzip
from collections import Counter
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.corpus.counts import WordCounts
from kleiber.tokens.tokenizer import CODES

BASES = st.text("ACGTN", max_size=60)


def codes(text: str) -> np.ndarray:
    return CODES[np.frombuffer(text.encode(), np.uint8)]


def turned(text: str) -> str:
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))


class Oracle:
    """Every context by name: what stands before a base and behind it."""

    def __init__(self, texts: list[str], both_strands: bool):
        self.seen = Counter()
        for text in texts:
            for strand in (text, turned(text)) if both_strands else (text,):
                for i in range(len(strand)):
                    for j in range(i + 1, len(strand) + 1):
                        if "N" not in strand[i:j]:
                            self.seen[strand[i:j]] += 1

    def guess(self, contexts: list[tuple[str, str]], weight: float) -> np.ndarray:
        """Back off through contexts, each longer than the last; those that are not in sight are left out."""
        p = np.full(4, 0.25)
        for before, behind in contexts:
            n = np.array([self.seen[before + base + behind] for base in "ACGT"])
            p = (n + weight * p) / (n.sum() + weight)
        return p


def sight(text: str, i: int, most: int) -> tuple[str, str]:
    """Return the letters before and behind position i, up to an N."""
    before, behind = text[:i].split("N")[-1], text[i + 1 :].split("N")[0]
    return before[max(0, len(before) - most) :], behind[:most]


@given(st.lists(BASES, max_size=3), BASES, st.sampled_from([1, 2, 3, 4, 5]), st.booleans(), st.sampled_from([0.5, 8.0]))
def test_every_model_by_brute_force(texts, text, longest, both_strands, weight):
    counts, oracle = WordCounts(longest, both_strands), Oracle(texts, both_strands)
    for one in texts:
        counts.add(codes(one))
    assert counts.n_bases == sum(len(one.replace("N", "")) for one in texts)
    nats, bases = counts.nats(codes(text), np.arange(len(text)) % 2, weight)
    expected = np.zeros_like(nats)
    for i, base in enumerate(text):
        if base == "N":
            continue
        before, behind = sight(text, i, longest - 1)
        chains = [(before[len(before) - k :], "") for k in range(len(before) + 1)]
        back = [("", behind[:k]) for k in range(len(behind) + 1)]
        sides = (longest - 1) // 2
        around = [(before[len(before) - k :], behind[:k]) for k in range(min(sides, len(before), len(behind)) + 1)]
        guesses = [oracle.guess(chains[: k + 1], weight) for k in range(longest)]
        guesses += [oracle.guess(around[: k + 1], weight) for k in range(sides + 1)]
        mean = (guesses[longest - 1] * oracle.guess(back, weight) * guesses[-1]) ** (1 / 3)
        for model, p in enumerate([*guesses, mean / mean.sum()]):
            expected[model, i % 2] -= log(p["ACGT".index(base)])
    np.testing.assert_allclose(nats, expected, rtol=1e-9, atol=1e-12)
    assert bases.sum() == len(text.replace("N", ""))


def test_by_hand():
    # In AACAAG the base between A and C or before G ...: A follows A twice, C and G once each.
    counts = WordCounts(2, both_strands=False)
    counts.add(codes("AACAAG"))
    nats, _ = counts.nats(codes("AA"), np.array([-1, 0]), 8.0)
    order_0 = (4 + 8 * 0.25) / (6 + 8)
    assert np.exp(-nats[0, 0]) == pytest.approx(order_0)
    assert np.exp(-nats[1, 0]) == pytest.approx((2 + 8 * order_0) / (4 + 8))


def test_pieces_and_chunks_do_not_matter(windows):
    """Rows with a 4 between them are the rows one by one; what is context only is scored nowhere."""
    rows = CODES[windows[:50]]
    apart, together = WordCounts(6), WordCounts(6)
    for row in rows:
        apart.add(row)
    together.add(np.pad(rows, ((0, 0), (0, 1)), constant_values=4).ravel())
    text, groups = CODES[windows[60]], np.where(np.arange(700) < 100, -1, 0)
    (one, n), (other, m) = apart.nats(text, groups), together.nats(text, groups)
    np.testing.assert_array_equal(one, other)
    assert n == m == 600


def test_both_strands_read_alike(windows):
    """A chain from the left on one strand is the chain from the right on the other."""
    counts = WordCounts(6)
    counts.add(CODES[windows[:200]].ravel())
    text = CODES[windows[300]]
    zeros = np.zeros(700, np.int64)
    one, other = counts.nats(text, zeros)[0], counts.nats(3 - text[::-1], zeros)[0]
    sides = [i for i, name in enumerate(counts.models) if name.startswith("two-sided")]
    np.testing.assert_allclose(one[sides], other[sides], rtol=1e-12)


def test_chromosome_20(shared_data):
    """Two-sided counts of 4-24 Mb score 1.652 bits on 3-4 Mb, those of all but 3-4 Mb 1.613 (found by other code)."""
    text = gzip.decompress((shared_data / "demo_grch37_chr20" / "chr20.GRCh37.fa.gz").read_bytes())
    bases = CODES[np.frombuffer(text.split(b"\n", 1)[1].replace(b"\n", b""), np.uint8)]
    scored = bases[3_000_000:4_000_000]
    counts = WordCounts(11, both_strands=False)
    row = counts.models.index("two-sided-5")
    for stretches, expected in (
        ([bases[4_000_000:24_000_000]], 1.652),
        ([bases[:3_000_000], bases[24_000_000:]], 1.613),
    ):
        for one in stretches:
            counts.add(one)
        nats, n = counts.nats(scored, np.zeros(len(scored), np.int64), 8.0)
        assert nats[row, 0] / log(2) / n[0] == pytest.approx(expected, abs=0.01)
