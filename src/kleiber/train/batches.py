"""Corpus, tokenizer and masks become tensors of fixed shape: a pure function of (seed, step).

Row i of a run is window i of its corpus, read on along the same haplotype until the row is full; its masks are draws
of (seed, "masks", i). So resuming is an integer, and a batch does not depend on workers or on how it is divided.
Rejected: a data loader with workers, which costs more than the 1-2 % of a step that preparing a batch takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber import counter
from kleiber.corpus.sampling import Corpus
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.config import TrainConfig

__all__ = ["Batch", "Batches", "draw_positions"]

CLS, SEP, MASK, FIRST_TOKEN = 1, 2, 4, 5
COUNTED_ROWS = 2000  # whose tokens tell their frequencies
MASKS = np.uint64(counter.stream_id("masks"))


@dataclass(frozen=True)
class Batch:
    """B rows of S tokens of which K are predicted.

    Attributes
    ----------
    inputs
        int64 (B, S): [CLS], the row's tokens with some of them masked, [SEP].
    positions, labels
        int64 (B, K): where the predicted tokens stand in the row, and what they are.
    weights
        float32 (B,): what the summed loss of each row counts for; with them the loss is that of the whole batch however
        it is cut into micro-batches and processes.
    n_bases
        Bases that the rows hold; of a stack those of each run.
    padding
        int64 (B, S), 0 at [PAD]; None where every row is full.
    """

    inputs: NDArray[np.int64]
    positions: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    n_bases: int | NDArray[np.int64]
    padding: NDArray[np.int64] | None = None


@njit(cache=True, nogil=True)
def draw_positions(seed, stream, index, n, out):
    """Fill `out` with distinct numbers below `n`, in random order; return the next unused draw."""
    order = np.arange(n)
    used = np.uint64(0)
    for i in range(out.size):
        j, used = counter.bounded(seed, stream, index, used, n - i)
        k = i + np.int64(j)
        order[i], order[k] = order[k], order[i]
        out[i] = order[i]
    return used


@njit(cache=True, nogil=True)
def _mask(seed, stream, first, ids, mask_only, vocab_size, inputs, positions, labels):
    """Lay rows of ids between [CLS] and [SEP] and mask K tokens of each (BERT's 80/10/10, or [MASK] only)."""
    rows, n = ids.shape
    for r in range(rows):
        index = np.uint64(first + r)
        inputs[r, 0] = CLS
        inputs[r, n + 1] = SEP
        for j in range(n):
            inputs[r, j + 1] = ids[r, j]
        used = draw_positions(seed, stream, index, n, positions[r])
        for k in range(positions.shape[1]):
            at = positions[r, k] + 1
            positions[r, k] = at
            labels[r, k] = inputs[r, at]
            share = 0.0
            if not mask_only:
                share = counter.uniform(seed, stream, index, used)
                used += np.uint64(1)
            if share < 0.8:
                inputs[r, at] = MASK
            elif share < 0.9:
                token, used = counter.bounded(seed, stream, index, used, vocab_size - FIRST_TOKEN)
                inputs[r, at] = FIRST_TOKEN + np.int64(token)


class Batches:
    """The batches of one run, by step."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, train: TrainConfig, seed: int):
        self.corpus, self.tokenizer, self.train = corpus, tokenizer, train
        self.seed = np.uint64(seed)
        self.row_bases = train.row_tokens * tokenizer.max_token_length

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of one optimizer step (from 0)."""
        return self.several(step, 1)[0]

    def several(self, step: int, n: int) -> list[Batch]:
        """Return the batches of n optimizer steps in a row, prepared in one go."""
        train = self.train
        first, rows = step * train.batch, n * train.batch
        bases = self.corpus.rows(np.arange(first, first + rows), self.row_bases)
        ids, n_bases = self.tokenizer.encode_rows(bases, train.row_tokens)
        inputs = np.empty((rows, train.length), np.int64)
        positions = np.empty((rows, train.n_masked), np.int64)
        labels = np.empty_like(positions)
        vocab_size = self.tokenizer.vocab_size
        _mask(self.seed, MASKS, first, ids, train.mask_only, vocab_size, inputs, positions, labels)
        weights = np.full(train.batch, 1 / (train.batch * train.n_masked), np.float32)
        parts = [slice(at, at + train.batch) for at in range(0, rows, train.batch)]
        return [Batch(inputs[p], positions[p], labels[p], weights, int(n_bases[p].sum())) for p in parts]

    def frequencies(self) -> NDArray[np.float32]:
        """Return the shares of the tokens in the first rows that the run reads, one added to each count.

        Shape (V,); they add up to 1.
        """
        bases = self.corpus.rows(np.arange(COUNTED_ROWS), self.row_bases)
        ids, _ = self.tokenizer.encode_rows(bases, self.train.row_tokens)
        counts = 1 + np.bincount(ids.ravel(), minlength=self.tokenizer.vocab_size)
        return (counts / counts.sum()).astype(np.float32)
