"""Score the variants of a file, some at a time: model and counts in, a VCF or a table out, and how well they agree.

Only `CHUNK` variants are in memory at once, and of the others a label and a few numbers where a label is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.corpus.counts import WordCounts
from kleiber.downstream.alleles import Laid, Layout
from kleiber.downstream.labels import Labels
from kleiber.downstream.opponents import COUNT_MODELS, count_ratios
from kleiber.downstream.variants import Site, Variant, VariantFile, open_output
from kleiber.errors import DataError

__all__ = ["Tally", "by_site", "in_chunks", "score_variants"]

CHUNK = 512  # sites
RATIO, DISTANCE = "LLR", "DISTANCE"
Model = Callable[[Laid], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Tally:
    """What became of the variants of a file.

    Attributes
    ----------
    n_scored, n_cut
        Variants with a score; those of them beside which a contig ends or an N stands.
    not_scored
        Variants without one, by the reason.
    precision
        That the model computed in.
    """

    n_scored: int
    n_cut: int
    not_scored: dict[str, int]
    precision: str


def score_variants(
    source: VariantFile,
    layout: Layout,
    model: Model,
    out: Path | None,
    write: bool,
    key: str,
    counts: WordCounts | None = None,
    labels: Labels | None = None,
    distance: bool = True,
    precision: str = "fp32",
) -> Tally:
    """Score every variant of a file.

    Parameters
    ----------
    model
        From rows to log-likelihood ratios and distances, (n,) each: `kleiber.downstream.likelihood.allele_scores`.
    out, write
        Where the scores go: a file, or a table on standard output when None; nowhere unless `write`.
    key
        What the names of INFO keys and columns begin with.
    counts
        Words of DNA that training may read, for the opponents.
    labels
        Are told every variant's scores.
    distance
        Whether the model gives distances, too.
    precision
        That it computes in, to be noted.

    Raises
    ------
    DataError
        When no variant has a score.
    """
    names = _names(key, distance, counts is not None, precision)
    source.declare(names)
    n_scored, n_cut, not_scored = 0, 0, Counter[str]()
    with open_output(out, source, list(names)) if write else _Nowhere() as put:
        for chunk, variants in in_chunks(source):
            laid = layout.lay(variants, whole=distance)
            ratios, distances = model(laid)
            columns: dict[str, Any] = {f"{key}_{RATIO}": ratios}
            if distance:
                columns[f"{key}_{DISTANCE}"] = distances
            if counts is not None:
                found = count_ratios(counts, source.reference, variants)
                columns |= {f"{key}_{name}": np.where(np.isfinite(ratios), found[name], np.nan) for name in found}
            n_scored += int(np.isfinite(ratios).sum())
            n_cut += laid.n_cut
            not_scored.update(why for why in laid.why_not if why)
            for site, own in by_site(chunk, columns):
                put(site, own)
                if labels is not None:
                    labels.add(site, {name: own[name] if _is_distance(name) else -own[name] for name in own})
    if not n_scored:
        why = "; ".join(f"{n:,} {reason}" for reason, n in not_scored.items()) or "it holds none"
        raise DataError(f"No variant of {source.path} can be scored: {why}.")
    return Tally(n_scored, n_cut, dict(not_scored), precision)


def in_chunks(source: VariantFile) -> Iterator[tuple[list[Site], list[Variant]]]:
    """Yield some sites at a time, and their variants."""
    sites = iter(source)
    while chunk := list(islice(sites, CHUNK)):
        yield chunk, [variant for site in chunk for variant in site.variants]


def by_site(sites: Sequence[Site], columns: dict[str, Any]) -> Iterator[tuple[Site, dict[str, Any]]]:
    """Yield each site with its variants' part of every column, (n,) for the variants of all sites."""
    at = 0
    for site in sites:
        end = at + len(site.variants)
        yield site, {name: values[at:end] for name, values in columns.items()}
        at = end


def _is_distance(name: str) -> bool:
    return name.endswith(DISTANCE)


def _names(key: str, distance: bool, counted: bool, precision: str) -> dict[str, str]:
    """Return the INFO keys with their descriptions."""
    what = f"log p(ALT) - log p(REF) by the model in {precision}, nats"
    names = {f"{key}_{RATIO}": f"{what}, both strands averaged; indels per base"}
    if distance:
        names[f"{key}_{DISTANCE}"] = f"Euclidean distance of the mean embeddings of REF and ALT in {precision}"
    for name in COUNT_MODELS if counted else ():
        names[f"{key}_{name}"] = f"log p(ALT) - log p(REF) by counts of words ({COUNT_MODELS[name]}), nats"
    return names


class _Nowhere:
    """An output that keeps nothing."""

    def __enter__(self) -> Callable[[Site, Any], None]:
        return lambda site, scores: None

    def __exit__(self, *error: Any) -> None:
        return None
