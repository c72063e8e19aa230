"""What a model has to beat: uniform bases, the frequencies of tokens, and Markov chains of bases.

All are fitted on training DNA only and scored where the models are, with standard errors clustered alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kleiber.corpus.sampling import Corpus
from kleiber.tokens.bits import bits_per_base
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.batches import FIRST_TOKEN
from kleiber.train.config import TrainConfig
from kleiber.train.evaluate import Evaluation, cluster_ids, clustered_se, score_of

__all__ = ["MARKOV_ORDERS", "baselines"]

MARKOV_ORDERS = (0, 1, 3, 5, 8)
UNIGRAM_TOKENS = 1_000_000
MARKOV_BASES = 20_000_000


def baselines(
    training: Corpus, heldout: Corpus, tokenizer: Tokenizer, train: TrainConfig, evaluation: Evaluation
) -> dict[str, dict[str, float]]:
    """Return bits per base and its standard error of every baseline, by name.

    The token unigram is scored on exactly the tokens that models are scored on; Markov chains on every base of the
    held-out territory after the first `order` of each tile.
    """
    span = training.config.window
    fitted = _codes(training.batch(np.arange(-(-MARKOV_BASES // span))))
    tiles = heldout.tiles(span)
    scored, clusters = _codes(heldout.tile_rows(tiles, span)), cluster_ids(tiles, heldout.territory)
    scores = {"uniform": {"bits_per_base": 2.0, "se": 0.0}, "unigram": _unigram(training, tokenizer, train, evaluation)}
    for order in MARKOV_ORDERS:
        scores[f"markov-{order}"] = _markov(order, fitted, scored, clusters)
    return scores


def _unigram(training: Corpus, tokenizer: Tokenizer, train: TrainConfig, evaluation: Evaluation) -> dict[str, float]:
    """Score the token frequencies of training rows (one added to each count)."""
    rows = np.arange(-(-UNIGRAM_TOKENS // train.row_tokens))
    counts = np.ones(tokenizer.vocab_size)
    for part in np.array_split(rows, max(1, len(rows) // 1000)):
        ids, _ = tokenizer.encode_rows(
            training.rows(part, train.row_tokens * tokenizer.max_token_length), train.row_tokens
        )
        counts += np.bincount(ids.ravel(), minlength=tokenizer.vocab_size)
    counts[:FIRST_TOKEN] = 1
    labels = evaluation.labels
    score = score_of(-np.log(counts / counts.sum())[labels], evaluation, labels == counts.argmax())
    return {"bits_per_base": score.bits_per_base, "se": score.bits_per_base_se, "nats_per_token": score.loss}


def _markov(
    order: int, fitted: NDArray[np.int64], scored: NDArray[np.int64], clusters: NDArray[np.int64]
) -> dict[str, float]:
    """Fit P(base | `order` bases before it) with one added to each count, and score it; both (rows, bases) of 0-3."""
    counts = np.bincount(_words(fitted, order + 1).ravel(), minlength=4 ** (order + 1)).reshape(-1, 4) + 1.0
    nats = -np.log(counts / counts.sum(1, keepdims=True)).ravel()[_words(scored, order + 1)]
    se = clustered_se(nats.sum(1), np.full(len(nats), nats.shape[1]), clusters)
    return {"bits_per_base": bits_per_base(float(nats.sum()), nats.size), "se": bits_per_base(se, 1)}


def _words(codes: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return the base-4 number of every word of k bases in each row."""
    words = np.zeros((codes.shape[0], codes.shape[1] - k + 1), np.int64)
    for i in range(k):
        words = words * 4 + codes[:, i : codes.shape[1] - k + 1 + i]
    return words


def _codes(bases: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return A C G T as 0-3; rows with another letter are left out of training windows already."""
    table = np.zeros(256, np.int64)
    table[np.frombuffer(b"ACGT", np.uint8)] = np.arange(4)
    return table[bases]
