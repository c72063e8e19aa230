"""The original study's 6-mer tokenizer and its clean-up of sequences, kept so that its token ids can be reproduced.

It orders the bases A T C G, gives N an id of its own, and numbers 4,096 words from 10 on, so that its largest id is
4,105 (with a model of 4,096 that is an index out of range; its 6-mer model has 4,106).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kleiber.tokens.kmer import KmerTokenizer, fill_words
from kleiber.tokens.tokenizer import SPECIALS, Rows

__all__ = ["OriginalKmerTokenizer", "clean_up"]

ORDER = "ATCG"
FIRST = len(SPECIALS)
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

    specs = '"original-6mer"'
    order = ORDER
    singles = ORDER + "N"

    def __init__(self) -> None:
        super().__init__(6)

    @classmethod
    def from_spec(cls, spec: str, windows: NDArray[np.uint8], max_token_length: int) -> Self | None:
        """Return it for ``original-6mer``, else None; `windows`, (n, L), are not read."""
        return cls() if spec == "original-6mer" else None

    @classmethod
    def from_document(cls, document: dict[str, Any], tokens: list[str], path: str | Path) -> Self | None:
        """Return it for a file whose singles are A, T, C, G and N, else None.

        Raises
        ------
        DataError
            When its words are not the original study's.
        """
        is_ours = document["model"]["type"] == "WordLevel" and tokens[FIRST : FIRST + 5] == list(cls.singles)
        return cls()._same_as(document, path) if is_ours else None

    def _fill(self, bases: NDArray[np.uint8], room: int, rows: Rows) -> None:
        fill_words(bases, CODES, 6, FIRST + 5, FIRST + 4, room, *rows)
