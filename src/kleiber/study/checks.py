"""What a study file may say of genomes, samples, populations, stacks and tasks: refused here, before anything is read.

Beside `kleiber.study.config`, which holds the tree, for a file is read in a sitting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from kleiber.corpus.strategies import STRATEGIES
from kleiber.downstream.config import Task
from kleiber.errors import ConfigError, MissingDependency
from kleiber.genome.rules import POLICIES
from kleiber.study.tables import Arm, Genome
from kleiber.train.config import TrainConfig, alone_by

__all__ = ["check_genome", "check_stack", "check_tasks"]

MOST_AT_ONCE = 1024  # runs of a stack
EXACT = 1e-6  # shares may miss a sum of 1 by so much: three thirds


def check_genome(genome: Genome, arms: Mapping[str, Arm], refuse: Callable[[str, str], NoReturn]) -> None:
    """Refuse values of ``[genome]``, and an arm's samples, that no run can make sense of.

    Parameters
    ----------
    refuse
        Raises: told the table and key, and what is wrong.
    """
    if genome.policy not in POLICIES:
        refuse("[genome] policy", f"can be {' or '.join(POLICIES)}, not {genome.policy!r}.")
    if not 0 <= genome.min_af < 1:
        refuse("[genome] min_af", f"must be a share from 0 to below 1, not {genome.min_af!r} (1 % is 0.01).")
    for key in ("holdout", "include", "exclude"):
        if not all(text.strip() for text in getattr(genome, key)):
            refuse(f"[genome] {key}", "names an empty contig.")
    tables: dict[str, Genome | Arm] = {"[genome]": genome, **{f"[arms] {name}": arm for name, arm in arms.items()}}
    for where, table in tables.items():
        for key in ("samples", "populations"):
            names = getattr(table, key)
            if len(set(names)) < len(names) or not all(names):
                refuse(f"{where} {key}", f"must name each once, not {list(names)}.")
            if names and not (genome.panel or (table is not genome and genome.assemblies)):
                refuse(f"{where} {key}", "are those of a panel; add `panel = [...]` to [genome].")
        if table.populations and not genome.sample_table:
            refuse(f"{where} populations", "need a table that says who is of which: add sample_table to [genome].")
        _check_shares(where, table.populations, table.shares, refuse)
    for name, arm in arms.items():
        if not STRATEGIES[arm.sampling].reads_haplotypes and (arm.samples or arm.populations):
            refuse(f"[arms] {name}", "reads the reference, which has no samples; sample the pangenome or variants.")
    if genome.assemblies:
        _check_assemblies(genome, arms, refuse)
    if genome.unrelated and not (genome.sample_table and genome.panel):
        refuse("[genome] unrelated", "needs a panel, and a table that names parents: add sample_table.")


def check_stack(stack: int, train: TrainConfig, refuse: Callable[[str, str], NoReturn]) -> None:
    """Refuse stacks of runs that cannot be trained at once; `refuse` as `check_genome` has it."""
    if not 1 <= stack <= MOST_AT_ONCE:
        refuse("[ladder] stack", f"must be 1 to {MOST_AT_ONCE:,} runs, not {stack}.")
    if stack > 1 and (key := alone_by(train)):
        refuse(
            "[ladder] stack",
            f"= {stack} trains runs at once, and those with [train] {key} can only be trained alone.\n"
            f"  Leave one of the two out.",
        )


def check_tasks(tasks: Mapping[str, Task]) -> None:
    """Refuse tasks whose files or packages are not there; takes no time.

    Raises
    ------
    ConfigError
        When a file is missing; names the task.
    MissingDependency
        When tables are to be probed without scikit-learn.
    """
    for name, task in tasks.items():
        for path in task.files:
            if not Path(path).is_file():
                raise ConfigError(f"There is no file {path}, which [downstream] {name} of the study names.")
        if task.train and find_spec("sklearn") is None:
            raise MissingDependency("scikit-learn", "downstream")


def _check_assemblies(genome: Genome, arms: Mapping[str, Arm], refuse: Callable[[str, str], NoReturn]) -> None:
    if genome.panel:
        refuse("[genome] assemblies", "stand in place of a panel; study each alone, and compare: kleiber report A B.")
    for name, arm in arms.items():
        if STRATEGIES[arm.sampling].reads_haplotypes and arm.sampling != "pangenome":
            refuse(
                f"[arms] {name}",
                f"samples {arm.sampling!r}, and assemblies come without records: nothing says which of their bases are "
                "variants.\n  Sample the pangenome, or give a panel.",
            )
        if arm.shares:
            refuse(f"[arms] {name} shares", "are those of a panel's populations, and [genome] has assemblies.")
    for key in ("holdout", "include", "exclude"):
        for text in getattr(genome, key):
            if re.search(r":[0-9,]+-[0-9,]+$", text) or text.removesuffix(".gz").endswith(".bed"):
                refuse(
                    f"[genome] {key}",
                    f"names a block, {text!r}; assemblies have coordinates of their own.\n  Name whole chromosomes.",
                )


def _check_shares(
    where: str, populations: Sequence[str], shares: Sequence[float], refuse: Callable[[str, str], NoReturn]
) -> None:
    if not shares:
        return
    if len(shares) != len(populations):
        refuse(f"{where} shares", f"must be one for each of {len(populations)} populations, not {list(shares)}.")
    if not all(0 < share <= 1 for share in shares) or abs(sum(shares) - 1) > EXACT:
        refuse(f"{where} shares", f"must lie above 0 and add up to 1, not {list(shares)} (sum {sum(shares):g}).")
