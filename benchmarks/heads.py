"""Does the width of heads matter: two sizes with the heads of the rule, narrower and wider ones.

    python benchmarks/heads.py FASTA [--out out/heads] [--workers 2]

The ladder's heads are as wide as divides a width, up to 16, so that they go up and down between 8 and 16 along it: a
step in the law if that mattered. Trains as `order_ladder.py` does, 1.4M tokens, two seeds, and scores all of the
held-out stretch under three sets of masks. A run that is there is not trained again.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context

from chromosome import Chromosome, arguments
from order_ladder import RECIPE

from kleiber.model.config import shape_for

HEADS = {"0.52M": (13, 8, 4), "0.05M": (5, 4, 2)}
SEEDS = (17, 18)
TOKENS = 1.4e6


def bits_at(chromosome: Chromosome, size: str, heads: int, seed: int) -> float:
    """Train and score one network, in bits per base."""
    shape = replace(shape_for(size, chromosome.tokenizer.vocab_size, architecture="shortconv"), heads=heads)
    (model,) = chromosome.train(f"{size}.{heads}.{seed}", shape, chromosome.recipe, (TOKENS,), seed)
    print(f"{size:>6}  heads of {shape.hidden / heads:g}, seed {seed}: {model.bits:.4f}", flush=True)
    return model.bits


def main() -> None:
    options = arguments("out/heads").parse_args()
    chromosome = Chromosome.prepare(options.fasta, options.holdout, options.out, RECIPE)
    jobs = [(size, heads, seed) for size, widths in HEADS.items() for heads, seed in product(widths, SEEDS)]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for asked in [pool.submit(bits_at, chromosome, *job) for job in jobs]:
            asked.result()


if __name__ == "__main__":
    main()
