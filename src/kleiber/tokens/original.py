"""The original study's 6-mer tokenizer and its clean-up of sequences, kept so that its token ids can be reproduced.

It orders the bases A T C G, gives N an id of its own, and numbers 4,096 words from 10 on, so that its largest id is
4,105 (with a model of 4,096 that is an index out of range; its 6-mer model has 4,106).
"""

from __future__ import annotations

import re
from itertools import product

import numpy as np
from numpy.typing import NDArray

from kleiber.tokens.kmer import KmerTokenizer, fill_words
from kleiber.tokens.tokenizer import SPECIALS, Tokenizer, envelope

__all__ = ["OriginalKmerTokenizer", "clean_up"]

ORDER = "ATCG"
CODES = np.full(256, 4, np.uint8)
for _i, _base in enumerate(ORDER):
    CODES[ord(_base)] = CODES[ord(_base.lower())] = _i


def clean_up(sequence: str) -> str:
    """Return a sequence as the original study fed it to its tokenizers.

    Each run of N is one N, other letters go.
    """
    return re.sub("[^ACGTN]", "", re.sub("N+", "N", sequence))


class OriginalKmerTokenizer(KmerTokenizer):
    """Non-overlapping 6-mers with the original study's ids.

    A 5, T 6, C 7, G 8, N 9, words from 10; V = 4,106.
    """

    def __init__(self) -> None:
        self.kind, self.k = "kmer", 6
        tokens = [*SPECIALS, *ORDER, "N", *("".join(word) for word in product(ORDER, repeat=6))]
        model = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": "[UNK]"}
        pattern = {"type": "Split", "pattern": {"Regex": "[ACGT]{6}|."}, "behavior": "Isolated", "invert": False}
        Tokenizer.__init__(self, tokens, envelope(model, pattern))

    def _fill(
        self, bases: NDArray[np.uint8], room: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        n, length = bases.shape
        ids = np.empty(n * min(room, length), np.int32)
        offsets, used = np.zeros(n + 1, np.int64), np.zeros(n, np.int64)
        fill_words(bases, CODES, 6, len(SPECIALS) + 5, len(SPECIALS) + 4, room, ids, offsets, used)
        return ids[: offsets[-1]], offsets, used
