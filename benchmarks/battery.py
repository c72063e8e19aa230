"""Is `kleiber fit` confident and wrong? Count it on fresh tables of every kind in `kinds.py`, whose truth is known.

Usage: battery.py [--draws 2] [--seed 1] [--kind NAME] [--bootstrap 400]

Each kind gives a fresh table a draw: another law, another design, other noise. The exponent a of each method is

  right    called usable, and its 95 % interval meets the slopes of the true frontier
  wrong    called usable, and its interval misses them: confident and wrong
  refused  not called usable
  coy      refused, though the table is clean and informative

Exits 1 when wrong is more than 5 % of all verdicts or of the parametric ones, or more than one clean table in ten is
refused by every method.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

import numpy as np
from kinds import KINDS, Table

from kleiber.errors import KleiberError
from kleiber.scaling.methods import METHODS, fit_table
from kleiber.scaling.result import FitResult

VERDICTS = ("right", "wrong", "refused", "coy")
MOST_WRONG, MOST_COY = 0.05, 0.1


def verdict(result: FitResult | None, table: Table) -> str:
    """Judge one method on one table."""
    if result is None or not result.usable or "a" not in result.intervals:
        return "coy" if table.is_clean else "refused"
    low, high = result.intervals["a"]
    return "right" if low <= table.high and table.low <= high else "wrong"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("draws", 2), ("seed", 1), ("bootstrap", 400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--kind", default="")
    parser.add_argument("--why", action="store_true", help="print why each table was refused")
    asked = parser.parse_args()
    count: dict[str, Counter[str]] = {method: Counter() for method in METHODS}
    clean = silent = 0
    print(f"{'kind':42s} " + " ".join(f"{method:>22s}" for method in METHODS) + "   (right wrong refused coy)")
    for k, kind in enumerate(KINDS):
        if asked.kind and asked.kind != kind.__name__:
            continue
        own: dict[str, Counter[str]] = {method: Counter() for method in METHODS}
        label, notes = "", []
        for draw in range(asked.draws):
            table = kind(np.random.default_rng([asked.seed, draw, k]))
            label = table.kind
            try:
                results = fit_table(table.frame, METHODS, bootstrap=asked.bootstrap)
                found = {result.method: result for result in results}
            except KleiberError as error:
                found = {}
                notes.append(f"    draw {draw}: {str(error).splitlines()[0][:160]}")
            said = {method: verdict(found.get(method), table) for method in METHODS}
            for method, word in said.items():
                own[method][word] += 1
                count[method][word] += 1
            clean += table.is_clean
            silent += table.is_clean and set(said.values()) == {"coy"}
            for method in METHODS:
                if said[method] == "wrong" or (asked.why and method == "parametric"):
                    one = found.get(method)
                    span = one.intervals.get("a", [np.nan, np.nan]) if one else [np.nan, np.nan]
                    why = (one.warnings[0] if one and one.warnings else "")[:300]
                    notes.append(
                        f"    draw {draw}, {method} {said[method]}: {span[0]:.3f} to {span[1]:.3f}, truth "
                        f"{table.low:.3f} to {table.high:.3f} {why}"
                    )
        cells = (" ".join(f"{own[method][word]:4d}" for word in VERDICTS) for method in METHODS)
        print(f"{label:42s} " + " ".join(f"{cell:>22s}" for cell in cells), *notes, sep="\n", flush=True)
    every = sum(count.values(), Counter())
    shares = {}
    for name, one in (("all methods", every), *count.items()):
        shares[name] = one["wrong"] / max(one.total(), 1)
        print(f"{name:14s} " + ", ".join(f"{word} {one[word]}" for word in VERDICTS) + f"; wrong {shares[name]:.1%}")
    print(f"clean tables refused by every method: {silent} of {clean}")
    failed = max(shares["all methods"], shares["parametric"]) > MOST_WRONG or silent > MOST_COY * clean
    print("FAIL" if failed else "PASS")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
