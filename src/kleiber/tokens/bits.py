"""Bits per base, the one measure that compares losses across tokenizers, and a score of single bases."""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

from kleiber.tokens.tokenizer import CODES, SPECIALS, Tokenizer

__all__ = ["base_nats", "bits_per_base", "letters"]


def bits_per_base(nats: float, n_bases: int) -> float:
    """Return the bits per base of a total loss.

    Parameters
    ----------
    nats
        Sum of the negative log-likelihoods of the scored tokens.
    n_bases
        Bases in those tokens, each at its own length.
    """
    return nats / (log(2) * n_bases)


def letters(tokenizer: Tokenizer) -> NDArray[np.float32]:
    """Return which base each token has at each place.

    float32 (V, L, 4) of 0 and 1; L is the longest token's length.

    Specials, and places behind a token's end, have none.
    """
    found = np.zeros((tokenizer.vocab_size, tokenizer.max_token_length, 4), np.float32)
    for i in range(len(SPECIALS), tokenizer.vocab_size):
        codes = CODES[np.frombuffer(tokenizer.tokens[i].encode(), np.uint8)]
        for place in np.flatnonzero(codes < 4):
            found[i, place, codes[place]] = 1.0
    return found


def base_nats(
    by_letter: NDArray[np.float64], places: NDArray[np.int64], codes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the negative log-probability of single bases, in nats.

    The distribution over tokens is marginalised.

    P(base) is the weight of the tokens that have that base at its place, over the weight of all that reach the place:
    what is scored is the base, not where the token ends.

    Parameters
    ----------
    by_letter
        (n, L, 4): for each base scored, the distribution of the token that covers it, times `letters`.
    places
        (n,) the base's place in its token.
    codes
        (n,) the base, 0-3.
    """
    weights = by_letter[np.arange(len(places)), places]
    return -np.log(weights[np.arange(len(codes)), codes] / weights.sum(1))
