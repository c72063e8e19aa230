"""A study: one tree of frozen dataclasses, read from one TOML file.

The file is strict: an unknown key is an error that names the nearest one, a value of the wrong type an error that
shows it. Each room defines its own table (`TrainConfig` lives in `kleiber.train.config`); this module only composes
them and expands the ladder into runs. Rejected: YAML and layered overrides, where one cannot see what will run.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import NoReturn

from kleiber.corpus.strategies import STRATEGIES
from kleiber.downstream.config import Task
from kleiber.errors import ConfigError, UnknownName
from kleiber.genome.rules import PanelRules, RecordRules
from kleiber.genome.sources import find_source
from kleiber.model.architectures import ARCHITECTURES
from kleiber.study.checks import check_genome, check_stack
from kleiber.study.paths import EMBEDDED as EMBEDDED
from kleiber.study.paths import resolve_paths
from kleiber.study.strict import structured
from kleiber.study.tables import Arm, Genome
from kleiber.train.config import TrainConfig

__all__ = ["Arm", "Fit", "Genome", "Head", "Ladder", "Model", "Study", "Tune", "Unit", "load_study", "parse_study"]

LARGEST = 1 << 20  # bytes of a study file
MOST_RUNS = 100_000
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_DEEP = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{16}}")
"""A dotted key of more parts than any study has: `tomllib` takes minutes for one of 32,000."""


@dataclass(frozen=True)
class Head:
    """``[study]``: the name of the study, and the one seed of everything.

    `title` and `question` are for the report.
    """

    name: str
    seed: int = 17
    title: str = ""
    question: str = ""


@dataclass(frozen=True)
class Model:
    """``[model]``: which network is trained.

    Attributes
    ----------
    architecture
        ``"shortconv"``, which reads order; or ``"dnabert2"``, which cannot, as published.
    """

    architecture: str = "shortconv"


@dataclass(frozen=True)
class Ladder:
    """``[ladder]``: the sizes and the budgets of data.

    Attributes
    ----------
    sizes
        Non-embedding parameters as ``"0.4M"``, or a published preset (``"15M"`` … ``"230M"``, total parameters).
    tokens
        Budgets D in tokens a run reads; all budgets of a size come from one trunk.
    unique
        Fractions of the training territory that may be read; below 1 data repeat on purpose.
    repeated
        Sizes that are trained on every fraction; the others on the largest alone. All when empty.
    seeds
        Replicates of a run.
    replicated
        Sizes that get them; the others are trained once. All when empty.
    stack
        Runs of one shape that are trained at once at most, on one device: seeds, arms, fractions and trials of
        `[tune]`, whose vocabularies are as large. For small models on a GPU; 1 trains each run alone.
    """

    sizes: tuple[str, ...]
    tokens: tuple[float, ...]
    unique: tuple[float, ...] = (1.0,)
    repeated: tuple[str, ...] = ()
    seeds: int = 1
    replicated: tuple[str, ...] = ()
    stack: int = 1


@dataclass(frozen=True)
class Tune:
    """``[tune]``: short trials that find what all learning rates are multiplied by.

    Attributes
    ----------
    sizes
        As in the ladder; one is enough, as how rates change with the size was measured. The first arm is trained.
    tokens
        Data of each trial.
    factors
        Multiples of the rates that `[train]` gives, at least three.
    """

    sizes: tuple[str, ...] = ()
    tokens: float = 1e6
    factors: tuple[float, ...] = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Fit:
    """``[fit]``: how the laws are fitted.

    Attributes
    ----------
    bootstrap
        Number of bootstrap draws behind each interval.
    """

    bootstrap: int = 1000


@dataclass(frozen=True)
class Unit:
    """One training run of the ladder, with all its budgets.

    An arm at one size, seed and share of unique data.

    A trial of `[tune]` has the multiple of the learning rate that it tries; it is 0 for a run of the ladder.
    """

    arm: str
    size: str
    seed: int
    unique: float
    factor: float = 0.0


@dataclass(frozen=True)
class Study:
    """A whole study; see the fields of each table."""

    study: Head
    genome: Genome
    arms: dict[str, Arm]
    ladder: Ladder
    model: Model = field(default_factory=Model)
    train: TrainConfig = field(default_factory=TrainConfig)
    tune: Tune = field(default_factory=Tune)
    fit: Fit = field(default_factory=Fit)
    downstream: dict[str, Task] = field(default_factory=dict)

    def units(self) -> list[Unit]:
        """Return every run of the study, arm by arm, small sizes first."""
        return [
            Unit(arm, size, self.study.seed + replicate, unique)
            for arm in self.arms
            for size in self.sizes(arm)
            for unique in self.shares(arm, size)
            for replicate in range(self._n_seeds(size))
        ]

    @property
    def n_runs(self) -> int:
        """Number of runs that `units` returns."""
        return sum(len(self.shares(arm, size)) * self._n_seeds(size) for arm in self.arms for size in self.sizes(arm))

    def _n_seeds(self, size: str) -> int:
        return self.ladder.seeds if size in (self.ladder.replicated or self.ladder.sizes) else 1

    def sizes(self, arm: str) -> tuple[str, ...]:
        """Return the sizes at which an arm is trained."""
        return self.arms[arm].sizes or self.ladder.sizes

    def tokens(self, arm: str) -> tuple[float, ...]:
        """Return the budgets of data of an arm."""
        return self.arms[arm].tokens or self.ladder.tokens

    def budgets(self, unit: Unit) -> tuple[int, ...]:
        """Return the budgets of data of a run, or of a trial, in tokens."""
        return tuple(map(round, (self.tune.tokens,) if unit.factor else self.tokens(unit.arm)))

    def panel_rules(self) -> PanelRules:
        """Return what the panel keeps of its records.

        Raises
        ------
        ConfigError
            When a key of ``[genome]`` says what cannot be.
        """
        rules = {key.name: getattr(self.genome, key.name) for key in fields(RecordRules)}
        return PanelRules(**rules, seed=self.study.seed if self.genome.unphased == "random" else 0)

    def shares(self, arm: str, size: str) -> tuple[float, ...]:
        """Return the fractions of the territory that an arm is trained on at one size."""
        shares = self.arms[arm].unique or self.ladder.unique
        return shares if size in (self.ladder.repeated or self.ladder.sizes) else (max(shares),)

    def trials(self) -> list[Unit]:
        """Return the runs that tune the learning rate."""
        arm = next(iter(self.arms))
        share = max(self.shares(arm, self.sizes(arm)[0]))
        return [
            Unit(arm, size, self.study.seed, share, factor) for size in self.tune.sizes for factor in self.tune.factors
        ]

    def tokenizers(self) -> list[str]:
        """Return the distinct tokenizers of the arms, in their order."""
        return list(dict.fromkeys(arm.tokenizer for arm in self.arms.values()))


def load_study(path: Path) -> Study:
    """Read a study file; paths in it are relative to its folder.

    Raises
    ------
    ConfigError
        When the file is missing, is no TOML, or says something that cannot be.
    UnknownName
        When a key is unknown; names the nearest.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"There is no study file {path}.\n  `kleiber new` writes one to start from.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as a study: {error}.") from None
    return parse_study(text, str(path), path.parent)


