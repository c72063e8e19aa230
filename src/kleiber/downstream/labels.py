"""What is known of variants, and how well scores agree with it.

Which of the values are harmful and which are not is settled before any score is looked at, from what the user names or
from the order in which the header names them; where neither says, nothing is guessed. The same holds for direction:
a lower likelihood of ALT, and a higher CADD or phyloP, mean harm, and no score is turned round because it does better
so.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kleiber.downstream.statistics import Estimate, Weighted, auprc, auroc, estimate, spearman
from kleiber.downstream.variants import Site, VariantFile
from kleiber.errors import ConfigError, DataError

__all__ = ["Agreement", "Choice", "Harmful", "Labels"]

HARMFUL_WHEN_HIGH = re.compile(r"(cadd|phylop|phastcons|gerp)", re.IGNORECASE)
NUMERIC = ("Float", "Integer")
Harmful = Literal["high", "low"]
MOST_VALUES = 1000  # of a label that is no number
CONTIG = 40  # bits below the number of a contig: more stretches than any has bases


@dataclass(frozen=True)
class Choice:
    """Which values of a label are harmful and which are not, with counts of variants.

    Attributes
    ----------
    left_out
        Values that are neither; variants without a value are counted under an empty one.
    """

    positive: dict[str, int]
    negative: dict[str, int]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Agreement:
    """How well one score agrees with a label.

    Attributes
    ----------
    statistics
        ``"auroc"`` and ``"auprc"``, or ``"spearman"`` for a numeric label.
    """

    score: str
    statistics: dict[str, Estimate]


@dataclass
class Labels:
    """The labels of variants and their scores, gathered while a file is read.

    Parameters
    ----------
    source
        The file, of whose header the key is.
    key
        An INFO key.
    positive, negative
        Values that are harmful, and that are not; empty to go by the header's order.
    cluster
        Variants in one stretch of so many bases are drawn together.
    harmful
        Which end of a numeric label means harm.

    Attributes
    ----------
    values
        Of each variant: its number, higher ones harmful, or that of its class in `names`; NaN where it has none.
    places
        Of each variant: its stretch, as a number that also tells the contig.
    scores
        By name, one a variant; higher means harm.

    Raises
    ------
    ConfigError
        When the key cannot serve, or is a number and values are named.
    UnknownName
        When the header has no such key.
    """

    source: VariantFile
    key: str
    positive: Sequence[str] = ()
    negative: Sequence[str] = ()
    cluster: int = 100
    harmful: Harmful = "high"
    values: array[float] = field(default_factory=lambda: array("d"))
    names: dict[str, int] = field(default_factory=dict)
    places: array[int] = field(default_factory=lambda: array("q"))
    scores: dict[str, array[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        line = self.source.info(self.key)
        self.is_numeric = line.type in NUMERIC and not (self.positive or self.negative)
        if self.harmful == "low" and not self.is_numeric:
            raise ConfigError(
                f"{self.key} has classes, of which none is high or low: name those that are harmful, --positive …"
            )
        self.is_flag = line.type == "Flag"
        self._contigs: dict[str, int] = {}
        self.per_allele = line.number == "A"
        if line.number not in ("A", "1", 1, 0, "0", "."):
            raise ConfigError(
                f"--label {self.key} has Number={line.number} in the header of {self.source.path}: "
                "a label is one value a record, or one an ALT allele."
            )
        if bool(self.positive) != bool(self.negative):
            raise ConfigError("--positive and --negative belong together: name both, or neither.")
        if both := sorted(set(self.positive) & set(self.negative)):
            raise ConfigError(f"{both[0]!r} cannot be --positive and --negative at once.")
        self.beside = [
            name
            for name, other in self.source.header.info.items()
            if HARMFUL_WHEN_HIGH.match(name) and other.type in NUMERIC and name != self.key
        ]

    def add(self, site: Site, harm: dict[str, Sequence[float]]) -> None:
        """Note a site's labels, and its scores, a value an ALT allele each; higher means harm."""
        info, n = site.record.info, len(site.variants)
        columns = harm | {name: _each(info.get(name), n) for name in self.beside}
        labels = [info.get(self.key)] * n if not self.per_allele else _each(info.get(self.key), n)
        for i, variant in enumerate(site.variants):
            self.values.append(self._number(labels[i]))
            contig = self._contigs.setdefault(variant.contig, len(self._contigs))
            self.places.append(contig << CONTIG | variant.start // self.cluster)
            for name, scores in columns.items():
                score = scores[i]
                self.scores.setdefault(name, array("d")).append(np.nan if score is None else float(score))

    def _number(self, value: Any) -> float:
        """Return a label as a number; that of its class, which may be new, where the key is none."""
        if isinstance(value, tuple):  # of a key that may have any number of values, such as ClinVar's CLNSIG
            several = None if self.is_numeric else ",".join(map(str, value))
            value = value[0] if len(value) == 1 else several
        if self.is_flag:
            value = "present" if value else "absent"
        if value is None or value == ".":
            return np.nan
        if self.is_numeric:
            return float(value) if self.harmful == "high" else -float(value)
        number = self.names.setdefault(str(value), len(self.names))
        if number == MOST_VALUES:
            raise ConfigError(
                f"--label {self.key} has more than {MOST_VALUES:,} values in {self.source.path}, {value!r} among them."
                "\n  Name a key of classes, or one that the header calls a number."
            )
        return number

    def rehearse(self) -> None:
        """Read the whole file without a score: what would end a long scoring ends it before it begins.

        The labels are spent: score with others.

        Raises
        ------
        ConfigError, DataError
            As `choose`, `agreements` and reading raise; also when no variant can be scored.
        """
        known = "can be scored"
        for site in self.source:
            self.add(site, {known: [np.nan if variant.why_not else 0.0 for variant in site.variants]})
        if not np.isfinite(self.scores.get(known, [])).any():
            contigs = ", ".join(contig.name for contig in self.source.reference.contigs[:5])
            raise DataError(
                f"No variant of {self.source.path} can be scored.\n"
                f"  Its FASTA has the contigs {contigs}, … Name the one that it was called on."
            )
        _, label, _ = self.compared(known, None if self.is_numeric else self.choose())
        if len(np.unique(label)) < 2:
            raise DataError(self._nothing_to_compare)

    def choose(self) -> Choice:
        """Settle which values are harmful: those named, else the first and the last by the header's order.

        Raises
        ------
        ConfigError
            When a named value does not occur, or the header's description does not say the order.
        """
        values = np.array(self.values)
        n_of = np.bincount(values[np.isfinite(values)].astype(np.int64), minlength=len(self.names))
        counts = {name: int(n_of[number]) for name, number in self.names.items()}
        if none := int(np.isnan(values).sum()):
            counts[""] = none
        known = list(self.names)
        positive, negative = list(self.positive), list(self.negative)
        if not positive:
            text = str(self.source.info(self.key).description)
            at = {value: place for value in known if (place := _place(value, text)) is not None}
            if self.is_flag:
                at = {"present": 0, "absent": 1}
            ordered = sorted((value for value in known if value in at), key=lambda value: at[value])
            if len(ordered) < 2 or len(known) > len(ordered) == 2:
                shown = ", ".join(f"{value!r} ({counts[value]:,})" for value in known[:10])
                raise ConfigError(
                    f"Which values of {self.key} are harmful is not said: the header's description ({text!r}) does "
                    f"not name them in order.\n  It has {shown or 'no value'}. Name them: --positive … --negative …"
                )
            positive, negative = ordered[:1], ordered[-1:]
        for value in (*positive, *negative):
            if value not in counts:
                raise ConfigError(
                    f"No variant of {self.source.path} has {self.key} = {value!r}.\n"
                    f"  Values: {', '.join(sorted(known)[:10]) or 'none'}."
                )
        rest = {value: n for value, n in counts.items() if value not in positive and value not in negative}
        return Choice({v: counts[v] for v in positive}, {v: counts[v] for v in negative}, rest)

    def agreements(self, choice: Choice | None, seed: int = 0) -> list[Agreement]:
        """Return how well each score agrees with the label, in the order in which scores were added.

        Parameters
        ----------
        choice
            From `choose`; None for a numeric label.

        Raises
        ------
        DataError
            When the variants that have a score do not differ in the label.
        """
        found = []
        for name in self.scores:
            score, label, clusters = self.compared(name, choice)
            if len(np.unique(label)) > 1:
                statistics = _statistics(score, label, choice is None)
                found.append(Agreement(name, {key: estimate(one, clusters, seed) for key, one in statistics.items()}))
        if not found:
            raise DataError(self._nothing_to_compare)
        return found

    def compared(
        self, name: str, choice: Choice | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Return a score, the labels and the clusters of the variants that have both, (n,) each.

        Classes are 1 where harmful and 0 where not.
        """
        label, score = np.array(self.values), np.array(self.scores[name])
        if choice is not None:
            classes = np.array([*(_class(one, choice) for one in self.names), np.nan])
            label = classes[np.where(np.isnan(label), len(self.names), label).astype(np.int64)]
        keep = np.isfinite(score) & np.isfinite(label)
        clusters = np.unique(np.array(self.places)[keep], return_inverse=True)[1]
        return score[keep], label[keep], clusters

    @property
    def _nothing_to_compare(self) -> str:
        return (
            f"The variants of {self.source.path} that have a score all have the same {self.key}, or none: "
            "there is nothing to compare scores with."
        )


def _statistics(score: NDArray[np.float64], label: NDArray[np.float64], is_numeric: bool) -> dict[str, Weighted]:
    if is_numeric:
        return {"spearman": spearman(score, label)}
    return {"auroc": auroc(score, label > 0), "auprc": auprc(score, label > 0)}


def _class(value: str, choice: Choice) -> float:
    return 1.0 if value in choice.positive else 0.0 if value in choice.negative else np.nan


def _each(value: Any, n: int) -> list[Any]:
    """Return a value for each of n ALT alleles: one each, or one for all."""
    values = list(value) if isinstance(value, tuple) else [value]
    return values if len(values) == n else values * n if len(values) == 1 else [None] * n


def _place(value: str, text: str) -> int | None:
    match = re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", text)
    return match.start() if match else None
