"""What the network that reads order reaches on a whole chromosome, by size and data, beside DNABERT-2's.

    python benchmarks/order_ladder.py FASTA [--out out/ladder] [--workers 2] [--only 0.13M]

Trains on all but the held-out stretch (BPE of 1,024 tokens trained there, steps of 16 rows of 128 tokens, the recipe of
the package) and scores all of that stretch under three sets of masks. Prints means of three seeds, the steps of the
ladder with their standard errors (clusters in pairs, and the luck of seeds), and what reversing the tokens of a row
costs both networks. A run that is there is not trained again.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from math import sqrt
from multiprocessing import get_context
from statistics import mean, variance

from chromosome import Chromosome, Trained, arguments, pooled

from kleiber.model.config import shape_for
from kleiber.scaling.pairs import bits_between
from kleiber.train.config import TrainConfig

RECIPE = TrainConfig(batch=16, eval_rows=2000, eval_masks=3)
SEEDS = (17, 18, 19)
LADDER = ("0.033M", "0.13M", "0.52M")
Job = tuple[str, str, tuple[float, ...], int]
JOBS: list[Job] = [
    ("shortconv", "0.2M", (6e6,), SEEDS[0]),
    *(("shortconv", "0.52M", (1.4e6,), seed) for seed in SEEDS),
    ("dnabert2", "0.52M", (1.4e6,), SEEDS[0]),
    *(("shortconv", "0.13M", (1.4e6, 2.8e6), seed) for seed in SEEDS),
    *(("shortconv", "0.033M", (1.4e6,), seed) for seed in SEEDS),
]  # the longest first


def trained(chromosome: Chromosome, job: Job) -> list[Trained]:
    """Train one run, and print what its models scored."""
    architecture, size, budgets, seed = job
    shape = shape_for(size, chromosome.tokenizer.vocab_size, architecture=architecture)
    recipe = replace(chromosome.recipe, optimizer="muon" if architecture == "shortconv" else "adamw")
    start = time.perf_counter()
    models = chromosome.train(f"{architecture}.{size}.{seed}", shape, recipe, budgets, seed)
    for row in (model.row for model in models):
        print(
            f"{architecture:<10}{size:>7} {row['n_params_non_embedding']:>8,}  {row['n_tokens']:>9,} tokens  "
            f"seed {seed}  {row['bits_per_base']:.4f}  reversed +{row['cost_reversed']:.4f} "
            f"± {row['cost_reversed_se']:.4f}  {row['precision']}  {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return models


def main() -> None:
    parser = arguments("out/ladder")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    chromosome = Chromosome.prepare(options.fasta, options.holdout, options.out, RECIPE)
    jobs = [job for job in JOBS if not options.only or job[1] in options.only]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        results = list(pool.map(trained, [chromosome] * len(jobs), jobs))
    found: dict[tuple[str, str, float], list[Trained]] = {}
    for (architecture, size, budgets, _), models in zip(jobs, results, strict=True):
        for budget, model in zip(budgets, models, strict=True):
            found.setdefault((architecture, size, budget), []).append(model)
    table: dict[str, dict[str, float]] = {}
    for (architecture, size, budget), models in found.items():
        bits, reversal = mean(model.bits for model in models), mean(model.row["cost_reversed"] for model in models)
        table[f"{architecture} {size} {budget:g}"] = {"bits_per_base": bits, "cost_reversed": reversal}
        print(
            f"{architecture:<10}{size:>7} {budget / 1e6:.1f}M tokens: {bits:.4f}, reversed +{reversal:.4f}, "
            f"mean of {len(models)}"
        )
    for smaller, larger in pairwise(size for size in LADDER if ("shortconv", size, 1.4e6) in found):
        small, large = (found["shortconv", size, 1.4e6] for size in (smaller, larger))
        steps = [a.bits - b.bits for a, b in zip(small, large, strict=True)]
        error = sqrt(bits_between(pooled(small), pooled(large)).se ** 2 + variance(steps) / len(steps))
        step = mean(steps)
        print(f"{smaller} -> {larger}: falls by {step:.4f} ± {error:.4f}, {step / error:.1f} errors")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
