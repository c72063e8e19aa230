"""All that a clock decides: rates and the share of the machine's peak, apart from the metrics that are reproducible.

The peak is that of a square matrix product in the run's precision, measured at the start of a run on the threads and
the device that it uses and at a size that fills it, so that the share (MFU: Chowdhery et al. 2022, arXiv:2204.02311)
is of what this machine does and not of a data sheet.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

__all__ = ["Clock", "faster", "faster_precision", "gemm_peak", "product_rates"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WORTHWHILE = 1.5  # times as fast as fp32: what bf16 has to be, so that a machine always chooses alike


SIDES = {"cpu": (1024,)}  # of the matrices, and OTHERWISE on what is no processor: a GPU shows its rate at 8,192 only
OTHERWISE = 2048, 4096, 8192


def gemm_peak(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Return the operations a second of square matrix products: the best of several sizes."""
    sides = SIDES.get(device.type, OTHERWISE)
    return max(2 * n**3 / min(_seconds(device, dtype, n, repeats)) for n in sides)


def _seconds(device: torch.device, dtype: torch.dtype, n: int, repeats: int) -> list[float]:
    """Time n x n products, after one that warms up."""
    a = torch.ones(n, n, device=device, dtype=dtype)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for a device that works on its own
        times.append(time.perf_counter() - start)
    return times[1:]


def product_rates(device: torch.device, turns: int = 8) -> dict[str, float]:
    """Return the operations a second of matrix products in ``"fp32"`` and ``"bf16"``.

    Takes about a second on a processor. The two take turns and the best of each counts, so that another job which comes
    and goes decides nothing.
    """
    rates = dict.fromkeys(DTYPES, 0.0)
    for _ in range(turns):
        for name, dtype in DTYPES.items():
            rates[name] = max(rates[name], gemm_peak(device, dtype, repeats=2))
    return rates


def faster(rates: dict[str, float]) -> str:
    """Return ``"bf16"`` where its products are at least `WORTHWHILE` times as fast as those of fp32.

    Some processors know bf16 by name only and compute it at a third of fp32's rate.
    """
    return "bf16" if rates["bf16"] >= WORTHWHILE * rates["fp32"] else "fp32"


def faster_precision(device: torch.device, turns: int = 8) -> str:
    """Return the precision that ``"auto"`` means on a device, by measurement."""
    return faster(product_rates(device, turns))


class Clock:
    """Writes ``timing.jsonl``: a line for each stretch between two checkpoints."""

    def __init__(self, path: Path, device: torch.device, precision: str):
        self.path = path
        self.peak = gemm_peak(device, torch.bfloat16 if precision == "bf16" else torch.float32)
        self.since, self.steps = time.perf_counter(), 0

    def tick(self) -> None:
        """Count an optimizer step."""
        self.steps += 1

    def write(self, step: int, tokens: int, flops: int, **how: int) -> None:
        """Note the stretch that ends at a step, and how the steps were taken.

        `tokens` and `flops` are those of one optimizer step.
        """
        now = time.perf_counter()
        seconds, steps = now - self.since, self.steps
        if steps:
            line = {
                "step": step,
                "steps": steps,
                "seconds": seconds,
                "tokens_per_second": steps * tokens / seconds,
                "flops_per_second": steps * flops / seconds,
                "gemm_peak": self.peak,
                "mfu": steps * flops / seconds / self.peak,
                **how,
            }
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
        self.since, self.steps = now, 0
