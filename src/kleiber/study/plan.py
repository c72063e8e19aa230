"""The dry run: what a study will train, what that costs, and what its design can show. No data, no torch.

Counts are exact: parameters and operations come from `kleiber.model.config`, steps from the same arithmetic as
training. What depends on the data (bases a token, the size of the territory) is taken from the study's output where
it is there already, and is an assumption that the plan names where it is not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kleiber.errors import ConfigError
from kleiber.model.config import ModelConfig, shape_for
from kleiber.study.config import Study, Unit
from kleiber.study.rates import RATES, measured_rate
from kleiber.tokens.kinds import load
from kleiber.train.config import Run

__all__ = ["GPUS", "Plan", "PlannedRun", "checklist", "plan", "vocab_size"]

GPUS = {
    "v100": {"bf16": 125e12, "fp32": 15.7e12},
    "a100": {"bf16": 312e12, "fp32": 19.5e12},
    "h100": {"bf16": 989e12, "fp32": 67e12},
    "l40s": {"bf16": 362e12, "fp32": 91.6e12},
    "rtx4090": {"bf16": 165e12, "fp32": 82.6e12},
}
"""Peak operations a second, dense, as the makers print them; V100's bf16 is fp16, and fp32 is not TF32."""
BPE_BASES_PER_TOKEN = {32: 2.0, 1024: 4.4, 4096: 5.15, 32768: 6.3}  # of real chr20; between them by the logarithm
STAGES = 26.0, 6.0  # seconds: reading the genome, figures and the report; baselines, laws and figures of each arm


@dataclass(frozen=True)
class PlannedRun:
    """One run: its model, its budgets, and all operations of its trunk and cooldowns.

    Attributes
    ----------
    stack, stacked
        The number of the stack that it belongs to, and the runs in that, which are trained at once.
    """

    unit: Unit
    run: Run
    flops: int
    bases: float
    stack: int = 0
    stacked: int = 1

    @property
    def model(self) -> ModelConfig:
        """The shape."""
        return self.run.model


@dataclass(frozen=True)
class Plan:
    """All runs of a study, and what they come to.

    Attributes
    ----------
    runs, trials
        The ladder, and the small runs that tune its learning rate.
    n_unique_bases
        Of the training territory; None when the genome has not been read yet.
    """

    runs: tuple[PlannedRun, ...]
    trials: tuple[PlannedRun, ...]
    n_unique_bases: int | None

    @property
    def flops(self) -> int:
        """Operations of all runs, trunks and cooldowns, and of the trials that tune the learning rate."""
        return sum(run.flops for run in (*self.runs, *self.trials))

    @property
    def precision(self) -> str:
        """``"bf16"`` or ``"fp32"``, of all runs; where a machine is to choose, what a GPU chooses."""
        asked = self.runs[0].run.train.precision
        return "bf16" if asked == "auto" else asked

    @property
    def n_bytes(self) -> int:
        """Bytes on disk when all is trained: fp32 weights of every annealed model, and metrics."""
        weights = sum(4 * run.model.n_params * len(run.run.tokens) for run in self.runs)
        return weights + sum(220 * run.run.n_steps for run in self.runs)

    def epochs(self, run: PlannedRun) -> float | None:
        """Return the bases that a run's largest budget reads, over the unique ones it may read."""
        if self.n_unique_bases is None:
            return None
        return run.bases / (self.n_unique_bases * run.unit.unique)

    def hours_on(self, gpu: str, mfu: float, n: int = 1) -> float:
        """Return the hours of training on `n` GPUs of a kind, at a share of their peak.

        The peak is that of the study's precision.

        Raises
        ------
        ConfigError
            When the kind is unknown or the share no share.
        """
        if gpu not in GPUS:
            raise ConfigError(f"There is no GPU {gpu!r} in the table; it has {', '.join(GPUS)}.")
        if not 0 < mfu <= 1 or n < 1:
            raise ConfigError(f"{n} GPUs at {mfu:.0%} of their peak cannot be.")
        return self.flops / (GPUS[gpu][self.precision] * mfu * n) / 3600

    def hours_measured(self, gpu: str, n: int = 1, stacked: bool = False) -> float | None:
        """Return the hours of training on `n` GPUs of a kind at the rates measured there.

        One run on each at a time, or one stack. None where none were measured: of this kind, or in this precision.
        """
        if gpu not in RATES or self.precision != "bf16":
            return None
        seconds = 0.0
        for run in (*self.runs, *self.trials):
            train = run.run.train
            at_once = run.stacked if stacked else 1
            seconds += run.flops / measured_rate(gpu, run.model, train.batch * train.length, at_once)
        return seconds / n / 3600


