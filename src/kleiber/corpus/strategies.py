"""Which windows a corpus draws: every sampling strategy, by name.

`STRATEGIES` is the one place where a strategy is added (see "Add a part" of the how-tos). All draw uniformly from the
valid windows of the reference or of all haplotypes, and keep those that the strategy asks for; what is rejected is
drawn again with the next number of its counter, so that what is kept is exactly uniform over all that could be.
Rejected: strategies as classes that draw by themselves, each of which would have to be proved uniform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError

__all__ = ["STRATEGIES", "Candidates", "Strategy"]


class Candidates(NamedTuple):
    """Drawn windows of one contig, of which a strategy keeps some.

    Attributes
    ----------
    bases
        uint8 (length of the contig,): the reference.
    store, n_slots
        The edits of its haplotypes (`kleiber.genome.store.Store`), and how many slots it has.
    slots, starts
        int64 (n,) each: the slot of each window, and its first base, 0-based on the reference.
    window
        Bases of a window.
    is_span
        Whether a window is what a haplotype has over `window` bases of the reference.
    """

    bases: NDArray[np.uint8]
    store: Any
    n_slots: int
    slots: NDArray[np.int64]
    starts: NDArray[np.int64]
    window: int
    is_span: bool

    def windows(self) -> NDArray[np.uint8]:
        """Return the bases of the windows, ASCII, shape (n, window), before any is turned around.

        Raises
        ------
        ConfigError
            When windows vary in length.
        """
        from kleiber.corpus.draws import fill

        if self.is_span:
            raise ConfigError("A strategy that looks at bases draws windows of one length: choose mode 'anchored'.")
        out = np.empty((len(self.starts), self.window), np.uint8)
        each = np.arange(len(self.starts))
        fill(self.bases, self.store, self.n_slots, self.slots, each, each, self.starts, out)
        return out


@dataclass(frozen=True)
class Strategy:
    """One way of sampling.

    Attributes
    ----------
    about
        What an arm reads by it, for a sentence: "windows of …".
    reads_haplotypes
        Whether it draws from all haplotypes of a panel; else from the reference alone.
    folder
        Where exports land.
    keeps
        Given drawn windows, says which stay, bool (n,); a pure function. All do when None.
    """

    about: str
    reads_haplotypes: bool
    folder: str
    keeps: Callable[[Candidates], NDArray[np.bool_]] | None = None


def _hold_edit(drawn: Candidates) -> NDArray[np.bool_]:
    """Say which windows hold an accepted edit."""
    from kleiber.corpus.draws import hold_edit

    held = np.empty(len(drawn.starts), bool)
    hold_edit(drawn.store, drawn.n_slots, drawn.slots, drawn.starts, drawn.window, drawn.is_span, held)
    return held


STRATEGIES: dict[str, Strategy] = {
    "reference": Strategy("windows of the reference genome", False, "reference_sampling"),
    "pangenome": Strategy("windows of phased haplotypes", True, "random_sampling"),
    "variant": Strategy("windows of haplotypes that hold a variant", True, "variant_sampling", _hold_edit),
}
"""The original study's three, with the folders that it exported to."""
