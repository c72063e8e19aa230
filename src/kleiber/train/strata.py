"""Scored tokens that are looked at apart: those over the sites at which a panel varies, and those in repeats.

A model can be as good as another on the whole and worse where genomes differ, or owe its loss to repeats; these two
numbers tell. Repeats are known where the FASTA has them in lower case.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.evaluate import Evaluation

__all__ = ["overlaps", "strata"]


def strata(
    evaluation: Evaluation, tokenizer: Tokenizer, reference: Reference, panel: Panel | None
) -> dict[str, NDArray[np.bool_]]:
    """Return which scored tokens of an evaluation on the reference belong to each stratum.

    Strata are those that the data know.

    Returns
    -------
    bool (M, R, K) by name: ``"variant_sites"`` where there is a panel (its edits, insertions as the bases beside
    them), ``"soft_masked"`` where the FASTA has lower case.
    """
    lengths = np.asarray(tokenizer.token_lengths)[evaluation.ids]
    starts = np.array([start for _, start in evaluation.tiles], np.int64)
    ends = starts[:, None] + np.cumsum(lengths, 1, dtype=np.int64)  # (R, S), 0-based; [CLS] has no bases
    end = ends[np.arange(len(starts))[None, :, None], evaluation.positions]
    begin = end - evaluation.bases
    contigs = np.array([contig for contig, _ in evaluation.tiles])
    stretches: dict[str, dict[str, NDArray[np.int64]]] = {"variant_sites": {}, "soft_masked": {}}
    for contig in dict.fromkeys(contigs):
        stretches["soft_masked"][contig] = reference.soft_masked(contig)
        if panel is not None and contig in {c.name for c in panel.contigs}:
            store = panel.store(contig)
            sites = np.stack([store.start.astype(np.int64), store.end.astype(np.int64)], 1)
            sites[sites[:, 0] == sites[:, 1], 0] -= 1
            stretches["variant_sites"][contig] = sites
    found = {}
    for name, by_contig in stretches.items():
        if any(len(each) for each in by_contig.values()):
            found[name] = np.zeros(begin.shape, bool)
            for contig, each in by_contig.items():
                of = contigs == contig
                found[name][:, of] = overlaps(begin[:, of], end[:, of], each)
    return found


def overlaps(begin: NDArray[np.int64], end: NDArray[np.int64], stretches: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which of the half-open [begin, end) share a base with one of `stretches`.

    (n, 2), half-open, any order.
    """
    ordered = stretches[np.argsort(stretches[:, 0], kind="stable")]
    reach = np.maximum.accumulate(np.append(0, ordered[:, 1]))  # how far the first i stretches go
    return reach[np.searchsorted(ordered[:, 0], end)] > begin
