"""What the network that reads order reaches on a whole chromosome, by size and data, beside DNABERT-2's.

    python benchmarks/order_ladder.py FASTA [--holdout 20:3,000,001-4,000,000] [--threads 1] [--only 0.13M]

Trains on all but the held-out stretch (BPE of 1,024 tokens trained there, steps of 16 rows of 128 tokens, the recipe of
the package) and scores at most 1,000 held-out rows under three sets of masks. Prints means of three seeds, the steps of
the ladder with their paired standard errors, and what reversing the tokens of a row costs both networks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import mean

import polars as pl

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.reference import Reference
from kleiber.model.config import shape_for
from kleiber.scaling.pairs import bits_between
from kleiber.tokens.train import WINDOW, train_tokenizer
from kleiber.train.config import Run, TrainConfig
from kleiber.train.loop import train
from kleiber.train.scoring import CLUSTERS, held_out

RECIPE = TrainConfig(batch=16, eval_rows=1000, eval_masks=3)
SEEDS = (17, 18, 19)
RUNS = [
    *(("shortconv", "0.033M", (1.4e6,), seed) for seed in SEEDS),
    *(("shortconv", "0.13M", (1.4e6, 2.8e6), seed) for seed in SEEDS),
    *(("shortconv", "0.52M", (1.4e6,), seed) for seed in SEEDS),
    ("dnabert2", "0.52M", (1.4e6,), SEEDS[0]),
    ("shortconv", "0.2M", (6e6,), SEEDS[0]),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("fasta", type=Path)
    parser.add_argument("--holdout", default="20:3,000,001-4,000,000")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    found: dict[tuple[str, str, float], list[tuple[dict, pl.DataFrame]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        Reference.build(options.fasta, Path(scratch) / "reference")
        reference = Reference.open(Path(scratch) / "reference")
        holdout = (options.holdout,)
        tiles = open_corpus(reference, None, CorpusConfig("reference", WINDOW, holdout=holdout), 17)
        tokenizer = train_tokenizer("bpe1024", tiles.tile_rows(tiles.tiles(WINDOW), WINDOW))
        reach = RECIPE.row_tokens * tokenizer.max_token_length
        window = round(RECIPE.row_tokens * 4.4)  # about what a row holds
        kept = open_corpus(reference, None, CorpusConfig("reference", window, reach, holdout, "heldout"), 17)
        evaluation = held_out(kept, tokenizer, RECIPE, 17, reference, None)
        for architecture, size, budgets, seed in RUNS:
            if options.only and size not in options.only:
                continue
            corpus = open_corpus(reference, None, CorpusConfig("reference", window, reach, holdout), seed)
            shape = shape_for(size, tokenizer.vocab_size, architecture=architecture)
            optimizer = "muon" if architecture == "shortconv" else "adamw"
            recipe = TrainConfig(batch=16, eval_rows=1000, eval_masks=3, optimizer=optimizer)
            run = Run(f"{architecture}.{size}.{seed}", shape, recipe, tuple(map(round, budgets)), seed)
            start, folder = time.perf_counter(), Path(scratch) / run.name
            for row in train(run, corpus, tokenizer, evaluation, folder, options.threads):
                clusters = pl.read_csv(folder / "checkpoints" / f"step-{row['steps']}" / CLUSTERS)
                budget = min(budgets, key=lambda d: abs(d - row["n_tokens"]))
                found.setdefault((architecture, size, budget), []).append((row, clusters))
                print(
                    f"{architecture:<10}{size:>7} {row['n_params_non_embedding']:>8,}  {row['n_tokens']:>9,} tokens  "
                    f"seed {seed}  {row['bits_per_base']:.4f}  reversed +{row['cost_reversed']:.4f} "
                    f"± {row['cost_reversed_se']:.4f}  {row['precision']}  {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
    table = {}
    for (architecture, size, budget), rows in found.items():
        value = mean(row["bits_per_base"] for row, _ in rows)
        table[f"{architecture} {size} {budget:g}"] = value
        print(f"{architecture:<10}{size:>7} {budget / 1e6:.1f}M tokens: {value:.4f}, mean of {len(rows)}")
    ladder = [size for size in ("0.033M", "0.13M", "0.52M") if ("shortconv", size, 1.4e6) in found]
    for smaller, larger in pairwise(ladder):
        pairs = [
            bits_between(a, b)
            for (_, a), (_, b) in zip(
                found["shortconv", smaller, 1.4e6], found["shortconv", larger, 1.4e6], strict=True
            )
        ]
        error = sqrt(sum(pair.se**2 for pair in pairs)) / len(pairs)
        step = mean(pair.value for pair in pairs)
        print(f"{smaller} -> {larger}: falls by {step:.4f} ± {error:.4f} (paired), {step / error:.1f} errors")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
