"""Does `kleiber plan --pilot` foresee the interval that the whole study will have? Count it on studies of known laws.

    python benchmarks/foresight.py [--truths 4] [--studies 10] [--seed 1] [--pilot spread|cheap]

For each truth, a law and the noise of `kinds.py`, a pilot of half the sizes and half the budgets is drawn (every other
one, or the cheaper halves), and its prediction for the whole design is set beside `kleiber fit` of whole studies under
the truth. Prints a line a truth, the median ratio of the half-widths (found over foreseen), and of the designs that
"cannot identify a" the share of verdicts that refuse. Every truth is asked of three designs; the shortest cannot.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median

import numpy as np
from kinds import Design, Law, noise

from kleiber.errors import DataError
from kleiber.scaling import foresight
from kleiber.scaling.fit import fit
from kleiber.scaling.observations import Observations
from kleiber.scaling.witnesses import examine

DESIGNS = {  # sizes, their step, budgets, how far they reach
    "wide": (8, 2.0, 6, 64.0),
    "narrow": (6, 1.6, 6, 5.0),
    "short": (5, 1.4, 5, 3.0),
}
RATIOS, REFUSES = (0.75, 1.33), 0.9


def observed(design: Design, law: Law, rng: np.random.Generator, keep: np.ndarray | None = None) -> Observations:
    """Return a table of a design, or of the part of it that is kept."""
    loss = law(design.N, design.D) * np.exp(noise(rng, design))
    _, trunk = np.unique(np.stack([design.N, design.seed]), axis=1, return_inverse=True)
    table = Observations(design.N, design.D, loss, 6 * design.N * design.D, trunk.astype(np.int64), {})
    return table if keep is None else table.take(keep)


def of_pilot(design: Design, kind: str) -> np.ndarray:
    """Return which points a pilot has: half of the sizes, half of the budgets."""

    def half(values: np.ndarray) -> np.ndarray:
        known = np.unique(values)
        return known[::2] if kind == "spread" else known[: -(-len(known) // 2)]

    return np.isin(design.N, half(design.N)) & np.isin(design.D, half(design.D))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("truths", 4), ("studies", 10), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pilot", choices=("spread", "cheap"), default="spread")
    asked = parser.parse_args()
    ratios, refused = [], []
    for truth in range(asked.truths):
        for name, (sizes, step, budgets, reach) in DESIGNS.items():
            rng = np.random.default_rng([asked.seed, truth, sizes])
            least = 10.0 ** rng.uniform(5, 6)
            data = 50 * least * np.geomspace(1, reach, budgets)
            design = Design.grid(least * step ** np.arange(sizes), data)
            law = Law.draw(rng, *design.middle)
            whole = observed(design, law, rng)
            try:
                prior = foresight.prior_of_pilot(observed(design, law, rng, of_pilot(design, asked.pilot)))
            except DataError as error:
                print(f"truth {truth}, {name}: no prediction: {str(error).splitlines()[0]}")
                prior = foresight.stated_prior(foresight.Design(whole.N, whole.D, whole.cluster))
            foreseen = foresight.foresee(foresight.Design(whole.N, whole.D, whole.cluster), prior)
            own, usable = [], []
            for _ in range(asked.studies):
                table = observed(design, law, rng)
                result = examine(fit(table), table)
                low, high = result.intervals["a"]
                own.append((high - low) / 2 / foreseen.half_width)
                usable.append(result.usable)
            ratios += own
            if foreseen.identifies is False:
                refused += [not each for each in usable]
            print(
                f"truth {truth}, {name}: foreseen {foreseen.half_width:.3f}, identifies {foreseen.identifies}, usable "
                f"{foreseen.n_usable} of {foreseen.n_tables}; found / foreseen {median(own):.2f} "
                f"({min(own):.2f} to {max(own):.2f}), usable {sum(usable)} of {len(usable)}",
                flush=True,
            )
    share = sum(refused) / len(refused) if refused else 1.0
    print(f"median ratio {median(ratios):.2f} of {len(ratios)}; refused where it cannot {share:.0%} of {len(refused)}")
    failed = not RATIOS[0] <= median(ratios) <= RATIOS[1] or share < REFUSES
    print("FAIL" if failed else "PASS")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
