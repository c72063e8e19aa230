"""Time a fit and its bootstrap beside the published procedure, on the 240 Chinchilla points, in one run.

The published procedure (Hoffmann et al. 2022; Besiroglu et al. 2024) polishes a grid of 4,500 starts by L-BFGS with
finite differences. It takes minutes: an evenly spaced sample of its starts is run, and its time is extrapolated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from kleiber.scaling.fit import fit
from kleiber.scaling.observations import Observations, read_table

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "published" / "chinchilla_epoch.csv"
DELTA = 1e-3
EXPONENTS = np.arange(0, 2.5, 0.5)  # of the published grid: α and β
LOGS = np.arange(0, 30, 5)  # ln A and ln B
FLOORS = np.arange(-1, 1.5, 0.5)  # ln E


def published(points: Observations, theta: np.ndarray) -> float:
    """Return the published objective, summed, as plain numpy."""
    e, a, b, alpha, beta = theta
    terms = np.stack([np.full(len(points), e), a - alpha * np.log(points.N), b - beta * np.log(points.D)])
    size = np.abs(logsumexp(terms, axis=0) - np.log(points.loss))
    return float(np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum())


def seconds(call: Callable[[], object], times: int = 5) -> float:
    """Return the median time of some calls."""
    spans = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spans.append(time.perf_counter() - begin)
    return median(spans)


def processor() -> str:
    """Name the machine's processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    """Print a table and one line of JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--starts", type=int, default=90, help="starts of the published grid that are run")
    chosen = options.parse_args()
    points = Observations.of(read_table(DATA).sort("loss").head(240))
    fit(points, bootstrap=2)  # compiles
    ours = seconds(lambda: fit(points, bootstrap=0))
    drawn = seconds(lambda: fit(points, bootstrap=4000), 3) - ours
    grid = [(e, a, b, x, y) for x, y, e, a, b in itertools.product(EXPONENTS, EXPONENTS, FLOORS, LOGS, LOGS)]
    sample = grid[:: len(grid) // chosen.starts][: chosen.starts]
    begin = time.perf_counter()
    reached = [float(minimize(lambda t: published(points, t), s, method="L-BFGS-B").fun) for s in sample]
    a_start = (time.perf_counter() - begin) / len(sample)
    theirs, objective = a_start * len(grid), fit(points, bootstrap=0).objective or 0.0
    failed = float(np.mean(np.array(reached) > objective * 1.001))
    rows = [
        ("fit, every start", ours, f"objective {objective:.10f}"),
        ("4,000 draws", drawn, f"{drawn / 4000 * 1e6:.0f} µs each"),
        (f"published, {len(sample)} of {len(grid)} starts", a_start * len(sample), f"objective {min(reached):.10f}"),
        (f"published, {len(grid)} starts (extrapolated)", theirs, f"{failed:.0%} of the starts run end elsewhere"),
    ]
    for name, span, note in rows:
        print(f"{name:44} {span:9.3f} s  {note}")
    print(f"{'ratio of the fits':44} {theirs / ours:9.0f}    one core of {processor()}")
    figures = {"fit_s": ours, "draws_4000_s": drawn, "published_s": theirs, "starts_run": len(sample)}
    print(json.dumps({**figures, "objective": objective, "elsewhere": failed, "machine": processor()}))


if __name__ == "__main__":
    main()
