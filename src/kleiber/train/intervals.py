"""A held-out score that no tokenizer can bend: the same hidden bases, between the same visible ones.

Once in so many stretches of `STRETCH` bases an interval of `WIDTH` is drawn from (seed, contig, position). The bases
on either side are cut there, each side is tokenized afresh, and in between stand as many [MASK] as `WIDTH` bases take
on their own: nothing that a model reads depends on what is hidden, and all models see equally many bases. Each base is
then scored alone: the distributions over tokens are marginalised over all ways to lay that many tokens over the
interval.

`MARGIN` hidden bases at either end are not scored. A cut is a place where tokens end, and there a tokenizer's rules
show: of 100 tokens of a BPE of human DNA two begin with G. The frequencies of its tokens cost up to a bit more than a
coin at the first and last hidden base, and further in as much as those of k-mers, to 0.003 bits. Rejected: masking the
tokens that overlap an interval, which leaves the segmentation in sight and with it 0.08 bits (BPE of 1,024).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from kleiber import counter
from kleiber.corpus.sampling import Corpus
from kleiber.errors import ConfigError
from kleiber.tokens.bits import bits_per_base
from kleiber.tokens.tokenizer import BASES, CODES, Tokenizer
from kleiber.train.batches import CLS, MASK, SEP
from kleiber.train.config import TrainConfig
from kleiber.train.evaluate import cluster_ids, clustered_se

__all__ = [
    "MARGIN",
    "STRETCH",
    "WIDTH",
    "Intervals",
    "base_chances",
    "lay_intervals",
    "score_frequencies",
    "score_intervals",
]

STRETCH, WIDTH, MARGIN = 64, 12, 3  # bases; words of 1, 2, 3, 4, 6 and 12 bases fill an interval
LEAST = 1e-30  # of a probability: so that each base has one
DRAWN = 4096  # words: how many tokens `WIDTH` bases take is a mean over them


@dataclass(frozen=True)
class Intervals:
    """N hidden intervals and what a model reads instead.

    Attributes
    ----------
    rows
        Rows of equal length together: numbers of their intervals (n,), ids (n, S), and positions (n, K) of the [MASK]s.
    codes
        int64 (N, `WIDTH` - 2 `MARGIN`): the scored bases as 0-3.
    clusters
        int64 (N,): the stretch of DNA that an interval belongs to, as in the evaluation.
    starts
        Contig and start (0-based, on the reference) of each.
    letters
        float32 (V, Σ 4·length): which base each token has at each place, a block of columns for every length of tokens.
    blocks
        Of each length, the first of its columns.
    """

    rows: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]
    codes: NDArray[np.int64]
    clusters: NDArray[np.int64]
    starts: list[tuple[str, int]]
    letters: NDArray[np.float32]
    blocks: dict[int, int]


def lay_intervals(heldout: Corpus, tokenizer: Tokenizer, train: TrainConfig) -> Intervals:
    """Lay `eval_rows` intervals at most over the territory of a corpus, on the reference.

    They depend on the territory and the row length, and not on the tokenizer. On either side a model sees what a row of
    single bases has room for.

    Raises
    ------
    ConfigError
        When the territory does not hold two, or tokens overlap.
    """
    if tokenizer.overlaps:
        raise ConfigError("Overlapping words hide no interval: a hidden base can be read off its neighbours.")
    flank = max(WIDTH, (train.row_tokens - WIDTH) // 2)
    starts = _starts(heldout, flank, train.eval_rows)
    bases = np.stack([heldout.reference.bases(contig)[s - flank : s + WIDTH + flank] for contig, s in starts])
    n_masks = _n_masks(tokenizer)
    sides = [_encoded(tokenizer, side) for side in (bases[:, :flank], bases[:, -flank:])]
    lengths = np.array([len(left) + len(right) for left, right in zip(*sides, strict=True)])
    rows = []
    for length in np.unique(lengths):
        which = np.flatnonzero(lengths == length)
        ids = np.stack([np.concatenate([[CLS], sides[0][i], [MASK] * n_masks, sides[1][i], [SEP]]) for i in which])
        first = np.array([1 + len(sides[0][i]) for i in which])
        rows.append((which, ids.astype(np.int64), first[:, None] + np.arange(n_masks)))
    codes = CODES[bases[:, flank + MARGIN : flank + WIDTH - MARGIN]].astype(np.int64)
    return Intervals(rows, codes, cluster_ids(starts, heldout.territory), starts, *_letters(tokenizer))


def _starts(heldout: Corpus, flank: int, most: int) -> list[tuple[str, int]]:
    """Draw where intervals begin, in stretches spread evenly over those that fit with their flanks."""
    fits = [(r.contig, -(-(r.start + flank) // STRETCH), (r.end - flank) // STRETCH) for r in heldout.territory]
    ends = np.cumsum([0, *(max(0, last - first) for _, first, last in fits)])
    if ends[-1] < 2:
        raise ConfigError(
            f"The held-out DNA holds {ends[-1]} intervals with {flank} bases on either side; at least 2 are needed.\n"
            "  Make [genome] holdout larger, or [train] length shorter."
        )
    starts = []
    for number in np.unique(np.linspace(0, ends[-1] - 1, most).astype(int)):
        i = int(np.searchsorted(ends, number, side="right")) - 1
        contig, stretch = fits[i][0], int(fits[i][1] + number - ends[i])
        drawn = counter.uniforms(0, counter.stream_id(f"intervals {contig}"), stretch, 1)[0]
        starts.append((contig, stretch * STRETCH + int(drawn * (STRETCH - WIDTH + 1))))
    return starts


def _encoded(tokenizer: Tokenizer, bases: NDArray[np.uint8]) -> list[NDArray[np.int32]]:
    """Return the ids of each row of bases, (n, L)."""
    ids, offsets = tokenizer.encode_batch(bases)
    return [ids[start:end] for start, end in pairwise(offsets)]


def _n_masks(tokenizer: Tokenizer) -> int:
    """Return how many tokens `WIDTH` bases take on their own, rounded; of drawn bases, so that no DNA decides it."""
    drawn = counter.uniforms(0, counter.stream_id("words"), 0, DRAWN * WIDTH).reshape(DRAWN, WIDTH)
    _, offsets = tokenizer.encode_batch(np.frombuffer(BASES.encode(), np.uint8)[(drawn * 4).astype(int)])
    return round(int(offsets[-1]) / DRAWN)


def _letters(tokenizer: Tokenizer) -> tuple[NDArray[np.float32], dict[int, int]]:
    """Return `Intervals.letters` and `Intervals.blocks`: of tokens that fit into an interval."""
    words = {i: CODES[np.frombuffer(tokenizer.tokens[i].encode(), np.uint8)] for i in range(5, tokenizer.vocab_size)}
    words = {i: codes for i, codes in words.items() if len(codes) <= WIDTH and codes.max() < 4}
    blocks, columns = {}, 0
    for length in sorted({len(codes) for codes in words.values()}):
        blocks[length] = columns
        columns += 4 * length
    letters = np.zeros((tokenizer.vocab_size, columns), np.float32)
    for i, codes in words.items():
        letters[i, blocks[len(codes)] + 4 * np.arange(len(codes)) + codes] = 1.0
    return letters, blocks


@torch.inference_mode()
def score_intervals(model: torch.nn.Module, intervals: Intervals, chunk: int = 64) -> tuple[float, float]:
    """Return the bits per base of the scored bases, and their standard error clustered by region."""
    model.eval()
    device = next(model.parameters()).device
    letters = torch.from_numpy(intervals.letters).to(device)
    n_masks = intervals.rows[0][2].shape[1]
    by_letter = np.empty((len(intervals.codes), n_masks, letters.shape[1]))
    for which, ids, positions in intervals.rows:
        for at in range(0, len(which), chunk):
            part = slice(at, at + chunk)
            logits = model(torch.from_numpy(ids[part]).to(device), rows=torch.from_numpy(positions[part]).to(device))
            probabilities = logits.float().softmax(-1).clamp_min(LEAST)
            by_letter[which[part]] = (probabilities @ letters).double().cpu().numpy()
    model.train()
    return _summary(by_letter, intervals)


def score_frequencies(frequencies: NDArray[np.float64], intervals: Intervals) -> tuple[float, float]:
    """Return what `score_intervals` does for a model that knows token frequencies, (V,), and nothing else."""
    n_masks = intervals.rows[0][2].shape[1]
    by_letter = np.maximum(frequencies, LEAST) @ intervals.letters.astype(float)
    return _summary(np.tile(by_letter, (len(intervals.codes), n_masks, 1)), intervals)


def _summary(by_letter: NDArray[np.float64], intervals: Intervals) -> tuple[float, float]:
    codes = intervals.codes
    chances = base_chances(by_letter, intervals.blocks)[:, MARGIN : WIDTH - MARGIN]
    nats = -np.log(np.take_along_axis(chances, codes[:, :, None], 2)[:, :, 0]).sum(1)
    se = clustered_se(nats, np.full(len(codes), codes.shape[1]), intervals.clusters)
    return bits_per_base(float(nats.sum()), codes.size), bits_per_base(se, 1)


def base_chances(by_letter: NDArray[np.float64], blocks: dict[int, int]) -> NDArray[np.float64]:
    """Return the chance of each letter at each base of an interval, (N, `WIDTH`, 4).

    The sum over all ways in which the tokens under K [MASK]s can fill the interval, found by going forward and backward
    over how far the first k of them reach.

    Parameters
    ----------
    by_letter
        (N, K, C): the distribution of each token times `Intervals.letters`.
    blocks
        `Intervals.blocks`.
    """
    n, n_masks, _ = by_letter.shape
    weight = {length: by_letter[:, :, at : at + 4].sum(-1) for length, at in blocks.items()}
    steps = [(s, length) for s in range(WIDTH) for length in blocks if s + length <= WIDTH]
    forward, backward = np.zeros((n_masks + 1, WIDTH + 1, n)), np.zeros((n_masks + 1, WIDTH + 1, n))
    forward[0, 0], backward[n_masks, WIDTH] = 1.0, 1.0
    for k in range(n_masks):
        for s, length in steps:
            forward[k + 1, s + length] += forward[k, s] * weight[length][:, k]
    for k in reversed(range(n_masks)):
        for s, length in steps:
            backward[k, s] += weight[length][:, k] * backward[k + 1, s + length]
    chances = np.zeros((n, WIDTH, 4))
    for k in range(n_masks):
        for s, length in steps:
            around = (forward[k, s] * backward[k + 1, s + length])[:, None, None]
            at = blocks[length]
            chances[:, s : s + length] += around * by_letter[:, k, at : at + 4 * length].reshape(n, length, 4)
    return chances / chances.sum(-1, keepdims=True)
