"""Make a tokenizer from a specification, training it where it has to be trained.

BPE is trained on windows of a few hundred bases: whole chromosomes make every trainer quadratic.
"""

from __future__ import annotations

import json
import re

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError
from kleiber.tokens.bpe import BPETokenizer
from kleiber.tokens.kmer import KmerTokenizer
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
    """
    if spec == "nucleotide":
        return KmerTokenizer(1)
    if spec == "original-6mer":
        return OriginalKmerTokenizer()
    if (match := re.fullmatch(r"(\d+)mer", spec)) and 2 <= int(match[1]) <= 8:
        return KmerTokenizer(int(match[1]))
    if (match := re.fullmatch(r"bpe(\d+)", spec)) and int(match[1]) >= 16:
        return _train_bpe(int(match[1]), windows, max_token_length)
    raise ConfigError(
        f"There is no tokenizer {spec!r}.\n"
        '  Known are "nucleotide", "6mer" (k from 2 to 8), "bpe1024" (16 or more tokens), and a tokenizer.json file.'
    )


def _train_bpe(vocab_size: int, windows: NDArray[np.uint8], max_token_length: int) -> BPETokenizer:
    from tokenizers import Tokenizer as HuggingFace
    from tokenizers import models, pre_tokenizers, trainers

    backend = HuggingFace(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=list(BASES),
        limit_alphabet=len(BASES),
        max_token_length=max_token_length,
        show_progress=False,
    )
    backend.train_from_iterator((row.tobytes().decode() for row in windows), trainer)
    merges, seen = [], set()
    for merge in json.loads(backend.to_str())["model"]["merges"]:
        pair = tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
        if "".join(pair) not in seen:  # two merges can make one string; the first decides its id
            seen.add("".join(pair))
            merges.append(pair)
    return BPETokenizer([*SPECIALS, *BASES, *("".join(pair) for pair in merges)], merges)
