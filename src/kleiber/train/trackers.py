"""Mirror a run's metrics to a tracker: TensorBoard, or a module with ``init``, ``log`` and ``finish`` as wandb has.

``metrics.jsonl`` stays the truth; a tracker that fails must not decide a run, so it only ever reads.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from kleiber.errors import MissingDependency

__all__ = ["Tracker", "open_tracker"]


class Tracker(Protocol):
    """What a run calls: `log` after each step, `finish` at its end."""

    def log(self, values: dict[str, Any], step: int) -> None:
        """Take the metrics of one step."""

    def finish(self) -> None:
        """Write what is left; nothing comes after it."""


class TensorBoard:
    """Event files in a run's folder."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder))

    def log(self, values: dict[str, Any], step: int) -> None:
        """Write every number under its name and the run's phase."""
        for name, value in values.items():
            if isinstance(value, int | float) and name != "step":
                self.writer.add_scalar(f"{values['phase']}/{name}", value, step)

    def finish(self) -> None:
        """Close the files."""
        self.writer.close()


def open_tracker(name: str, folder: Path, config: dict[str, Any]) -> Tracker:
    """Return a tracker by name.

    ``"tensorboard"``, or an installed module such as ``"wandb"`` or ``"trackio"``.

    Raises
    ------
    MissingDependency
        When it is not installed.
    """
    try:
        if name == "tensorboard":
            return TensorBoard(folder / "tensorboard")
        module = importlib.import_module(name)
    except ImportError:
        raise MissingDependency(name, "tracking") from None
    module.init(project="kleiber", name=folder.name, config=config)
    return module
