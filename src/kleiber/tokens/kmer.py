"""Non-overlapping k-mers; k = 1 is the nucleotide tokenizer.

From the left, k bases make a word; what is shorter (before an N, at the end) is read base by base. Ids: the five
specials, A C G T as singles, then the 4^k words in the order of their letters.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.tokens.tokenizer import BASES, SPECIALS, Tokenizer, envelope

__all__ = ["KmerTokenizer"]

SINGLES = len(SPECIALS)
WORDS = SINGLES + len(BASES)


class KmerTokenizer(Tokenizer):
    """Words of `k` bases; for k = 6 the vocabulary is 5 specials + 4 singles + 4,096 words = 4,105."""

    def __init__(self, k: int):
        self.kind, self.k = ("nucleotide" if k == 1 else "kmer"), k
        words = ["".join(word) for word in product(BASES, repeat=k)] if k > 1 else []
        tokens = [*SPECIALS, *BASES, *words]
        model = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": "[UNK]"}
        pattern = {"type": "Split", "pattern": {"Regex": f"[ACGT]{{{k}}}|."}, "behavior": "Isolated", "invert": False}
        super().__init__(tokens, envelope(model, pattern))

    def _fill(
        self, codes: NDArray[np.uint8], ids: NDArray[np.int32], counts: NDArray[np.int64], used: NDArray[np.int64]
    ) -> None:
        _fill(codes, self.k, ids, counts, used)


@njit(cache=True, nogil=True)
def _fill(codes, k, ids, counts, used):
    length, room = codes.shape[1], ids.shape[1]
    for r in range(codes.shape[0]):
        at, n = 0, 0
        while at < length and n < room:
            word, i = 0, 0
            while i < k and at + i < length and codes[r, at + i] < 4:
                word = word * 4 + codes[r, at + i]
                i += 1
            if i == k:
                ids[r, n] = SINGLES + word if k == 1 else WORDS + word
                at += k
            else:
                ids[r, n] = SINGLES + codes[r, at] if codes[r, at] < 4 else 0
                at += 1
            n += 1
        counts[r], used[r] = n, at
