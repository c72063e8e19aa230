"""A column of operations beside 6·N·D: an exact count, a unit or a mistake.

Exact counts differ from 6·N·D by what embeddings, attention and skipped work make of it, which changes steadily with
size; then N is taken as C / 6D, so that C = 6·N·D holds. Anything else that differs is refused. Rejected: trusting
every column called FLOPs, which makes an exponent of a column in other units.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import DataError

__all__ = ["effective_size", "is_overhead", "refuse_other_flops"]

TOLERANCE = 0.01  # of C against 6·N·D


def effective_size(
    N: NDArray[np.float64], D: NDArray[np.float64], C: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return C / 6D, (n,), the same for all points of a size.

    None where a size has no such number, or it is N.
    """
    found = C / (6 * D)
    for size in np.unique(N):
        at = size == N
        level = float(np.median(found[at]))
        if np.abs(found[at] / level - 1).max() > TOLERANCE:
            return None
        found[at] = level
    return None if np.abs(found / N - 1).max() <= TOLERANCE else found


def is_overhead(N: NDArray[np.float64], effective: NDArray[np.float64]) -> bool:
    """Say whether a count of operations differs from 6·N·D as embeddings or attention make it differ.

    By a factor that falls or rises steadily with size; one and the same factor is a unit or a mistake. Both are (n,).
    """
    _, first = np.unique(N, return_index=True)
    ratio = np.log(effective[first] / N[first])
    steps = np.diff(ratio)
    is_steady = bool((steps <= TOLERANCE).all() or (steps >= -TOLERANCE).all())
    return is_steady and float(np.ptp(ratio)) > 5 * TOLERANCE and float(np.abs(ratio).max()) < np.log(20)


def refuse_other_flops(
    C: NDArray[np.float64], product: NDArray[np.float64], row: NDArray[np.int64], where: str
) -> None:
    """Refuse operations, (n,), that are not 6·N·D and that nobody says are exact counts.

    Raises
    ------
    DataError
        Names the rows that differ, and the first one's two numbers.
    """
    off = np.flatnonzero(np.abs(C / product - 1) > TOLERANCE)
    if len(off):
        named = ", ".join(str(r) for r in row[off[:10]]) + (", …" if len(off) > 10 else "")
        raise DataError(
            f"{where}: {len(off)} of {len(C)} rows differ from 6·N·D by more than 1 % (rows {named}); "
            f"row {row[off[0]]} has {C[off[0]]:.6g}, and 6·N·D is {product[off[0]]:.6g}.\n"
            "  If the column counts operations exactly, say --flops exact; else mend N, D or C."
        )
