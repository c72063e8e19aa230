"""Make a tokenizer from a specification, training it where it has to be trained.

BPE is trained on windows of a few hundred bases: whole chromosomes make every trainer quadratic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError
from kleiber.tokens.kinds import KINDS
from kleiber.tokens.tokenizer import Tokenizer

__all__ = ["WINDOW", "train_tokenizer"]

WINDOW = 700  # bases; whole chromosomes make BPE training quadratic

MAX_TOKEN_LENGTH = 32  # bases; without a maximum, satellites and poly-A fill the vocabulary


def train_tokenizer(spec: str, windows: NDArray[np.uint8], max_token_length: int = MAX_TOKEN_LENGTH) -> Tokenizer:
    """Return the tokenizer of a specification.

    Parameters
    ----------
    spec
        ``"nucleotide"``, ``"6mer"`` (any k from 2 to 8), ``"bpe1024"`` (any vocabulary from 16), or
        ``"original-6mer"`` (see `kleiber.tokens.original`).
    windows
        (n, L) ASCII windows that BPE is trained on.
    max_token_length
        Bases of the longest token of a BPE.

    Raises
    ------
    ConfigError
        When the text is no specification.
    """
    for kind in KINDS:
        if (made := kind.from_spec(spec, windows, max_token_length)) is not None:
            return made
    known = ", ".join(kind.specs for kind in KINDS if kind.specs)
    raise ConfigError(f"There is no tokenizer {spec!r}.\n  Known are {known}, and a tokenizer.json file.")
