"""How the best rates move with a network's size, data, tokens and the rows of a step: what the recipe's rule rests on.

    python benchmarks/rates.py FASTA [--out out/rates] [--workers 2] [--only sizes 6-mers]

On a whole chromosome without the stretch that is scored (rows of 128 tokens, BPE of 1,024, the recipe of the package).
Sizes: steps of 16 rows, 1.4M tokens; AdamW's rate and Muon's, each doubled and halved about the rule until the loss
rises on both sides. Longer: 6M tokens of the same. 6-mers: three sizes, cut into those. Batches: 0.13M parameters, 2.8M
tokens (6M at 128 rows); both rates together, which the rule multiplies by the root of the rows, and the rate of AdamW
alone. The best rate is the lowest point of the parabola through the lowest loss and its neighbours, in the logarithm of
the rate; the exponent is a line through those. A run that is there is not trained again.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import isfinite, log2
from multiprocessing import get_context

import numpy as np
from chromosome import BPE, Chromosome, arguments

from kleiber.model.config import shape_for
from kleiber.scaling.optima import line
from kleiber.study.tuning import best_rate
from kleiber.train.config import TrainConfig

RECIPE = TrainConfig(batch=16, eval_rows=1000, eval_masks=1)
SEED = 17


@dataclass(frozen=True)
class Place:
    """Where rates are looked for, each of `rates` by itself: ``"adamw"``, ``"muon"`` or ``"both"``."""

    kind: str
    size: str
    batch: int
    tokens: float
    rates: tuple[str, ...]
    tokenizer: str = BPE
    optimizer: str = RECIPE.optimizer

    @property
    def rule(self) -> TrainConfig:
        """The recipe by the rule."""
        return replace(RECIPE, batch=self.batch, optimizer=self.optimizer)


EACH = ("adamw", "muon")
PLACES = [
    *(Place("sizes", size, 16, 1.4e6, EACH) for size in ("2M", "0.8M", "0.33M", "0.13M", "0.05M", "0.02M")),
    Place("longer", "0.2M", 16, 6e6, EACH),
    *(Place("6-mers", size, 16, 1.4e6, EACH, "6mer") for size in ("0.52M", "0.13M", "0.033M")),
    *(Place("batches", "0.13M", batch, 2.8e6, ("both",)) for batch in (8, 16, 32, 64)),
    Place("batches", "0.13M", 128, 6e6, ("both",)),
    *(Place("AdamW alone", "0.13M", batch, 2.8e6, ("adamw",), optimizer="adamw") for batch in (16, 64)),
]


def bits_at(chromosome: Chromosome, place: Place, rate: str, doublings: int) -> float:
    """Train one run at 2^doublings times the rule's rate and score it, in bits per base."""
    factor = 2.0**doublings
    factors = {"adamw": (factor, 1.0), "muon": (1.0, factor), "both": (factor, factor)}[rate]
    recipe = replace(chromosome.recipe, batch=place.batch, optimizer=place.optimizer).times_lr(*factors)
    shape = shape_for(place.size, chromosome.tokenizer.vocab_size, architecture="shortconv")
    start = time.perf_counter()
    others = [each for each in (place.tokenizer, place.optimizer) if each not in (BPE, RECIPE.optimizer)]
    words = [
        *others,
        place.size,
        place.batch,
        f"{place.tokens:g}",
        f"adamw{recipe.lr:.5f}",
        f"muon{recipe.muon_lr:.5f}",
    ]
    name = ".".join(map(str, words))
    models = chromosome.train(name, shape, recipe, (place.tokens,), SEED)
    bits = models[-1].bits if models else float("inf")
    print(f"{name:<48}{bits:.4f}  {time.perf_counter() - start:.0f} s", flush=True)
    return bits


def search(chromosome: Chromosome, place: Place) -> dict[str, dict[int, float]]:
    """Return bits per base by rate and doublings of the rule's, each with its lowest between two others."""
    chromosome = replace(chromosome, tokens=place.tokenizer)
    every = {}
    for rate in place.rates:
        found = {at: bits_at(chromosome, place, rate, at) for at in (0, -1, 1)}
        while (best := min(found, key=lambda at: found[at])) in (min(found), max(found)):
            further = best + (1 if best == max(found) else -1)
            found[further] = bits_at(chromosome, place, rate, further)
        every[rate] = dict(sorted(found.items()))
    return every


def main() -> None:
    parser = arguments("out/rates")
    kinds = list(dict.fromkeys(place.kind for place in PLACES))
    parser.add_argument("--only", nargs="*", choices=kinds, default=kinds)
    options = parser.parse_args()
    chromosome = Chromosome.prepare(options.fasta, options.holdout, options.out, RECIPE)
    places = [place for place in PLACES if place.kind in options.only]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        asked = [pool.submit(search, chromosome, place) for place in places]
        found = [each.result() for each in asked]
    best: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for place, losses in zip(places, found, strict=True):
        vocabulary = replace(chromosome, tokens=place.tokenizer).tokenizer.vocab_size
        shape = shape_for(place.size, vocabulary, architecture="shortconv")
        rule = {"adamw": place.rule.peak_lr(shape), "muon": place.rule.matrices_lr, "both": 1.0}
        for rate, bits in losses.items():
            finite = {rule[rate] * 2.0**at: value for at, value in bits.items() if isfinite(value)}
            lies, _ = best_rate(list(finite), list(finite.values()))
            at = place.batch if rate == "both" else shape.n_params_non_embedding
            best.setdefault((place.kind, rate), []).append((log2(at), log2(lies)))
            cells = "  ".join(f"x{2.0**at:g} {value:.4f}" for at, value in bits.items())
            print(
                f"{place.kind:<12}{rate:<6}{place.size:>7} {place.batch:>3} rows  "
                f"rule {rule[rate]:.5f}  best {lies:.5f}  {cells}"
            )
    for (kind, rate), points in best.items():
        if len(points) > 2:
            of = "rows" if rate == "both" else "N"
            slope, low, high = line(*np.array(points).T)
            print(f"{kind}, {rate}: exponent in {of} {slope:+.2f} ({low:+.2f} to {high:+.2f})")
    results = [{**asdict(place), "bits": losses} for place, losses in zip(places, found, strict=True)]
    (options.out / "rates.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
