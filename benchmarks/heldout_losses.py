"""What three small models reach on real chr20: held-out bits a base at 3.28 million tokens, every scored token [MASK].

    python benchmarks/heldout_losses.py [--threads 2]

Training reads chr20:1.0-3.5 Mb of the embedded reference (GRCh37), BPE of 1,024 tokens trained there, rows of 128
tokens; 3.5-4.0 Mb is scored under 6 disjoint masks. Widths and depths are 64 x 2, 128 x 3 and 256 x 4.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.reference import Reference
from kleiber.model.config import ModelConfig
from kleiber.tokens.train import WINDOW, train_tokenizer
from kleiber.train.config import Run, TrainConfig
from kleiber.train.evaluate import Evaluation
from kleiber.train.loop import train

HOLDOUT = ("20:3,500,001-4,000,000",)
TOKENS = (820_000, 1_640_000, 2_460_000, 3_280_000)
SHAPES = {"0.2M": (64, 2, 4), "0.9M": (128, 3, 4), "4.5M": (256, 4, 8)}
RECIPE = TrainConfig(
    optimizer="adamw",
    batch=16,
    mask_rate=0.4,
    lr=1.8e-3,
    lr_size=1.3e5,
    lr_exponent=-0.22,
    beta2=0.95,
    warmup=0.3,
    eval_masks=6,
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    source = Path(str(files("kleiber") / "data" / "embedded" / "chr20_1-4Mb.GRCh37.fa.gz"))
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        reference = Reference.build(source, Path(scratch) / "reference")
        tiles = open_corpus(reference, None, CorpusConfig("reference", WINDOW, holdout=HOLDOUT), 17)
        tokenizer = train_tokenizer("bpe1024", tiles.tile_rows(tiles.tiles(WINDOW), WINDOW))
        bases = RECIPE.row_tokens * tokenizer.max_token_length
        window = RECIPE.row_tokens * 5  # about what a row holds

        def corpus(split: str):
            return open_corpus(reference, None, CorpusConfig("reference", window, bases, HOLDOUT, split), 17)

        evaluation = Evaluation.of(corpus("heldout"), tokenizer, RECIPE, 17)
        for name, (hidden, layers, heads) in SHAPES.items():
            shape = ModelConfig(tokenizer.vocab_size, hidden, layers, heads, 4 * hidden)
            run = Run(name, shape, RECIPE, TOKENS, 17)
            start = time.perf_counter()
            rows = train(run, corpus("train"), tokenizer, evaluation, Path(scratch) / name, options.threads)
            seconds = time.perf_counter() - start
            cells = " / ".join(f"{row['bits_per_base']:.4f}" for row in rows)
            error = rows[-1]["bits_per_base_se"]
            print(f"{name:<6}{shape.n_params:>10,} parameters  {cells} (± {error:.4f})  {seconds:.0f} s", flush=True)
            found[name] = [row["bits_per_base"] for row in rows]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
