"""What a study scores after each model: one line of ``[downstream]``; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.errors import ConfigError

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """Variants to score, or tables to probe.

    Attributes
    ----------
    variants
        A VCF or BCF file, with a `label`.
    reference
        The FASTA that it was called on; the study's own when empty.
    label, positive, negative
        An INFO key, and its values that mean harm and that do not; see `kleiber score`.
    harmful
        Which end of a numeric label means harm: ``"high"`` or ``"low"``.
    cluster
        Bases of a stretch whose variants are drawn together for the intervals.
    train, dev, test
        Tables of labelled sequences; see `kleiber probe`. Without `dev` every tenth row of `train`.
    """

    variants: str = ""
    reference: str = ""
    label: str = ""
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    harmful: str = "high"
    cluster: int = 100
    train: str = ""
    dev: str = ""
    test: str = ""

    def check(self, where: str) -> None:
        """Refuse a task that is neither.

        Raises
        ------
        ConfigError
            Says what is missing, in the table `where`.
        """
        if bool(self.variants) == bool(self.train or self.test):
            raise ConfigError(f"{where} has to name either variants (with a label), or tables (train and test).")
        if self.variants and not self.label:
            raise ConfigError(f"{where} names variants and no label to compare scores with.")
        if not self.variants and not (self.train and self.test):
            raise ConfigError(f"{where} needs both tables, train and test.")
        if self.harmful not in ("high", "low"):
            raise ConfigError(f'{where} harmful can be "high" or "low", not {self.harmful!r}.')
        if self.cluster < 1:
            raise ConfigError(f"{where} cluster must be at least 1, not {self.cluster}.")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it reads."""
        return tuple(name for name in (self.variants, self.reference, self.train, self.dev, self.test) if name)
