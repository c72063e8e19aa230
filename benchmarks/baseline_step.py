"""A training step of the study's sizes: ours beside a plain fp32 PyTorch step, in tokens a second and of the GEMM peak.

    python benchmarks/baseline_step.py [--size 15M] [--repeats 5] [--threads 2]

The plain step is the same network and batch (64 rows of 128 tokens, 15 % masked) in fp32 with the default AdamW, the
faster of matmul and SDPA attention, and everything computed at all tokens but the head, which is computed at masked
ones. The peak is that of a bf16 matrix product measured before, and exact operations are counted. Steps of both take
turns in one run; medians.
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
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.reference import Reference
from kleiber.model.config import shape_for
from kleiber.model.dnabert2 import DNABERT2
from kleiber.tokens.train import WINDOW, train_tokenizer
from kleiber.train.batches import Batches
from kleiber.train.config import TrainConfig

ROWS, LENGTH = 64, 128


def gemm_peak(dtype: torch.dtype, n: int = 2048) -> float:
    """Return the operations a second of square matrix products."""
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return 2 * n**3 / median(lambda: a @ b, 7)


def median(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of some work, after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def plain_step(model: DNABERT2, ids: torch.Tensor, rows: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        hidden = model.bert.encoder(model.bert.embeddings(ids))
        picked = hidden.gather(1, rows.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        loss = F.cross_entropy(model.cls.predictions(picked).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(
    model: DNABERT2, ids: torch.Tensor, rows: torch.Tensor, labels: torch.Tensor, bf16: bool
) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            logits = model(ids, rows=rows)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="15M")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(str(files("kleiber") / "data" / "embedded"))
        reference = Reference.build(source / "chr20_1-4Mb.GRCh37.fa.gz", Path(scratch) / "r")
        windows = open_corpus(reference, None, CorpusConfig("reference", WINDOW), 1).batch(np.arange(4000))
        tokenizer = train_tokenizer("bpe4096", windows)
        train = TrainConfig(length=LENGTH, batch=ROWS)
        bases = train.row_tokens * tokenizer.max_token_length
        batches = Batches(open_corpus(reference, None, CorpusConfig("reference", bases), 1), tokenizer, train, 1)
        preparing = median(lambda: batches[3], 9)
        batch = batches[0]
        config = shape_for(options.size, tokenizer.vocab_size)
        tensors = [torch.from_numpy(x) for x in (batch.inputs, batch.positions, batch.labels)]
        steps: dict[str, Callable[[], object]] = {}
        for backend in ("matmul", "sdpa"):
            for name in ("plain fp32", "ours fp32", "ours bf16"):
                model = DNABERT2(config)
                model.initialise(1)
                model.use_attention(backend)
                made = (
                    plain_step(model, *tensors) if name == "plain fp32" else our_step(model, *tensors, "bf16" in name)
                )
                steps[f"{name}, {backend}"] = made
        peak = gemm_peak(torch.bfloat16)
        seconds = {name: median(step, options.repeats) for name, step in steps.items()}
    tokens = ROWS * LENGTH
    flops = sum(config.flops(ROWS, LENGTH, ROWS * train.n_masked).values())
    plain = min(value for name, value in seconds.items() if name.startswith("plain"))
    print(
        f"{options.size}: {config.n_params:,} parameters, bf16 GEMM {peak / 1e9:.0f} GFLOP/s, {options.threads} threads"
    )
    for name, value in seconds.items():
        rate, share = tokens / value, flops / value / peak
        print(f"{name:<22}{rate:>9,.0f} tokens/s  {plain / value:5.2f} x the plain step  {share:6.1%} of the peak")
    best = min(seconds.values())
    print(f"preparing a batch: {preparing * 1e3:.2f} ms, {preparing / best:.2%} of the fastest step")
    machine = f"{platform.machine()}, torch {torch.__version__}"
    print(json.dumps({"machine": machine, "size": options.size, "peak": peak, "seconds": seconds, "data": preparing}))


if __name__ == "__main__":
    main()
