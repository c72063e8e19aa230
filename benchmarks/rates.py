"""How the best rates move with the size of a network and with the rows of a step: what the recipe's rule rests on.

    python benchmarks/rates.py FASTA [--out out/rates] [--workers 2] [--only sizes]

On a whole chromosome without the stretch that is scored (rows of 128 tokens, BPE of 1,024, the recipe of the package).
Sizes: steps of 16 rows, 1.4M tokens; AdamW's rate and Muon's, each doubled and halved about the rule until the loss
rises on both sides. Batches: 0.13M parameters, 2.8M tokens; both rates together, which the rule multiplies by the root
of the rows. The best rate is the lowest point of the parabola through the lowest loss and its neighbours, in the
logarithm of the rate; the exponent is a line through those. A run that is there is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import isfinite, log2, sqrt
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from chromosome import Chromosome

from kleiber.model.config import shape_for
from kleiber.scaling.optima import line
from kleiber.study.tuning import best_rate
from kleiber.train.config import TrainConfig

RECIPE = TrainConfig(batch=16, eval_rows=1000, eval_masks=1)
KINDS = ("sizes", "batches")
SEED = 17


@dataclass(frozen=True)
class Place:
    """Where rates are looked for, each of `rates` by itself: ``"adamw"``, ``"muon"`` or ``"both"``."""

    size: str
    batch: int
    tokens: float
    rates: tuple[str, ...]


PLACES = [
    *(Place(size, 16, 1.4e6, ("adamw", "muon")) for size in ("2M", "0.8M", "0.33M", "0.13M", "0.05M", "0.02M")),
    *(Place("0.13M", batch, 2.8e6, ("both",)) for batch in (8, 16, 32, 64)),
]


def bits_at(chromosome: Chromosome, place: Place, rate: str, doublings: int) -> float:
    """Train one run at 2^doublings times the rule's rate and score it, in bits per base."""
    factor, rows = 2.0**doublings, sqrt(place.batch / RECIPE.batch)
    recipe = replace(
        chromosome.recipe,
        batch=place.batch,
        lr=RECIPE.base_lr * rows * (factor if rate != "muon" else 1.0),
        muon_lr=RECIPE.muon_lr * rows * (factor if rate != "adamw" else 1.0),
    )
    shape = shape_for(place.size, chromosome.tokenizer.vocab_size, architecture="shortconv")
    start = time.perf_counter()
    name = f"{place.size}.{place.batch}.{place.tokens:g}.adamw{recipe.lr:.5f}.muon{recipe.muon_lr:.5f}"
    models = chromosome.train(name, shape, recipe, (place.tokens,), SEED)
    bits = models[-1].bits if models else float("inf")
    print(f"{name:<48}{bits:.4f}  {time.perf_counter() - start:.0f} s", flush=True)
    return bits


def search(chromosome: Chromosome, place: Place) -> dict[str, dict[int, float]]:
    """Return bits per base by rate and doublings of the rule's, each with its lowest between two others."""
    every = {}
    for rate in place.rates:
        found = {at: bits_at(chromosome, place, rate, at) for at in (0, -1, 1)}
        while (best := min(found, key=lambda at: found[at])) in (min(found), max(found)):
            further = best + (1 if best == max(found) else -1)
            found[further] = bits_at(chromosome, place, rate, further)
        every[rate] = dict(sorted(found.items()))
    return every


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("fasta", type=Path)
    parser.add_argument("--holdout", default="20:3,000,001-4,000,000")
    parser.add_argument("--out", type=Path, default=Path("out/rates"))
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    chromosome = Chromosome.prepare(options.fasta, options.holdout, options.out, RECIPE)
    places = [place for place in PLACES if not options.only or options.only == KINDS["both" in place.rates]]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        found = list(pool.map(search, [chromosome] * len(places), places))
    best: dict[str, list[tuple[float, float]]] = {"adamw": [], "muon": [], "both": []}
    for place, losses in zip(places, found, strict=True):
        shape = shape_for(place.size, chromosome.tokenizer.vocab_size, architecture="shortconv")
        rows = sqrt(place.batch / RECIPE.batch)
        rule = {"adamw": RECIPE.peak_lr(shape), "muon": RECIPE.muon_lr, "both": rows}
        for rate, bits in losses.items():
            finite = {rule[rate] * 2.0**at: value for at, value in bits.items() if isfinite(value)}
            lies, _ = best_rate(list(finite), list(finite.values()))
            best[rate].append((log2(place.batch if rate == "both" else shape.n_params_non_embedding), log2(lies)))
            cells = "  ".join(f"x{2.0**at:g} {value:.4f}" for at, value in bits.items())
            print(f"{rate:<6}{place.size:>6} {place.batch:>3} rows  rule {rule[rate]:.5f}  best {lies:.5f}  {cells}")
    for rate, points in best.items():
        if len(points) > 2:
            of = "rows" if rate == "both" else "N"
            slope, low, high = line(*np.array(points).T)
            print(f"{rate}: exponent in {of} {slope:+.2f} ({low:+.2f} to {high:+.2f})")
    results = [{**asdict(place), "bits": losses} for place, losses in zip(places, found, strict=True)]
    (options.out / "rates.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
