"""One chromosome to train small networks on and a stretch of it to score them: what benchmarks of recipes share.

Everything lands in a folder, so that a benchmark that was stopped goes on where it was: a run that is there, of the
same network, recipe, data and seed, is not trained again.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch

from kleiber.corpus.sampling import Corpus, CorpusConfig, open_corpus
from kleiber.genome.reference import Reference
from kleiber.model.config import ModelConfig
from kleiber.model.networks import network
from kleiber.storage import digest
from kleiber.tokens.kinds import load
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.tokens.train import WINDOW, train_tokenizer
from kleiber.train.clock import faster_precision
from kleiber.train.config import Run, TrainConfig
from kleiber.train.evaluate import Evaluation
from kleiber.train.loop import train
from kleiber.train.scoring import CLUSTERS, held_out

__all__ = ["BPE", "Chromosome", "Trained", "arguments", "pooled"]

SEED = 17  # of the tokenizer's DNA and of the held-out masks
BPE, BASES = "bpe1024", 4.4  # of a token, about


def arguments(out: str) -> ArgumentParser:
    """Return a parser of what all these benchmarks are asked: a FASTA file, what is held out, a folder and workers."""
    parser = ArgumentParser()
    parser.add_argument("fasta", type=Path)
    parser.add_argument("--holdout", default="20:3,000,001-4,000,000")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--workers", type=int, default=2)
    return parser


@dataclass(frozen=True)
class Trained:
    """A model at one budget: its observation, and nats and bases by cluster of held-out DNA."""

    row: dict
    clusters: pl.DataFrame

    @property
    def bits(self) -> float:
        """Bits per base."""
        return self.row["bits_per_base"]


def pooled(models: list[Trained]) -> pl.DataFrame:
    """Return the clusters of several seeds' models as if they were one's."""
    every = pl.concat([model.clusters for model in models])
    return every.group_by("contig", "start", maintain_order=True).agg(pl.col("nats", "n_bases").sum())


@dataclass(frozen=True)
class Chromosome:
    """DNA to train on and to score, cut into tokens.

    Attributes
    ----------
    recipe
        What is held out by it: rows and masks of the score; a run may have another recipe, with these.
    tokens
        The tokenizer: the BPE of 1,024 tokens that is trained on what is not held out, or one that needs no training.
    """

    folder: Path
    holdout: str
    recipe: TrainConfig
    threads: int = 1
    tokens: str = BPE

    @classmethod
    def prepare(cls, fasta: Path, holdout: str, folder: Path, recipe: TrainConfig, threads: int = 1) -> Chromosome:
        """Read the FASTA, train the tokenizer and settle the precision, where that is not done.

        Raises
        ------
        SystemExit
            When the folder is of another FASTA or another stretch.
        """
        settled, wanted = folder / "prepared.json", {"fasta": fasta.name, "holdout": holdout}
        if not settled.exists():
            reference = Reference.build(fasta, folder / "reference")
            tiles = open_corpus(reference, None, CorpusConfig("reference", WINDOW, holdout=(holdout,)), SEED)
            tokenizer = train_tokenizer(BPE, tiles.tile_rows(tiles.tiles(WINDOW), WINDOW))
            tokenizer.save(folder / "tokenizer.json")
            settled.write_text(json.dumps(wanted | {"precision": faster_precision(torch.device("cpu"))}))
        found = json.loads(settled.read_text())
        precision = found.pop("precision")
        if found != wanted:
            raise SystemExit(f"{folder} is of {found}, not of {wanted}: name another --out.")
        return cls(folder, holdout, replace(recipe, precision=precision), threads)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What cuts the bases into tokens."""
        if self.tokens == BPE:
            return load(self.folder / "tokenizer.json")
        return train_tokenizer(self.tokens, np.empty((0, WINDOW), np.uint8))

    @cached_property
    def reference(self) -> Reference:
        """The bases."""
        return Reference.open(self.folder / "reference")

    @cached_property
    def evaluation(self) -> Evaluation:
        """The held-out rows, as many as the recipe asks for."""
        return held_out(self.corpus(SEED, "heldout"), self.tokenizer, self.recipe, SEED, self.reference, None)

    def corpus(self, seed: int, split: str = "train") -> Corpus:
        """Return windows about as long as a row."""
        reach = self.recipe.row_tokens * self.tokenizer.max_token_length
        bases = BASES if self.tokens == BPE else self.tokenizer.max_token_length
        window = round(self.recipe.row_tokens * bases)
        return open_corpus(self.reference, None, CorpusConfig("reference", window, reach, (self.holdout,), split), seed)

    def train(
        self, name: str, shape: ModelConfig, recipe: TrainConfig, budgets: tuple[float, ...], seed: int
    ) -> list[Trained]:
        """Train one run, or read it where it is done: a model a budget."""
        run = Run(name, shape, recipe, tuple(map(round, budgets)), seed)
        parts = {part: list(tensor.shape) for part, tensor in network(shape).named_parameters()}
        folder = self.folder / "runs" / f"{name}.{digest([asdict(run), parts])[:6]}"
        rows = train(run, self.corpus(seed), self.tokenizer, self.evaluation, folder, self.threads)
        return [Trained(row, pl.read_csv(folder / "checkpoints" / f"step-{row['steps']}" / CLUSTERS)) for row in rows]
