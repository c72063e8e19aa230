"""Make a tokenizer from a specification, training it where it has to be trained.

BPE is trained on windows of a few hundred bases: whole chromosomes make every trainer quadratic.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError
from kleiber.tokens.bpe import BPETokenizer
from kleiber.tokens.kmer import KmerTokenizer
from kleiber.tokens.merges import learn_merges
from kleiber.tokens.original import OriginalKmerTokenizer
from kleiber.tokens.tokenizer import BASES, SPECIALS, Tokenizer

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
    if spec == "nucleotide":
        return KmerTokenizer(1)
    if spec == "original-6mer":
        return OriginalKmerTokenizer()
    if match := re.fullmatch(r"([2-8])mer", spec):
        return KmerTokenizer(int(match[1]))
    if (match := re.fullmatch(r"bpe(\d{1,9})", spec)) and int(match[1]) >= 16:
        return _train_bpe(int(match[1]), windows, max_token_length)
    raise ConfigError(
        f"There is no tokenizer {spec!r}.\n"
        '  Known are "nucleotide", "6mer" (k from 2 to 8), "bpe1024" (16 or more tokens), and a tokenizer.json file.'
    )


def _train_bpe(vocab_size: int, windows: NDArray[np.uint8], max_token_length: int) -> BPETokenizer:
    tokens = [*SPECIALS, *BASES]
    merges: list[tuple[str, ...]] = []
    for left, right in learn_merges(windows, vocab_size, max_token_length):
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return BPETokenizer(tokens, merges)
