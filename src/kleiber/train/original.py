"""The original study's batches and learning rate, kept so that its training can be reproduced.

A window of 700 bases becomes [CLS], its tokens and [SEP]; a longer row is cut to its first S - 1 ids and [SEP], a
shorter one padded. Each token is masked by a coin of its own (80 % [MASK], 10 % any id, 10 % as it is), so that the
number a row varies, and a masked [UNK] is silently no target. The loss is the mean of the means of the micro-batches,
and the schedule counts micro-batches. What it did and we do not: draw without a seed, and log the last micro-batch's
loss as if it were the step's.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kleiber import counter
from kleiber.tokens.tokenizer import UNK
from kleiber.train.batches import CLS, MASK, MASKS, SEP, Batch, Batches
from kleiber.train.config import TrainConfig

__all__ = ["IGNORED", "OriginalBatches", "original_lr"]

PAD = 3
IGNORED = -100  # the label of what is no target


class OriginalBatches(Batches):
    """The batches of one run, by step, as the original study made them."""

    def several(self, step: int, n: int) -> list[Batch]:
        """Return the batches of n optimizer steps in a row; each has a width of its own."""
        return [self._batch(each) for each in range(step, step + n)]

    def _batch(self, step: int) -> Batch:
        train = self.train
        first = step * train.batch
        bases = self.corpus.batch(np.arange(first, first + train.batch))
        ids, offsets = self.tokenizer.encode_batch(bases)
        inputs, padding, targets = (np.empty((train.batch, train.length), np.int64) for _ in range(3))
        lengths = np.asarray(self.tokenizer.token_lengths)
        n_bases = _cut_and_mask(
            self.seed, MASKS, first, ids, offsets, lengths, train.mask_rate, len(lengths), inputs, padding, targets
        )
        is_target = targets != IGNORED
        most = max(1, int(is_target.sum(1).max()))
        positions = np.argsort(~is_target, axis=1, kind="stable")[:, :most]
        labels = np.take_along_axis(targets, positions, 1)
        in_part = is_target.reshape(-1, train.micro_batch * train.length).sum(1)
        each = 1 / (len(in_part) * np.maximum(1, in_part))
        weights = np.repeat(each, train.micro_batch).astype(np.float32)
        return Batch(inputs, positions, labels, weights, int(n_bases), padding)


@njit(cache=True, nogil=True)
def _cut_and_mask(seed, stream, first, ids, offsets, lengths, rate, vocab_size, inputs, padding, targets):
    """Lay out and mask each row; return the bases of the tokens that are left."""
    rows, length = inputs.shape
    n_bases = 0
    for r in range(rows):
        n = min(offsets[r + 1] - offsets[r], length - 2)
        inputs[r, 0], inputs[r, n + 1], inputs[r, n + 2 :] = CLS, SEP, PAD
        padding[r, : n + 2], padding[r, n + 2 :] = 1, 0
        targets[r] = IGNORED
        used = np.uint64(0)
        index = np.uint64(first + r)
        for j in range(1, n + 1):
            token = ids[offsets[r] + j - 1]
            inputs[r, j] = token
            n_bases += lengths[token]
            is_masked = counter.uniform(seed, stream, index, used) < rate
            used += np.uint64(1)
            if not is_masked:
                continue
            if token != UNK:
                targets[r, j] = token
            share = counter.uniform(seed, stream, index, used)
            used += np.uint64(1)
            if share < 0.8:
                inputs[r, j] = MASK
            elif share < 0.9:
                other, used = counter.bounded(seed, stream, index, used, vocab_size)
                inputs[r, j] = np.int64(other)
    return n_bases


def original_lr(train: TrainConfig, peak: float, steps: int, step: int) -> float:
    """Return the rate of one optimizer step (from 0) of `steps`: linear up and down, by micro-batches.

    The scheduler goes on after every micro-batch, so that a step has the rate of its last one.
    """
    each = train.batch // train.micro_batch
    at, end = each * (step + 1) - 1, each * steps
    warmup = max(1, round(train.warmup * end))
    return peak * (at / warmup if at < warmup else (end - at) / max(1, end - warmup))
