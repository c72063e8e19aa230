"""What a model reads to compare two alleles: rows of tokens with the allele hidden, on both strands. No torch.

Alleles of one length (SNVs, MNVs). The DNA is cut at the variant and its sides are cut into tokens anew, so that no
token lies across the cut and both alleles have the same sides. [MASK]s stand for the allele's own tokens; where both
alleles take as many, as in every SNV, they share one row a strand. Words of k bases have no tokens for less that
training ever reads, so there the cut lies around the word, or words, with the variant in the middle.

Alleles of other lengths (indels) cannot share a row. Each allele's window is cut into tokens as a whole, every token
within `REACH` bases of the allele is hidden in turn, and the sum of their log-likelihoods is divided by the bases they
cover (pseudo-likelihood a base: Salazar et al. 2020, doi:10.18653/v1/2020.acl-main.240).

Sides end where a contig does, or at an N, which no model has read; such rows are shorter and are counted. Rejected:
one tokenization of the whole window for SNVs, in which BPE cuts the two alleles into other tokens, so that their
likelihoods are of different things.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kleiber.corpus.sampling import COMPLEMENT
from kleiber.downstream.variants import Variant
from kleiber.errors import ConfigError
from kleiber.genome.reference import Reference
from kleiber.tokens.tokenizer import CODES, SPECIALS, Tokenizer

__all__ = ["CLS", "REACH", "SEP", "Laid", "Layout", "sides"]

REACH = 12  # bases on either side of an indel whose tokens are scored
WIDEST = 8  # bases a token, at which flanks are fetched: rows of wider tokens are a little shorter
CLS, SEP, MASK = (SPECIALS.index(name) for name in ("[CLS]", "[SEP]", "[MASK]"))
TURN = COMPLEMENT.tobytes()  # a table for `bytes.translate`
Bases = NDArray[np.uint8]


@dataclass
class Laid:
    """Rows of some variants, and how their scores are put together.

    Attributes
    ----------
    masked
        (ids, positions) of rows with [MASK]s, each once.
    terms
        For each variant and each strand, for REF and for ALT: (row, place among its positions, token) of each token
        whose log-likelihood counts, and the number of bases by which their sum is divided.
    whole
        Rows without [MASK]s, each once, for the embeddings; none when they are not asked for.
    pairs
        For each variant and each strand: the numbers of REF's and of ALT's row in `whole`, where there are any.
    why_not
        For each variant, why it has no score; empty where it has.
    n_cut
        Variants beside which a contig ends, or an N stands, within the row.
    """

    masked: list[tuple[list[int], list[int]]] = field(default_factory=list)
    terms: list[list[tuple[_Terms, _Terms]]] = field(default_factory=list)
    whole: list[list[int]] = field(default_factory=list)
    pairs: list[list[tuple[int, int]]] = field(default_factory=list)
    why_not: list[str] = field(default_factory=list)
    n_cut: int = 0


_Terms = tuple[list[tuple[int, int, int]], int]


class Layout:
    """Lays rows of one tokenizer on one reference.

    Parameters
    ----------
    row_tokens
        Tokens of DNA in a row, at most.

    Raises
    ------
    ConfigError
        When tokens overlap: a hidden base can then be read off its neighbours.
    """

    def __init__(self, reference: Reference, tokenizer: Tokenizer, row_tokens: int):
        if tokenizer.overlaps:
            raise ConfigError("Overlapping words hide no allele: a hidden base can be read off its neighbours.")
        self.reference, self.tokenizer, self.row_tokens = reference, tokenizer, row_tokens
        self.word = int(getattr(tokenizer, "k", 1))
        self.flank = -(-row_tokens // 2) * min(tokenizer.max_token_length, WIDEST)

    def lay(self, variants: Sequence[Variant], whole: bool) -> Laid:
        """Lay the rows of some variants; those with a `why_not` get none.

        Parameters
        ----------
        whole
            Lay rows without [MASK]s, too.
        """
        sites = {_site(v): None for v in variants if not v.why_not}
        cut = {site: found for site in sites if (found := self._cut(*site)) is not None}
        stretches = {side for found in cut.values() for strand in found.strands for side in strand}
        for variant in variants:
            there = cut.get(_site(variant))
            if there and not variant.is_indel and not variant.why_not:
                stretches.update(there.cores(variant.ref), there.cores(variant.alt))
        laying = _Laying(Laid(), self._encode_all(stretches), whole)
        laid = laying.laid
        for variant in variants:
            found = cut.get(_site(variant))
            why = variant.why_not or ("" if found else "with no room for a word")
            laid.terms.append([])
            laid.pairs.append([])
            if not why:
                assert found is not None
                why = (self._lay_indel if variant.is_indel else self._lay_same_length)(variant, found, laying)
                laid.n_cut += found.is_cut and not why
            laid.why_not.append(why)
        return laid

    def _cut(self, contig: str, start: int, length: int) -> _Cut | None:
        """Return the DNA around a variant, cut into sides and core; None where no whole word fits."""
        around = sides(self.reference, contig, start, start + length, self.flank + self.word)
        left, right = (side.tobytes() for side in around)
        size = -(-length // self.word) * self.word
        before = min((size - length) // 2, len(left))
        after = min(size - length - before, len(right))
        before = size - length - after
        if before > len(left):
            return None
        outer_left, inner_left = left[: len(left) - before], left[len(left) - before :]
        inner_right, outer_right = right[:after], right[after:]
        is_cut = min(len(outer_left), len(outer_right)) < self.flank
        outer_left = outer_left[max(0, len(outer_left) - self.flank) :]
        outer_right = outer_right[: self.flank]
        outer_left = outer_left[len(outer_left) % self.word :]
        turned = _turned(outer_right)
        strands = ((outer_left, outer_right), (turned[len(turned) % self.word :], _turned(outer_left)))
        return _Cut(inner_left, inner_right, strands, is_cut, (left, right))

    def _lay_same_length(self, variant: Variant, cut: _Cut, laying: _Laying) -> str:
        laid, site = laying.laid, _site(variant)
        alleles = [[laying.ids[core] for core in cut.cores(allele)] for allele in (variant.ref, variant.alt)]
        if max(len(tokens) for by_strand in alleles for tokens in by_strand) > self.row_tokens // 2:
            return "longer than half a row"
        for strand in (0, 1):
            left, right = (laying.ids[side] for side in cut.strands[strand])
            terms, pair = [], []
            for tokens in (by_strand[strand] for by_strand in alleles):
                n = len(tokens)
                n_left = min(len(left), (self.row_tokens - n) // 2)
                n_right = self.row_tokens - n - (self.row_tokens - n) // 2
                begin, end, first = [CLS, *left[len(left) - n_left :]], [*right[:n_right], SEP], n_left + 1
                row, is_new = laying.number((site, strand, n, "masked"), len(laid.masked))
                if is_new:
                    laid.masked.append(([*begin, *[MASK] * n, *end], list(range(first, first + n))))
                terms.append(([(row, place, token) for place, token in enumerate(tokens)], 1))
                if laying.whole:
                    pair.append(laying.put_whole((site, strand, tuple(tokens)), [*begin, *tokens, *end]))
            laid.terms[-1].append((terms[0], terms[1]))
            if laying.whole:
                laid.pairs[-1].append((pair[0], pair[1]))
        return ""

    def _lay_indel(self, variant: Variant, cut: _Cut, laying: _Laying) -> str:
        laid = laying.laid
        left, right = cut.around
        for strand in (0, 1):
            terms, pair = [], []
            for allele in (variant.ref, variant.alt):
                window = [left, allele.encode(), right]
                if strand:
                    window = [_turned(part) for part in reversed(window)]
                if odd := len(window[0]) % self.word:  # words begin where a side does that is a whole number of them
                    window[0] = window[0][odd:]
                ids = self.tokenizer.encode(np.frombuffer(b"".join(window), np.uint8)).tolist()
                ends = np.cumsum(self.tokenizer.token_lengths[ids])
                first, last = len(window[0]), len(window[0]) + len(allele)
                starts = ends - self.tokenizer.token_lengths[ids]
                over = np.flatnonzero((starts < last + REACH) & (ends > first - REACH))
                if len(over) > self.row_tokens:
                    return "longer than half a row"
                begin = max(0, int(over[0]) - (self.row_tokens - len(over)) // 2)
                stop = min(len(ids), begin + self.row_tokens)
                begin = max(0, stop - self.row_tokens)
                row_ids = [CLS, *ids[begin:stop], SEP]
                parts = []
                for number in over:
                    place = int(number) - begin + 1
                    laid.masked.append(([*row_ids[:place], MASK, *row_ids[place + 1 :]], [place]))
                    parts.append((len(laid.masked) - 1, 0, ids[number]))
                terms.append((parts, int(self.tokenizer.token_lengths[[ids[i] for i in over]].sum())))
                if laying.whole:
                    pair.append(laying.put_whole((_site(variant), strand, allele), row_ids))
            laid.terms[-1].append((terms[0], terms[1]))
            if laying.whole:
                laid.pairs[-1].append((pair[0], pair[1]))
        return ""

    def _encode_all(self, stretches: Iterable[bytes]) -> dict[bytes, list[int]]:
        """Return the ids of stretches of any lengths, those of one length encoded at once."""
        found: dict[bytes, list[int]] = {}
        by_length: dict[int, list[bytes]] = {}
        for stretch in stretches:
            by_length.setdefault(len(stretch), []).append(stretch)
        for length, alike in by_length.items():
            if not length:
                found[b""] = []
                continue
            ids, offsets = self.tokenizer.encode_batch(np.frombuffer(b"".join(alike), np.uint8).reshape(-1, length))
            every, at = ids.tolist(), offsets.tolist()
            found |= {stretch: every[at[i] : at[i + 1]] for i, stretch in enumerate(alike)}
        return found


@dataclass
class _Laying:
    """Rows that are being laid, the ids of stretches of DNA, and the numbers of rows that are there."""

    laid: Laid
    ids: dict[bytes, list[int]]
    whole: bool
    numbers: dict[Hashable, int] = field(default_factory=dict)

    def number(self, key: Hashable, free: int) -> tuple[int, bool]:
        """Return the number of a row, `free` when it has none yet, and whether that is so."""
        number = self.numbers.setdefault(key, free)
        return number, number == free

    def put_whole(self, key: Hashable, ids: list[int]) -> int:
        """Return the number of a row without [MASK]s, which is added when it is not there yet."""
        number, is_new = self.number((key, "whole"), len(self.laid.whole))
        if is_new:
            self.laid.whole.append(ids)
        return number


@dataclass(frozen=True)
class _Cut:
    """DNA around a variant.

    Attributes
    ----------
    inner_left, inner_right
        Bases that share a word with the variant.
    strands
        (left, right) of what lies beyond them, forward and from the other strand.
    around
        All bases on either side of the variant.
    """

    inner_left: bytes
    inner_right: bytes
    strands: tuple[tuple[bytes, bytes], tuple[bytes, bytes]]
    is_cut: bool
    around: tuple[bytes, bytes]

    def cores(self, allele: str) -> tuple[bytes, bytes]:
        """Return an allele with the bases that share a word with it, forward and from the other strand."""
        core = self.inner_left + allele.encode() + self.inner_right
        return core, _turned(core)


def sides(reference: Reference, contig: str, start: int, end: int, most: int) -> tuple[Bases, Bases]:
    """Return up to `most` bases on either side of [start, end), (n,) each, up to an end or an N."""
    bases = reference.bases(contig)
    left, right = bases[max(0, start - most) : start], bases[end : end + most]
    if len(bad := np.flatnonzero(CODES[left] > 3)):
        left = left[bad[-1] + 1 :]
    if len(bad := np.flatnonzero(CODES[right] > 3)):
        right = right[: bad[0]]
    return np.asarray(left), np.asarray(right)


def _site(variant: Variant) -> tuple[str, int, int]:
    return variant.contig, variant.start, len(variant.ref)


def _turned(bases: bytes) -> bytes:
    return bases.translate(TURN)[::-1]
