"""Every network by name, and what it has beside the parts that all share. No torch.

`ARCHITECTURES` is the one place where a network is added (see "Add a part" of the how-tos): its class by the name of
its module, which is imported when a model is made, and the arithmetic that sizes, costs and plans are computed with.
Rejected: counts on the class itself, which planning could then only have by loading torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ARCHITECTURES", "CONV_WIDTH", "Architecture"]

CONV_WIDTH = 3
"""Tokens that the short convolution sees."""


@dataclass(frozen=True)
class Architecture:
    """One network: embeddings, blocks of attention and feed-forward, a tied head, and what is its own.

    Attributes
    ----------
    network
        ``"module:Class"``, a `kleiber.model.dnabert2.DNABERT2` or one made of its parts.
    about
        What it is, for the card of an exported model: "A …".
    n_types
        Vectors for types of token, as BERT has.
    own_params
        Given the width: parameters outside the blocks, beside embeddings and head.
    block_params
        Given the width: parameters of a block, beside attention and feed-forward.
    block_flops
        Given the width and the tokens of a batch: operations of a block's forward pass, by component, beside those that
        all have (see `kleiber.model.config.ModelConfig.flops`).
    """

    network: str
    about: str
    n_types: int = 0
    own_params: Callable[[int], int] = lambda width: 0
    block_params: Callable[[int], int] = lambda width: 0
    block_flops: Callable[[int, int], dict[str, int]] = lambda width, tokens: {}


ARCHITECTURES = {
    "shortconv": Architecture(
        "kleiber.model.shortconv:ShortConv",
        "DNABERT-2 with short convolutions, which reads order,",
        own_params=lambda width: 2 * width,  # the last norm
        block_params=lambda width: CONV_WIDTH * width,
        block_flops=lambda width, tokens: {"convolution": 2 * CONV_WIDTH * width * tokens},
    ),
    "dnabert2": Architecture(
        "kleiber.model.dnabert2:DNABERT2", "DNABERT-2", n_types=2, own_params=lambda width: 2 * width
    ),
}
"""One that reads order (`kleiber.model.shortconv`), and DNABERT-2, which cannot."""
