"""What each process of the distributed tests runs: tiny trainings, one after the other, under torchrun.

torchrun --nproc-per-node 2 tests/train/distributed.py PANEL FOLDER [--shard] [--micro 2] [--die-at 17] [--bf16]
    [--dnabert2] [+ FOLDER …]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from unittest.mock import patch

import numpy as np
from safetensors.torch import save_file

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.panel import Panel
from kleiber.model.config import shape_for
from kleiber.tokens.train import train_tokenizer
from kleiber.train import loop
from kleiber.train.config import Run, TrainConfig
from kleiber.train.devices import leave, whole
from kleiber.train.evaluate import Evaluation

HOLDOUT = ("20:3,900,001-4,000,000",)


def train(panel: Panel, arguments: Sequence[str]) -> None:
    """Train a model as the arguments want it, a checkpoint a step; its first gradients are saved beside it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--dnabert2", action="store_true")
    parser.add_argument("--micro", type=int, default=0)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--die-at", type=int, default=-1)
    options = parser.parse_args(arguments)
    train = TrainConfig(length=32, batch=4, mask_rate=0.2, eval_rows=40, eval_masks=2, micro_batch=options.micro)
    train = replace(train, precision="bf16" if options.bf16 else "fp32", dropout=options.dropout)
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    corpus = open_corpus(panel.reference, panel, CorpusConfig("pangenome", 90, 90, HOLDOUT), 1)
    heldout = open_corpus(panel.reference, None, CorpusConfig("reference", 90, 90, HOLDOUT, "heldout"), 1)
    if options.dnabert2:
        train = replace(train, optimizer="adamw")
    architecture = "dnabert2" if options.dnabert2 else "shortconv"
    shape = shape_for("0.03M", tokenizer.vocab_size, options.dropout, architecture)
    run = Run("tiny", shape, train, (20 * 4 * 32, 40 * 4 * 32), 1)
    take = loop._Training._update

    def watched(self, batch, lr):
        if self.step == options.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        taken = take(self, batch, lr)
        if self.step == 0:
            gradients = {name: whole(p.grad).contiguous().clone() for name, p in self.model.named_parameters()}
            if self.devices.is_first:
                save_file(gradients, options.folder / "gradients.safetensors")
        return taken

    evaluation = Evaluation.of(heldout, tokenizer, train, 1)
    with patch.object(loop, "CHECKPOINT_SECONDS", 0.0), patch.object(loop._Training, "_update", watched):
        loop.train(run, corpus, tokenizer, evaluation, options.folder, shard=options.shard)


if __name__ == "__main__":
    panel = Panel.open(Path(sys.argv[1]))
    for is_end, arguments in groupby(sys.argv[2:], "+".__eq__):
        if not is_end:
            train(panel, list(arguments))
    leave()