def parse_study(text: str, name: str, folder: Path) -> Study:
    """Read a study from TOML text; `name` is what errors call it, `folder` what its paths are relative to.

    Raises
    ------
    ConfigError, UnknownName
        As `load_study` does.
    """
    if len(text) > LARGEST:
        raise ConfigError(f"{name} is longer than {LARGEST:,} letters: it is no study.")
    if deep := _DEEP.search(text):
        raise ConfigError(f"{name} has a key of more than 16 parts, {deep[0][:60]!r} …: no study has one.")
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits is one, too
        raise ConfigError(f"{name} is no valid TOML: {error}.") from None
    study = structured(raw, Study, name)
    _check_values(study, name)
    genome, arms, tasks = resolve_paths(study.genome, study.arms, study.downstream, name, folder)
    return replace(study, genome=genome, arms=arms, downstream=tasks)


def _check_values(study: Study, name: str) -> None:
    """Refuse what no run could make sense of; rooms check their own tables when they are used."""

    def refuse(where: str, what: str) -> NoReturn:
        raise ConfigError(f"{where} of {name} {what}")

    if not _names_a_file(study.study.name):
        refuse("[study] name", f"is a folder's name and cannot be {study.study.name!r}.")
    if not 0 <= study.study.seed < 2**63:
        refuse("[study] seed", f"must lie in 0 … 2^63 - 1, not {study.study.seed}.")
    if not study.arms:
        refuse("[arms]", "is empty; name at least one corpus and tokenizer.")
    for arm, entry in study.arms.items():
        if entry.sampling not in STRATEGIES:
            raise UnknownName(entry.sampling, STRATEGIES, f"[arms] {arm} of {name}", "sampling")
        if STRATEGIES[entry.sampling].reads_haplotypes and not (study.genome.panel or study.genome.assemblies):
            refuse(f"[arms] {arm}", f"needs a panel to sample {entry.sampling!r}; add `panel = [...]` to [genome].")
        if not 0 <= entry.reverse_complement <= 1:
            refuse(f"[arms] {arm} reverse_complement", f"must be from 0 to 1, not {entry.reverse_complement}.")
        if not _names_a_file(arm):
            refuse("[arms]", f"names an arm {arm!r}; an arm is part of file names.")
        for key in ("sizes", "tokens"):
            asked, ladder = getattr(entry, key), getattr(study.ladder, key)
            if list(asked) != [value for value in ladder if value in asked]:
                refuse(
                    f"[arms] {arm} {key}", f"must be some of the ladder's {list(ladder)}, in order: not {list(asked)}."
                )
    if bool(study.genome.reference) == bool(study.genome.assembly):
        refuse("[genome]", "has to name either a FASTA (reference) or an assembly of the catalogue (assembly).")
    if study.genome.assembly:
        find_source(study.genome.assembly, "assembly", f"[genome] of {name}")
    if not study.genome.holdout:
        refuse("[genome] holdout", "is empty; without held-out DNA there is no honest loss.")
    if study.model.architecture not in ARCHITECTURES:
        raise UnknownName(study.model.architecture, ARCHITECTURES, f"[model] of {name}", "architecture")
    if study.train.original and study.model.architecture != "dnabert2":
        refuse("[train] original", 'is a recipe for DNABERT-2; add architecture = "dnabert2" to [model].')
    ladder = study.ladder
    if not ladder.sizes or len(set(ladder.sizes)) < len(ladder.sizes):
        refuse("[ladder] sizes", f"must name each size once, not {list(ladder.sizes)}.")
    if (
        not ladder.tokens
        or any(not 1 <= d < 1e18 for d in ladder.tokens)
        or list(ladder.tokens) != sorted(set(ladder.tokens))
    ):
        refuse("[ladder] tokens", f"must be increasing numbers of tokens, below 1e18, not {list(ladder.tokens)}.")
    for where, shares in (
        ("[ladder]", ladder.unique),
        *((f"[arms] {a}", e.unique or (1.0,)) for a, e in study.arms.items()),
    ):
        if not shares or any(not 0 < u <= 1 for u in shares) or len(set(shares)) < len(shares):
            refuse(f"{where} unique", f"must be fractions above 0 and up to 1, each once, not {list(shares)}.")
    for key in ("repeated", "replicated"):
        if strangers := sorted(set(getattr(ladder, key)) - set(ladder.sizes)):
            refuse(f"[ladder] {key}", f"names {strangers[0]!r}, which is none of its sizes.")
    tune = study.tune
    if len(set(tune.sizes)) < len(tune.sizes):
        refuse("[tune] sizes", f"must be named once each, not {list(tune.sizes)}.")
    if tune.sizes and (len(tune.factors) < 3 or len(set(tune.factors)) < len(tune.factors)):
        refuse("[tune] factors", f"must be at least 3, each once, not {list(tune.factors)}.")
    if not all(1e-4 <= factor <= 1e4 for factor in tune.factors):
        refuse("[tune] factors", f"must be from 0.0001 to 10,000, not {list(tune.factors)}.")
    if not 1 <= tune.tokens < 1e18:
        refuse("[tune] tokens", f"must be a number of tokens, from 1 to below 1e18, not {tune.tokens}.")
    if study.genome.fallback not in ("", EMBEDDED):
        refuse("[genome] fallback", f'can be "embedded", not {study.genome.fallback!r}.')
    if ladder.seeds < 1:
        refuse("[ladder] seeds", f"must be at least 1, not {ladder.seeds}.")
    check_stack(ladder.stack, study.train, refuse)
    if study.study.seed + ladder.seeds > 2**63 or study.n_runs > MOST_RUNS:
        refuse("[ladder]", f"asks for {study.n_runs:,} runs of {ladder.seeds:,} seeds; {MOST_RUNS:,} are the most.")
    if not 100 <= study.fit.bootstrap <= 1_000_000:
        refuse("[fit] bootstrap", f"must be 100 to 1,000,000 draws, not {study.fit.bootstrap}.")
    for task, asked in study.downstream.items():
        if not re.fullmatch(r"[A-Za-z]\w{0,40}", task, re.ASCII):
            refuse("[downstream]", f"names a task {task!r}; it is part of columns: letters, digits and _.")
        asked.check(f"[downstream] {task} of {name}")
    check_genome(study.genome, study.arms, refuse)
    try:
        study.panel_rules()
    except ConfigError as error:
        refuse("[genome]", f"cannot be: {error}")


def _names_a_file(text: str) -> bool:
    """Say whether a name can be a part of a file's: printable, no path, at most 100 bytes."""
    return 0 < len(text.encode()) <= 100 and text.isprintable() and not (set(text) & set("/\\") or text[0] == ".")
