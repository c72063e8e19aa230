"""What a kill leaves of a run under way: a checkpoint of its trunk, and one of the cooldown that it is in.

Each knows how many budgets were done and how long the metrics were when it was saved, so that going back to it cuts
the metrics to that length. Every process takes part in both, because parameters may be in pieces; the first writes.
Rejected: one file for trunk and cooldown, which would write the trunk anew whenever a cooldown is saved.
"""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from kleiber.storage import remove_partials
from kleiber.train.checkpoint import load_state, restore, save_state, snapshot
from kleiber.train.devices import Devices
from kleiber.train.journal import Journal
from kleiber.train.step import Step

__all__ = ["States"]


class States:
    """The checkpoints of a run: of its trunk, at the latest where a cooldown left it, and of that.

    Attributes
    ----------
    saved_at
        When the last one was written, by `time.monotonic`; before that, when this began.
    """

    def __init__(self, journal: Journal, take: Step, devices: Devices):
        self.journal, self.take, self.devices = journal, take, devices
        self.paths = {name: journal.folder / f"{name}.safetensors" for name in ("trunk", "cooldown")}
        self.saved_at = time.monotonic()

    def resume(self) -> tuple[dict[str, Any] | None, bool]:
        """Restore what is on disk, and cut the metrics to it.

        Returns
        -------
        The position, None where nothing is, and whether a cooldown is under way.
        """
        n_done, length = len(self.journal.rows), self.journal.length
        position, in_cooldown = self.load("trunk"), False
        if position and position["done"] == n_done:
            length = position["metrics"]
        found = load_state(self.paths["cooldown"])
        if found and found[1]["done"] == n_done:
            position, in_cooldown = self._take_up(*found), True
            length = position["metrics"]
        self.devices.wait()  # all have read before one writes
        if self.devices.is_first:
            self.journal.cut(length)
        return position, in_cooldown

    def save(self, name: str, step: int, n_bases: int) -> None:
        """Write a checkpoint of the weights and optimizers as they are after so many steps and bases."""
        state = snapshot(self.take.model, self.take.optimizers)
        self.saved_at = time.monotonic()
        if self.devices.is_first:
            position = {
                "step": step,
                "n_bases": n_bases,
                "done": len(self.journal.rows),
                "metrics": self.journal.sync(),
                "rows_at_once": self.take.rows_at_once,
                "precision": self.take.run.train.precision,
            }
            save_state(self.paths[name], state, position)
        self.devices.wait()

    def load(self, name: str) -> dict[str, Any] | None:
        """Restore one checkpoint and return its position, or None when there is none."""
        found = load_state(self.paths[name])
        return self._take_up(*found) if found else None

    def _take_up(self, state: dict[str, Tensor], position: dict[str, Any]) -> dict[str, Any]:
        self.devices.reshard(self.take.model)
        restore(state, self.take.model, self.take.optimizers)
        self.take.forget()
        self.take.rows_at_once = position["rows_at_once"]
        return position

    def remove(self) -> None:
        """Delete both, when all processes have done with them."""
        self.devices.wait()
        if self.devices.is_first:
            for path in self.paths.values():
                path.unlink(missing_ok=True)
                remove_partials(path)
