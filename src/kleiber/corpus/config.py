"""What a corpus reads, in one frozen record; it decides every window, and is part of the corpus's fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.corpus.strategies import STRATEGIES
from kleiber.errors import ConfigError, UnknownName

__all__ = ["CorpusConfig"]


@dataclass(frozen=True)
class CorpusConfig:
    """What a corpus reads.

    Attributes
    ----------
    strategy
        One of `kleiber.corpus.strategies.STRATEGIES`: ``"reference"``, ``"pangenome"`` or ``"variant"``.
    window
        Bases of a window; for ``"variant"``, the stretch that has to hold an edit.
    reach
        Bases that have to follow a start inside the territory; `window` when None.
    holdout
        Contigs or blocks (1-based inclusive) that belong to the split ``"heldout"``.
    split
        ``"train"`` or ``"heldout"``.
    unique
        Fraction of the territory that may be read.
    reverse_complement
        Probability that a window is read from the other strand.
    samples
        Read these samples of the panel only; all when empty.
    groups, shares
        In place of `samples`, groups of samples (populations), and the share of the windows that each gives: a window's
        group is drawn first, and the window is uniform over its group's.
    contigs
        Read these contigs only. When empty, those of the panel (or the reference); without `include`, training reads
        the assembled chromosomes of them only (see `kleiber.genome.assembly.assembled`).
    include, exclude
        Read these regions only, and not those.
    with_n
        Whether a window may hold N, as the original study's could.
    soft_masked
        Whether it may hold soft-masked bases, which are lower-case in the FASTA.
    mode
        ``"anchored"``: every window is `window` haplotype bases. ``"span"``: the haplotype over `window` reference
        bases, so that lengths vary, as in the original study.
    chromosome_uniform
        Draw the contig first, each alike, as the original study did; for ``"reference"`` only.
    """

    strategy: str
    window: int
    reach: int | None = None
    holdout: tuple[str, ...] = ()
    split: str = "train"
    unique: float = 1.0
    reverse_complement: float = 0.0
    samples: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    shares: tuple[float, ...] = ()
    contigs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    with_n: bool = False
    soft_masked: bool = True
    mode: str = "anchored"
    chromosome_uniform: bool = False

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise UnknownName(self.strategy, STRATEGIES, kind="sampling strategy")
        if self.split not in ("train", "heldout"):
            raise UnknownName(self.split, ("train", "heldout"), kind="split")
        if self.mode not in ("anchored", "span"):
            raise UnknownName(self.mode, ("anchored", "span"), kind="mode")
        if self.window < 1 or (self.reach is not None and self.reach < self.window):
            raise ConfigError(f"A window of {self.window} bases with a reach of {self.reach} cannot be.")
        if not 0 <= self.reverse_complement <= 1 or not 0 < self.unique <= 1:
            raise ConfigError(
                f"reverse_complement = {self.reverse_complement} and unique = {self.unique} cannot be: "
                "a probability and a share above 0."
            )
        if len(self.groups) != len(self.shares) or not all(0 < share <= 1 for share in self.shares):
            raise ConfigError(f"{len(self.groups)} groups of samples have the shares {list(self.shares)}.")
        if self.groups and (self.samples or not self.reads_haplotypes):
            raise ConfigError("Groups of samples are an alternative to samples, of a panel's haplotypes.")
        if self.chromosome_uniform and self.reads_haplotypes:
            raise ConfigError(f"chromosome_uniform is for windows of the reference, not for {self.strategy!r}.")

    @property
    def reads_haplotypes(self) -> bool:
        """Whether windows are those of a panel's haplotypes."""
        return STRATEGIES[self.strategy].reads_haplotypes

    @property
    def readable(self) -> int:
        """Bases that follow every start."""
        return self.reach or self.window