def plan(study: Study, n_unique_bases: int | None = None, bases_per_token: dict[str, float] | None = None) -> Plan:
    """Expand a study into its runs and count what they cost.

    Parameters
    ----------
    n_unique_bases, bases_per_token
        What is known of the data: bases of the training territory, and of a token, by the tokenizer's specification.
    """
    known = bases_per_token or {}
    runs, trials = (
        _stacked([_planned(study, unit, known) for unit in units], study.ladder.stack)
        for units in (study.units(), study.trials())
    )
    return Plan(runs, trials, n_unique_bases)


def _stacked(runs: Sequence[PlannedRun], most: int) -> tuple[PlannedRun, ...]:
    """Return the runs with the stacks that they belong to, `most` runs each at most.

    Runs of one shape fill as few stacks as hold them, all nearly as large; stacks are in the order of their first runs.
    """
    alike: dict[ModelConfig, list[int]] = {}
    for i, run in enumerate(runs):
        alike.setdefault(run.model, []).append(i)
    stacks = []
    for places in alike.values():
        n = -(-len(places) // most)
        stacks += [places[k * len(places) // n : (k + 1) * len(places) // n] for k in range(n)]
    found = list(runs)
    for number, places in enumerate(sorted(stacks)):
        for i in places:
            found[i] = replace(runs[i], stack=number, stacked=len(places))
    return tuple(found)


def _planned(study: Study, unit: Unit, bases_per_token: dict[str, float]) -> PlannedRun:
    spec, train = study.arms[unit.arm].tokenizer, study.train
    model = shape_for(unit.size, vocab_size(spec), train.dropout, study.model.architecture)
    run = Run(f"{unit.arm}.{unit.size}", model, train, study.budgets(unit), unit.seed)
    per_token = bases_per_token.get(spec) or _expected_bases(spec)
    last = run.branches()[-1].end * train.batch * train.row_tokens * per_token
    return PlannedRun(unit, run, run.flops_per_step * run.n_steps, last)


def vocab_size(spec: str) -> int:
    """Return the number of ids of a tokenizer, from its specification or file.

    Raises
    ------
    ConfigError
        When the text is no specification.
    """
    if spec.endswith(".json"):
        return load(Path(spec)).vocab_size
    if spec == "original-6mer":
        return 4106
    if spec == "nucleotide":
        return 9
    if match := re.fullmatch(r"([2-8])mer", spec):
        return 9 + 4 ** int(match[1])
    if (match := re.fullmatch(r"bpe(\d{1,9})", spec)) and int(match[1]) >= 16:
        return int(match[1])
    raise ConfigError(
        f"There is no tokenizer {spec!r}.\n"
        '  Known are "nucleotide", "6mer" (k from 2 to 8), "bpe4096" (16 or more tokens), and a tokenizer.json file.'
    )


def _expected_bases(spec: str) -> float:
    """Return the bases of a token on human DNA: k, or what BPE of that size was measured to have."""
    if match := re.fullmatch(r"(?:original-)?(\d+)mer", spec):
        return float(match[1])
    if spec == "nucleotide":
        return 1.0
    from math import log

    sizes = sorted(BPE_BASES_PER_TOKEN)
    size = min(max(vocab_size(spec), sizes[0]), sizes[-1])
    high = next(s for s in sizes if s >= size)
    low = max((s for s in sizes if s <= size), default=high)
    share = 0.0 if low == high else log(size / low) / log(high / low)
    return BPE_BASES_PER_TOKEN[low] + share * (BPE_BASES_PER_TOKEN[high] - BPE_BASES_PER_TOKEN[low])


def checklist(study: Study, planned: Plan | None = None) -> list[dict[str, str]]:
    """Judge a design; one entry a check, with what the study has.

    Returns
    -------
    ``{"check": ..., "status": "pass" | "warn" | "fail", "detail": ...}``. A law in N and D needs several of each; a
    statement about noise needs replicates; one about repeats needs repeats.
    """
    ladder, train = study.ladder, study.train
    widest = max(study.arms, key=lambda arm: len(study.sizes(arm)) * len(study.tokens(arm)))  # the one that has a law
    sizes, tokens = len(study.sizes(widest)), study.tokens(widest)
    budgets, reach = len(tokens), tokens[-1] / tokens[0]
    whole = all(":" not in region for region in study.genome.holdout)
    units = study.units()
    shares = sorted({unit.unique for unit in units})
    again = {(unit.arm, unit.size) for unit in units if unit.seed != study.study.seed}
    checks = [
        _check("at least 5 sizes under one rule of shape", sizes >= 5, sizes >= 3, f"{sizes} sizes"),
        _check("at least 4 annealed budgets a size", budgets >= 4, budgets >= 3, f"{budgets} budgets"),
        _check("budgets over a factor of 4 or more", reach >= 4, reach >= 2, f"a factor of {reach:.3g}"),
        _check(
            "learning rate by size",
            train.base_exponent != 0,
            True,
            f"{train.base_lr:.3g} at {train.lr_size:g} parameters, times (N / "
            f"{train.lr_size:g})^{train.base_exponent:g}"
            + (f", tuned at {', '.join(study.tune.sizes)}" if study.tune.sizes else ""),
        ),
        _check(
            "at least 2 seeds of 3 configurations",
            len(again) >= 3,
            True,
            f"{ladder.seeds} a run" + (f", of {', '.join(ladder.replicated)}" if ladder.replicated else ""),
        ),
        _check("whole contigs held out", whole, bool(study.genome.holdout), ", ".join(study.genome.holdout)),
        _check(
            "repeats varied on purpose",
            len(shares) >= 3,
            True,
            f"unique share of the territory: {', '.join(f'{u:g}' for u in shares)}",
        ),
    ]
    if planned is not None:
        most = max((planned.epochs(run) or 0.0 for run in planned.runs if run.unit.unique == 1), default=0.0)
        known = planned.n_unique_bases is not None
        checks.append(
            _check(
                "at most 4 epochs where data do not repeat on purpose",
                known and most <= 4,
                not known or most <= 8,
                f"{most:.1f} epochs" if known else "the genome has not been read yet",
            )
        )
        shared = len(_bracketed(study, planned))
        checks.append(
            _check("4 budgets of compute within reach of 5 sizes", shared >= 4, shared >= 1, f"{shared} of 7 on a grid")
        )
    return checks


def _bracketed(study: Study, planned: Plan) -> list[float]:
    """Return those of the seven budgets at which IsoFLOP looks that five sizes of the first arm can spend.

    They lie between where three sizes have begun and where three have not ended, as `kleiber.scaling.frontier` has it.
    """
    first = next(iter(study.arms))
    ranges = []
    for run in planned.runs:
        if (
            run.unit.arm == first
            and run.unit.seed == study.study.seed
            and run.unit.unique == max(study.shares(first, run.unit.size))
        ):
            step = run.flops / run.run.n_steps
            ends = [branch.end * step for branch in run.run.branches()]
            ranges.append((ends[0], ends[-1]))
    low, high = sorted(r[0] for r in ranges)[:3][-1], sorted(r[1] for r in ranges)[-3:][0]
    if low >= high:
        return []
    grid = [low * (high / low) ** (k / 6) for k in range(7)]
    return [c for c in grid if sum(a <= c <= b for a, b in ranges) >= 5]


def _check(name: str, is_good: bool, is_tolerable: bool, detail: str) -> dict[str, str]:
    return {"check": name, "status": "pass" if is_good else "warn" if is_tolerable else "fail", "detail": detail}
