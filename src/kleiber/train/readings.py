"""Losses of steps: where a device works on its own they are read back, and logged, every few steps.

To read one makes the device wait for the host. When it is time to, the processes of a run agree on what each of them
knows alone, by its clock or by a signal. Rejected: to read every loss when its step has been taken.
"""

from __future__ import annotations

import threading
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from kleiber.train.devices import Devices
from kleiber.train.journal import Journal

__all__ = ["Readings"]


class Readings:
    """The lines of the metrics whose losses are on the device alone, until they are read.

    Attributes
    ----------
    diverged
        The step at which the loss was no number any more; 0 while it is one.
    """

    def __init__(self, journal: Journal, devices: Devices, stop: threading.Event):
        self.journal, self.devices, self.stop = journal, devices, stop
        self.diverged = 0
        self.unread: list[dict[str, Any]] = []
        self.outcomes = torch.zeros(devices.reads_every, 2, dtype=torch.float64, device=devices.device)

    def keep(self, line: dict[str, Any], loss: Tensor, norm: Tensor) -> None:
        """Keep the line of a step, which lacks its loss and norm, and copies of those.

        They are on the device, of shape ().
        """
        outcome = self.outcomes[len(self.unread)]
        outcome[0].copy_(loss)
        outcome[1].copy_(norm)
        self.unread.append(line)

    def read(self, is_late: bool, is_last: bool) -> tuple[bool, bool]:
        """Log the steps since the last reading when it is time to, up to the first whose loss is no number.

        Parameters
        ----------
        is_late
            Whether this process would save a checkpoint; the first one's word counts.
        is_last
            Whether something else than a step comes next.

        Returns
        -------
        What the processes agreed on: whether a checkpoint is due, and whether to stop.
        """
        is_due, asked, n = self.devices.is_first and is_late, self.stop.is_set(), len(self.unread)
        alone = not self.devices.is_distributed and (is_due or asked)  # several have to read together
        if n < len(self.outcomes) and not (is_last or alone):
            return False, False
        losses, norms = self.outcomes[:n].T.tolist()
        flags = [loss / self.devices.world for loss in losses] + [float(is_due), float(asked)]
        *losses, due, stop = self.devices.agree(torch.tensor(flags, dtype=torch.float64)).tolist()
        for line, loss, norm in zip(self.unread, losses, norms, strict=True):
            line.update(loss=loss, grad_norm=norm)
            self.journal.log(line)
            if not isfinite(loss + norm):
                self.diverged = line["step"]
                break
        self.unread.clear()
        return due > 0, stop > 0
