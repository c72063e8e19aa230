"""How well counting alone predicts a base: words of 1 to 13 bases are counted, and every model is read from them.

A chain of order k asks how often each base follows the k bases before it; two-sided counts, how often it stands between
the f bases on either side of it. A masked model sees both sides, so two-sided counts are its fair opponent, and a chain
is that of a model that reads from left to right. All back off: from a uniform guess, each base more of context gives

    p = (n + w · p_before) / (N + w),

where n of N bases seen in that context were this one, and w = `weight` (a Dirichlet prior around the shorter context;
MacKay and Peto 1995). Both strands are counted, as DNA is read from either.

Only words of the greatest length are counted one by one; the shorter ones are their sums, and the words at the ends of
stretches that no longer word covers. So counting costs one access of memory a base and strand, and memory does not grow
with the data. Rejected: Kneser-Ney smoothing, whose discounts are made for words of which most are rare, and a
mixture with fitted weights, which would have to be fitted on DNA that it is not scored on.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["LONGEST", "WEIGHT", "WordCounts"]

LONGEST = 13  # bases: tables of 450 MB, chains up to order 12
WEIGHT = 16.0
BLOCK = 65_536  # bases that a thread scores at once


class WordCounts:
    """Counts of all words of 1 to `longest` bases in the DNA that was added so far.

    Parameters
    ----------
    longest
        Memory is about 7 · 4^longest bytes.
    both_strands
        Whether the reverse complement is counted, too.
    """

    def __init__(self, longest: int = LONGEST, both_strands: bool = True):
        self.longest, self.both_strands = longest, both_strands
        self.n_bases = 0
        self._words = np.zeros(_first_word(longest + 1), np.uint32)
        self._ends = np.zeros(_first_word(longest), np.uint32)  # shorter words that no longer one covers

    def add(self, codes: NDArray[np.uint8]) -> None:
        """Count a stretch of bases, (n,): A C G T as 0-3; anything else ends a word, and none goes across it."""
        longest = self._words[_first_word(self.longest) :]
        self.n_bases += int(_count(np.ascontiguousarray(codes), self.longest, self.both_strands, longest, self._ends))

    @property
    def models(self) -> tuple[str, ...]:
        """The models that `nats` scores, in its order."""
        chains = [f"markov-{order}" for order in range(self.longest)]
        sides = [f"two-sided-{side}" for side in range((self.longest + 1) // 2)]
        return (*chains, *sides, "two-sided-mean")

    def nats(
        self, codes: NDArray[np.uint8], groups: NDArray[np.int64], weight: float = WEIGHT
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Score the bases of a stretch by every model.

        Near an end of a stretch the models see as much context as there is.

        Parameters
        ----------
        codes
            (n,) as for `add`.
        groups
            (n,) the group, from 0, that each base belongs to; -1 where it is only context.
        weight
            w above.

        Returns
        -------
        Sums of the negative log-probabilities, float64 (models, groups), and int64 (groups,): the bases in each.
        ``"markov-k"`` sees the k bases before, ``"two-sided-f"`` the f bases on either side, and ``"two-sided-mean"``
        is the normalised geometric mean of the widest two-sided counts and the longest chain from either end.
        """
        words = self._sum_up()
        codes, n_groups = np.ascontiguousarray(codes), int(groups.max(initial=-1)) + 1
        blocks = range(0, len(codes), BLOCK)  # the same however many threads there are, and so is the sum
        found = [(np.zeros((len(self.models), n_groups)), np.zeros(n_groups, np.int64)) for _ in blocks]

        def score(start: int, into: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
            _score(codes, groups, start, min(start + BLOCK, len(codes)), self.longest, weight, words, *into)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(score, blocks, found))
        nats, bases = np.zeros((len(self.models), n_groups)), np.zeros(n_groups, np.int64)
        for part in found:
            nats += part[0]
            bases += part[1]
        return nats, bases

    def _sum_up(self) -> NDArray[np.uint32]:
        """Return the counts of all words (see `_first_word`), the shorter ones summed from the longest."""
        for k in range(self.longest - 1, 0, -1):
            at = slice(_first_word(k), _first_word(k + 1))
            longer = self._words[at.stop : at.stop + 4 ** (k + 1)].reshape(4, -1)  # by the first base
            np.add.reduce(longer, out=self._words[at])
            self._words[at] += self._ends[at]
        return self._words


