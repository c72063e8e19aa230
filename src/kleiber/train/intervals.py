"""A held-out score that no tokenizer can bend: the same bases, masked and scored one by one.

In every stretch of `STRETCH` bases one interval of `WIDTH` is drawn from (seed, contig, position), whatever the
tokenizer. All tokens that overlap an interval are [MASK], and each of its bases is scored by marginalising the token
distribution (`kleiber.tokens.bits.base_nats`). Bits per base of masked tokens average over tokens as they fall, long
ones with the easy repeats; this score asks every model for the same bases. Rejected: masking the bases themselves,
which non-overlapping tokens cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kleiber import counter
from kleiber.tokens.bits import base_nats, bits_per_base, letters
from kleiber.tokens.tokenizer import CODES, Tokenizer
from kleiber.train.batches import MASK
from kleiber.train.evaluate import Evaluation, clustered_se

__all__ = ["STRETCH", "WIDTH", "Intervals", "lay_intervals", "score_intervals"]

STRETCH, WIDTH = 64, 6  # about as many tokens are masked as under ordinary masks


@dataclass(frozen=True)
class Intervals:
    """The bases that are scored, N of them.

    Attributes
    ----------
    rows, tokens, places, codes
        int64 (N,): the row of the evaluation, the token in it ([CLS] is 0), the base's place in the token, and the
        base as 0-3.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    places: NDArray[np.int64]
    codes: NDArray[np.int64]


def lay_intervals(evaluation: Evaluation, tokenizer: Tokenizer, seed: int) -> Intervals:
    """Find the scored bases in the rows of an evaluation.

    Intervals that a row does not hold whole are left out.
    """
    parts = [_of_row(ids, tile, tokenizer, seed) for ids, tile in zip(evaluation.ids, evaluation.tiles, strict=True)]
    rows = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
    tokens, places, codes = np.concatenate(parts, axis=1)
    return Intervals(rows, tokens, places, codes)


def _of_row(ids: NDArray[np.int64], tile: tuple[str, int], tokenizer: Tokenizer, seed: int) -> NDArray[np.int64]:
    """Return (3, n): token, place and code of each scored base of a row."""
    contig, start = tile
    inner = ids[1:-1]
    bases = CODES[np.frombuffer(tokenizer.decode(inner).encode(), np.uint8)]
    lengths = np.asarray(tokenizer.token_lengths)[inner]
    token = np.repeat(np.arange(len(inner)), lengths) + 1
    place = np.arange(len(bases)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    offsets = np.concatenate(
        [_interval(seed, contig, s) for s in range(start // STRETCH, (start + len(bases) - 1) // STRETCH + 1)]
    )
    offsets = offsets.reshape(-1, WIDTH) - start
    whole = offsets[(offsets[:, 0] >= 0) & (offsets[:, -1] < len(bases))].ravel()
    whole = whole[bases[whole] < 4]
    return np.stack([token[whole], place[whole], bases[whole]])


def _interval(seed: int, contig: str, stretch: int) -> NDArray[np.int64]:
    """Return the positions (0-based, on the contig) that are scored in one stretch."""
    drawn = counter.uniforms(seed, counter.stream_id(f"intervals {contig}"), stretch, 1)[0]
    return stretch * STRETCH + int(drawn * (STRETCH - WIDTH + 1)) + np.arange(WIDTH)


@torch.inference_mode()
def score_intervals(
    model: nn.Module, evaluation: Evaluation, intervals: Intervals, tokenizer: Tokenizer, chunk: int = 64
) -> tuple[float, float]:
    """Return the bits per base of the intervals, and their standard error clustered by region."""
    model.eval()
    device = next(model.parameters()).device
    table = torch.from_numpy(letters(tokenizer)).to(device)
    flat = table.flatten(1)
    sums, sizes = np.zeros(len(evaluation.ids)), np.bincount(intervals.rows, minlength=len(evaluation.ids))
    for first in range(0, len(evaluation.ids), chunk):
        ids = torch.from_numpy(evaluation.ids[first : first + chunk]).to(device)
        part = slice(*np.searchsorted(intervals.rows, [first, first + len(ids)]))
        rows, tokens = intervals.rows[part] - first, intervals.tokens[part]
        at, index = _masked(rows, tokens, len(ids))
        positions = torch.from_numpy(at).to(device)
        probabilities = model(ids.scatter(1, positions, MASK), rows=positions).float().softmax(-1)
        by_letter = (probabilities @ flat).unflatten(-1, table.shape[1:])[
            torch.from_numpy(rows), torch.from_numpy(index)
        ]
        nats = base_nats(by_letter.double().cpu().numpy(), intervals.places[part], intervals.codes[part])
        sums[first : first + len(ids)] = np.bincount(rows, nats, minlength=len(ids))
    model.train()
    se = clustered_se(sums, sizes, evaluation.clusters)
    return bits_per_base(float(sums.sum()), int(sizes.sum())), bits_per_base(se, 1)


def _masked(rows: NDArray[np.int64], tokens: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which tokens of each row are masked, (n, K) with repeats where a row has fewer, and each base's k."""
    each: Sequence[NDArray[np.int64]] = [np.unique(tokens[rows == row]) for row in range(n)]
    k = max(1, *(len(found) for found in each))
    at = np.ones((n, k), np.int64)  # a row without an interval masks its first token, which nothing reads
    for row, found in enumerate(each):
        if len(found):
            at[row] = np.resize(found, k)
    index = np.array([np.searchsorted(each[row], token) for row, token in zip(rows, tokens, strict=True)], np.int64)
    return at, index
