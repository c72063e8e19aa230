"""Bits per base, the one measure that compares losses across tokenizers."""

from __future__ import annotations

from math import log

__all__ = ["bits_per_base"]


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