def _first_word(k: int) -> int:
    """Return where the words of k bases begin among all: after 4 + 16 + ... + 4^(k-1) shorter ones."""
    return int((4**k - 4) // 3)


@njit(cache=True, nogil=True)
def _count(codes, longest, both_strands, words, ends):
    """Count the words of the greatest length, and at both ends of each run the shorter ones; return the bases."""
    mask = np.int64(4**longest - 1)
    top = 2 * (longest - 1)
    word, turned, run, bases = np.int64(0), np.int64(0), 0, 0
    for i in range(codes.size + 1):
        if i < codes.size and codes[i] < 4:
            code = np.int64(codes[i])
            word = (word << 2 | code) & mask
            turned = turned >> 2 | (3 - code) << top
            run += 1
            bases += 1
            if run >= longest:
                words[word] += np.uint32(1)
                if both_strands:
                    words[turned] += np.uint32(1)
            else:  # the first `run` bases
                ends[(4**run - 4) // 3 + word] += np.uint32(1)
        elif run:
            if both_strands:  # the last k bases are the first of the other strand
                for k in range(1, min(run + 1, longest)):
                    ends[(4**k - 4) // 3 + (turned >> 2 * (longest - k))] += np.uint32(1)
            word, turned, run = np.int64(0), np.int64(0), 0
    return bases


@njit(inline="always")
def _back_off(p, words, first, step, weight):
    """Replace p, (4,), by the guess of one base more: counts of the four bases are `step` apart."""
    n0, n1 = np.float64(words[first]), np.float64(words[first + step])
    n2, n3 = np.float64(words[first + 2 * step]), np.float64(words[first + 3 * step])
    share = 1.0 / (n0 + n1 + n2 + n3 + weight)
    p[0] = (n0 + weight * p[0]) * share
    p[1] = (n1 + weight * p[1]) * share
    p[2] = (n2 + weight * p[2]) * share
    p[3] = (n3 + weight * p[3]) * share


@njit(cache=True, nogil=True, error_model="numpy")
def _score(codes, groups, start, stop, longest, weight, words, nats, bases):
    """Add the nats of each base in [start, stop) by each model to its group."""
    sides = (longest - 1) // 2
    before, behind, around, p = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for i in range(start, stop):
        code = codes[i]
        group = groups[i]
        if code > 3 or group < 0:
            continue
        bases[group] += 1
        left, right = 0, 0  # bases in sight on either side
        while left < longest - 1 and i - left > 0 and codes[i - left - 1] < 4:
            left += 1
        while right < longest - 1 and i + right + 1 < codes.size and codes[i + right + 1] < 4:
            right += 1
        before[:], behind[:], around[:] = 0.25, 0.25, 0.25
        context, first, size = np.int64(0), np.int64(0), np.int64(4)
        for k in range(longest):  # chains: the word of k + 1 bases that ends here
            if k <= left:
                if k:
                    context |= np.int64(codes[i - k]) << 2 * (k - 1)
                _back_off(before, words, first + (context << 2), 1, weight)
            nats[k, group] -= np.log(before[code])
            first += size
            size <<= 2
        context, first, size = np.int64(0), np.int64(0), np.int64(4)
        for k in range(right + 1):  # the word of k + 1 bases that begins here
            if k:
                context = context << 2 | np.int64(codes[i + k])
            _back_off(behind, words, first + context, size >> 2, weight)
            first += size
            size <<= 2
        context, far, first, size = np.int64(0), np.int64(0), np.int64(0), np.int64(4)
        for side in range(sides + 1):  # the word of 2 * side + 1 bases around here
            if side <= min(left, right):
                if side:
                    context = context << 2 | np.int64(codes[i + side])
                    far |= np.int64(codes[i - side]) << 2 * (side - 1)
                _back_off(around, words, first + (far << 2 * (side + 1)) + context, np.int64(1) << 2 * side, weight)
            nats[longest + side, group] -= np.log(around[code])
            first += 5 * size
            size <<= 4
        total = 0.0
        for b in range(4):
            p[b] = np.cbrt(before[b] * behind[b] * around[b])
            total += p[b]
        nats[longest + sides + 1, group] -= np.log(p[code] / total)
