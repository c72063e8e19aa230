"""Training steps: both networks with their optimizers beside a plain fp32 PyTorch step, in tokens a second.

    python benchmarks/baseline_step.py [--size 15M] [--rows 64] [--parts 16] [--repeats 5] [--threads 2]

An optimizer step is so many parts of so many rows of 128 tokens, 15 % masked. The plain step is DNABERT-2 in fp32 with
PyTorch's default AdamW and everything computed at all tokens but the head, which is computed at masked ones. Parts and
optimizers of all take turns in one run; medians. The peak is that of a bf16 matrix product measured before, exact
operations are counted. ONEDNN_MAX_CPU_ISA=AVX512_CORE in the environment shows a machine without native bf16.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.reference import Reference
from kleiber.model.config import shape_for
from kleiber.model.networks import network
from kleiber.tokens.train import WINDOW, train_tokenizer
from kleiber.train.batches import Batches
from kleiber.train.config import Run, TrainConfig
from kleiber.train.optimizers import Optimizers

LENGTH = 128
KINDS = [(a, o, p) for a, o in (("dnabert2", "adamw"), ("shortconv", "muon")) for p in ("bf16", "fp32")]


@dataclass
class Step:
    """What one kind of step does for a part of the batch, and once for all of it."""

    part: Callable[[], object]
    update: Callable[[], object]


def plain_step(size: str, vocab_size: int, tensors: list[torch.Tensor]) -> Step:
    model = network(shape_for(size, vocab_size))
    model.initialise(1)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    ids, rows, labels = tensors

    def part() -> None:
        hidden = model.bert(ids)
        picked = hidden.gather(1, rows.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        F.cross_entropy(model.cls.predictions(picked).flatten(0, 1), labels.flatten()).backward()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return Step(part, update)


def our_step(size: str, vocab_size: int, tensors: list[torch.Tensor], kind: tuple[str, str, str]) -> Step:
    architecture, optimizer, precision = kind
    model = network(shape_for(size, vocab_size, architecture=architecture))
    model.initialise(1)
    train = TrainConfig(precision=precision, optimizer=optimizer)
    optimizers = Optimizers(model, Run("step", model.config, train, (1,), 1))
    ids, rows, labels = tensors

    def part() -> None:
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            logits = model(ids, rows=rows)
        F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten()).backward()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.set_rates([1e-4] * len(optimizers.parts))
        optimizers.step()

    return Step(part, update)


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gemm_peak(dtype: torch.dtype, n: int = 2048) -> float:
    """Return the operations a second of square matrix products."""
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return 2 * n**3 / statistics.median(seconds_of(lambda: a @ b) for _ in range(7))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="15M")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(str(files("kleiber") / "data" / "embedded"))
        reference = Reference.build(source / "chr20_1-4Mb.GRCh37.fa.gz", Path(scratch) / "r")
        windows = open_corpus(reference, None, CorpusConfig("reference", WINDOW), 1).batch(np.arange(4000))
        tokenizer = train_tokenizer("bpe4096", windows)
        train = TrainConfig(length=LENGTH, batch=options.rows, mask_rate=0.15)
        bases = train.row_tokens * tokenizer.max_token_length
        batches = Batches(open_corpus(reference, None, CorpusConfig("reference", bases), 1), tokenizer, train, 1)
        batch = batches[0]
        preparing = statistics.median(seconds_of(lambda: batches[3]) for _ in range(9))
    tensors = [torch.from_numpy(x) for x in (batch.inputs, batch.positions, batch.labels)]
    peak = gemm_peak(torch.bfloat16)
    steps = {"plain, fp32": plain_step(options.size, tokenizer.vocab_size, tensors)}
    for kind in KINDS:
        steps[", ".join(kind)] = our_step(options.size, tokenizer.vocab_size, tensors, kind)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    updates: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.repeats + 1):
        for name, step in steps.items():
            seconds = seconds_of(step.part), seconds_of(step.update)
            if turn:  # the first is the warm-up
                taken[name].append(seconds[0])
                updates[name].append(seconds[1])
    whole = {n: options.parts * statistics.median(taken[n]) + statistics.median(updates[n]) for n in steps}
    tokens = options.parts * options.rows * LENGTH
    config = shape_for(options.size, tokenizer.vocab_size)
    flops = options.parts * sum(config.flops(options.rows, LENGTH, options.rows * train.n_masked).values())
    print(
        f"{options.size}: {config.n_params:,} parameters, steps of {options.parts} x {options.rows} rows, "
        f"bf16 GEMM {peak / 1e9:.0f} GFLOP/s, {options.threads} threads"
    )
    for name, value in whole.items():
        reference_kind = f"dnabert2, adamw, {name.rsplit(', ')[-1]}"
        print(
            f"{name:<24}{tokens / value:>9,.0f} tokens/s  {whole['plain, fp32'] / value:5.2f} x plain  "
            f"{whole[reference_kind] / value:5.2f} x dnabert2  {flops / value / peak:6.1%} of the peak  "
            f"optimizer {statistics.median(updates[name]) / value:5.1%}"
        )
    print(
        f"preparing a part: {preparing * 1e3:.2f} ms, {options.parts * preparing / min(whole.values()):.2%} of a step"
    )
    machine = f"{platform.machine()}, torch {torch.__version__}"
    print(json.dumps({"machine": machine, "size": options.size, "peak": peak, "seconds": whole, "data": preparing}))


if __name__ == "__main__":
    main()
