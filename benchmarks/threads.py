"""As many runs as cores with one thread each, or fewer with more: what a sweep gets done, in tokens a second.

    python benchmarks/threads.py [--sizes 0.3M 1M 3M 6M] [--repeats 3]

Every run goes through the loop of training (64 rows of 128 tokens, BPE 1,024, bf16) in a process of its own, as in a
study; this is what `kleiber.study.machine` measures and chooses by. Medians of repeats that take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

from kleiber.study.clock import measure_rates
from kleiber.study.config import parse_study
from kleiber.study.machine import cpu_name
from kleiber.study.plan import plan

STUDY = """
[study]
name = "threads"
[genome]
reference = "embedded"
holdout = ["20:3,900,001-4,000,000"]
[arms]
ref = {{ sampling = "reference", tokenizer = "bpe1024" }}
[ladder]
sizes = ["{size}"]
tokens = [1e7]
[train]
batch = 64
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=["0.3M", "1M", "3M", "6M"])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    ways = [(cores // 2**k, 2**k) for k in range(cores.bit_length()) if 2**k <= cores]
    print(f"{cpu_name()}, {cores} cores; tokens a second of all runs together")
    print(f"{'size':<6}" + "".join(f"{f'{workers} x {threads} threads':>20}" for workers, threads in ways))
    for size in options.sizes:
        (run,) = plan(parse_study(STUDY.format(size=size), "threads", Path("."))).runs
        per_token = run.flops / run.run.n_steps / (64 * 128)
        found: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
        for _ in range(options.repeats):
            for workers, threads in ways:
                rates = measure_rates([(run, "bpe1024")] * workers, workers, threads, "matmul")
                found[workers, threads].append(sum(rates) / per_token)
        medians = [statistics.median(rates) for rates in found.values()]
        print(f"{size:<6}" + "".join(f"{rate:>14,.0f} {rate / medians[0]:4.2f}x" for rate in medians), flush=True)


if __name__ == "__main__":
    main()
