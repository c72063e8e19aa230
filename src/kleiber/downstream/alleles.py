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

from collections.abc import Sequence
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
        Rows without [MASK]s, each once, for the embeddings.
    pairs
        For each variant and each strand: the numbers of REF's and of ALT's row in `whole`.
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
        first = len(SPECIALS)
        if any(len(tokenizer.tokens[i]) != tokenizer.token_lengths[i] for i in range(first, tokenizer.vocab_size)):
            raise ConfigError("Overlapping words hide no allele: a hidden base can be read off its neighbours.")
        self.reference, self.tokenizer, self.row_tokens = reference, tokenizer, row_tokens
        self.word = int(getattr(tokenizer, "k", 1))
        self.flank = -(-row_tokens // 2) * min(tokenizer.max_token_length, WIDEST)

    def lay(self, variants: Sequence[Variant]) -> Laid:
        """Lay the rows of some variants; those with a `why_not` get none."""
        laid = Laid()
        numbers: dict[tuple, int] = {}  # of rows that are there
        sites = {(v.contig, v.start, len(v.ref)): None for v in variants if not v.why_not}
        cut = {site: self._cut(*site) for site in sites}
        codes = self._encode_all(
            [side for found in cut.values() if found for strand in found.strands for side in strand]
        )
        tokens, at = {}, 0
        for site, found in cut.items():
            if found:
                tokens[site] = codes[at : at + 4]
                at += 4
        for variant in variants:
            site = (variant.contig, variant.start, len(variant.ref))
            found = cut.get(site)
            why = variant.why_not or ("" if found else "with no room for a word")
            laid.terms.append([])
            laid.pairs.append([])
            if not why:
                assert found is not None
                lay = self._lay_indel if variant.is_indel else self._lay_same_length
                why = lay(variant, found, tokens[site], laid, numbers)
                laid.n_cut += found.is_cut and not why
            laid.why_not.append(why)
        return laid

    def _cut(self, contig: str, start: int, length: int) -> _Cut | None:
        """Return the DNA around a variant, cut into sides and core; None where no whole word fits."""
        left, right = sides(self.reference, contig, start, start + length, self.flank + self.word)
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

    def _lay_same_length(
        self, variant: Variant, cut: _Cut, sides: list[list[int]], laid: Laid, numbers: dict[tuple, int]
    ) -> str:
        for strand in (0, 1):
            left, right = sides[2 * strand], sides[2 * strand + 1]
            alleles = []
            for allele in (variant.ref, variant.alt):
                core = np.concatenate([cut.inner_left, _ascii(allele), cut.inner_right])
                alleles.append(self._encode(_turned(core) if strand else core))
            if max(map(len, alleles)) > self.row_tokens // 2:
                return "longer than half a row"
            terms, whole = [], []
            for tokens in alleles:
                n = len(tokens)
                n_left = min(len(left), (self.row_tokens - n) // 2)
                n_right = min(len(right), self.row_tokens - n - (self.row_tokens - n) // 2)
                begin, end = [CLS, *left[len(left) - n_left :]], [*right[:n_right], SEP]
                places = list(range(len(begin), len(begin) + n))
                key = (variant.contig, variant.start, len(variant.ref), strand, n)
                row = numbers.setdefault((*key, "masked"), len(laid.masked))
                if row == len(laid.masked):
                    laid.masked.append(([*begin, *[MASK] * n, *end], places))
                terms.append(([(row, place, token) for place, token in enumerate(tokens)], 1))
                whole.append(self._whole(laid, numbers, (*key, tuple(tokens)), [*begin, *tokens, *end]))
            laid.terms[-1].append((terms[0], terms[1]))
            laid.pairs[-1].append((whole[0], whole[1]))
        return ""

    def _lay_indel(
        self, variant: Variant, cut: _Cut, sides: list[list[int]], laid: Laid, numbers: dict[tuple, int]
    ) -> str:
        left, right = cut.around
        for strand in (0, 1):
            terms, whole = [], []
            for allele in (variant.ref, variant.alt):
                window = [left, _ascii(allele), right]
                if strand:
                    window = [_turned(part) for part in reversed(window)]
                if odd := len(window[0]) % self.word:  # words begin where a side does that is a whole number of them
                    window[0] = window[0][odd:]
                ids = self._encode(np.concatenate(window))
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
                    masked = [*row_ids[:place], MASK, *row_ids[place + 1 :]]
                    laid.masked.append((masked, [place]))
                    parts.append((len(laid.masked) - 1, 0, ids[number]))
                terms.append((parts, int(self.tokenizer.token_lengths[[ids[i] for i in over]].sum())))
                key = (variant.contig, variant.start, len(variant.ref), strand, allele, "window")
                whole.append(self._whole(laid, numbers, key, row_ids))
            laid.terms[-1].append((terms[0], terms[1]))
            laid.pairs[-1].append((whole[0], whole[1]))
        return ""

    @staticmethod
    def _whole(laid: Laid, numbers: dict[tuple, int], key: tuple, ids: list[int]) -> int:
        """Return the number of a row without [MASK]s, which is added when it is not there yet."""
        number = numbers.setdefault((*key, "whole"), len(laid.whole))
        if number == len(laid.whole):
            laid.whole.append(ids)
        return number

    def _encode(self, bases: Bases) -> list[int]:
        return self.tokenizer.encode(bases).tolist()

    def _encode_all(self, rows: list[Bases]) -> list[list[int]]:
        """Return the ids of stretches of any lengths, those of one length encoded at once."""
        found: list[list[int]] = [[] for _ in rows]
        by_length: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(number)
        for length, which in by_length.items():
            if length:
                ids, offsets = self.tokenizer.encode_batch(np.stack([rows[i] for i in which]))
                for i, number in enumerate(which):
                    found[number] = ids[offsets[i] : offsets[i + 1]].tolist()
        return found


@dataclass(frozen=True)
class _Cut:
    """DNA around a variant.

    Attributes
    ----------
    inner_left, inner_right
        Bases that share a word with the variant.
    strands
        (left, right) of those, forward and from the other strand.
    around
        All bases on either side of the variant.
    """

    inner_left: Bases
    inner_right: Bases
    strands: tuple[tuple[Bases, Bases], tuple[Bases, Bases]]
    is_cut: bool
    around: tuple[Bases, Bases]


def sides(reference: Reference, contig: str, start: int, end: int, most: int) -> tuple[Bases, Bases]:
    """Return up to `most` bases on either side of [start, end), (n,) each, up to an end or an N."""
    bases = reference.bases(contig)
    left, right = bases[max(0, start - most) : start], bases[end : end + most]
    if len(bad := np.flatnonzero(CODES[left] > 3)):
        left = left[bad[-1] + 1 :]
    if len(bad := np.flatnonzero(CODES[right] > 3)):
        right = right[: bad[0]]
    return np.asarray(left), np.asarray(right)


def _turned(bases: Bases) -> Bases:
    return COMPLEMENT[bases[::-1]]


def _ascii(text: str) -> Bases:
    return np.frombuffer(text.encode(), np.uint8)
