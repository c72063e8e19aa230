"""Train many runs of one shape at once: a stack, one resumable unit with one checkpoint for all of its runs.

Every run takes the steps that it would take alone (trunk, cooldown, back to the trunk for the next budget) and leaves
the same files in a folder of its own. A stack is never packed anew: a run that has ended, or diverged, keeps its row
at rates of 0 until the last one ends. What a run computes does not depend on the others; beside the same run trained
alone it differs by rounding, and its rows say in the column `stack` how many were trained together. Rejected: budgets
as runs of their own, for which a trunk would be computed once for each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kleiber import __version__
from kleiber.corpus.sampling import Corpus
from kleiber.errors import ConfigError, DataError, Stopped
from kleiber.model.networks import network
from kleiber.signals import stop_asked
from kleiber.storage import naming, read_manifest, remove_partials, write_manifest
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train import loop
from kleiber.train.ahead import Ahead, Rows
from kleiber.train.batches import Batch, Batches
from kleiber.train.checkpoint import load_state, save_state
from kleiber.train.clock import Clock
from kleiber.train.config import Branch, Run, TrainConfig, alone_by
from kleiber.train.devices import Devices
from kleiber.train.evaluate import Evaluation
from kleiber.train.intervals import Intervals
from kleiber.train.journal import Journal
from kleiber.train.schedule import learning_rate
from kleiber.train.scoring import score_model
from kleiber.train.stackstep import StackStep
from kleiber.train.step import no_memory
from kleiber.train.trackers import Tracker

__all__ = ["Member", "train_stack"]

OWN = ("lr", "lr_size", "lr_exponent", "muon_lr")  # keys of [train] in which the runs of a stack may differ
CHECKPOINT = "stack.safetensors"


@dataclass(frozen=True)
class Member:
    """One run of a stack, with what `kleiber.train.loop.train` takes beside it: data, rows, folder."""

    run: Run
    corpus: Corpus
    tokenizer: Tokenizer
    evaluation: Evaluation
    folder: Path
    intervals: Intervals | None = None
    tracker: Tracker | None = None


def train_stack(
    members: Sequence[Member], folder: Path, threads: int = 1, progress: Callable[[float], None] | None = None
) -> None:
    """Train the runs of a stack to their ends, or go on where it was stopped.

    Parameters
    ----------
    members
        Of one model and one recipe but for rates; seeds, budgets and data may differ.
    folder
        Where the stack lives: its checkpoint while it is trained, ``timing.jsonl`` and ``manifest.json``. Each run's
        results land in its own folder.
    threads, progress
        As in `kleiber.train.loop.train`.

    Raises
    ------
    ConfigError
        When the runs are not of one shape, or their recipe cannot be stacked.
    Stopped, SystemRefusal
        As `train` does.
    """
    _check([member.run for member in members])
    if all(read_manifest(member.folder) is not None for member in members):
        return
    torch.set_num_threads(threads)
    devices = Devices()
    for path in (folder, *(member.folder for member in members)):
        path.mkdir(parents=True, exist_ok=True)
    precision = loop.precision_of(members[0].run.train.precision, folder, devices)
    members = [replace(m, run=replace(m.run, train=replace(m.run.train, precision=precision))) for m in members]
    with stop_asked() as stop, naming(folder):
        training = _Stack(members, folder, devices, progress or (lambda share: None), stop.is_set)
        try:
            training.run_to_end()
        except torch.OutOfMemoryError as error:
            raise no_memory(members[0].run, training.take.rows_at_once, devices, error, len(members)) from error
    write_manifest(folder, {"runs": [member.run.name for member in members], "kleiber": __version__})
    (folder / CHECKPOINT).unlink(missing_ok=True)
    remove_partials(folder / CHECKPOINT)


def _check(runs: Sequence[Run]) -> None:
    """Refuse runs that one step cannot train together."""
    first, keys = runs[0], [key.name for key in fields(TrainConfig) if key.name not in OWN]
    for run in runs:
        pairs = {"the shape of the model": (first.model, run.model)}
        pairs |= {f"[train] {key}": (getattr(first.train, key), getattr(run.train, key)) for key in keys}
        for what, (one, other) in pairs.items():
            if one != other:
                raise ConfigError(
                    f"{first.name} and {run.name} cannot be trained at once: {what} differs.\n  {one}, and {other}."
                )
    if key := alone_by(replace(first.train, dropout=first.model.dropout)):
        raise ConfigError(
            f"Runs with [train] {key} cannot be trained at once.\n  Train each alone: [ladder] stack = 1."
        )


@dataclass(frozen=True)
class _Leg:
    """Steps in a row, on the trunk (no branch) or in a cooldown: from step `first` on, after `begin` others."""

    branch: Branch | None
    first: int
    begin: int
    end: int


def _legs(branches: Sequence[Branch]) -> list[_Leg]:
    """Return what a run does one after the other, its trunk cut where budgets leave it."""
    legs, step, taken = [], 0, 0
    for branch in branches:
        for leg, until in ((None, branch.start), (branch, branch.end)):
            legs.append(_Leg(leg, step, taken, taken + until - step))
            step, taken = until, taken + until - step
        step = branch.start
    return legs


class _Lane:
    """How far one run of a stack is; times are counted in steps that the stack has taken."""

    def __init__(self, member: Member):
        self.member, self.run = member, member.run
        self.branches = self.run.branches()
        self.legs = _legs(self.branches)
        self.end = self.legs[-1].end
        self.journal = Journal(self.run, member.folder, tracker=member.tracker)
        self.is_complete = read_manifest(member.folder) is not None
        self.n_bases = self.trunk_bases = self.diverged = 0

    def is_open(self, taken: int) -> bool:
        """Say whether the run has a step to take."""
        return taken < self.end and not (self.diverged or self.is_complete)

    def leg(self, taken: int) -> _Leg:
        """Return the leg under way after so many steps, before the end of the last."""
        return next(leg for leg in self.legs if leg.begin <= taken < leg.end)

    def rates(self, peaks: Sequence[float], taken: int) -> list[float]:
        """Return the rate of each optimizer in the next step; 0 when there is none."""
        if not self.is_open(taken):
            return [0.0] * len(peaks)
        leg = self.leg(taken)
        step = leg.first + taken - leg.begin
        return [learning_rate(self.run.train, peak, self.branches[0], leg.branch, step) for peak in peaks]


class _Batches:
    """The batches of a stack by the steps that it has taken: those of its runs, (n, …) each."""

    def __init__(self, lanes: Sequence[_Lane]):
        self.lanes, self.train = lanes, lanes[0].run.train
        self.batches = [Batches(lane.member.corpus, lane.member.tokenizer, self.train, lane.run.seed) for lane in lanes]

    def several(self, taken: int, n: int) -> list[Batch]:
        """Return the batches of n steps in a row."""
        found = (self._of(lane, own, taken, n) for lane, own in zip(self.lanes, self.batches, strict=True))
        return [_stacked(batches) for batches in zip(*found, strict=True)]

    def _of(self, lane: _Lane, own: Batches, taken: int, n: int) -> list[Batch]:
        found: list[Batch] = []
        while len(found) < n and taken + len(found) < lane.end:
            at = taken + len(found)
            leg = lane.leg(at)
            found += own.several(leg.first + at - leg.begin, min(n - len(found), leg.end - at))
        return found + [self._nothing()] * (n - len(found))

    def _nothing(self) -> Batch:
        """Return what a run that has ended is given: rows that count for nothing."""
        train = self.train
        ids, at = np.zeros((train.batch, train.length), np.int64), np.zeros((train.batch, train.n_masked), np.int64)
        return Batch(ids, at, at, np.zeros(train.batch, np.float32), 0)


def _stacked(batches: Sequence[Batch]) -> Batch:
    keys = ("inputs", "positions", "labels", "weights", "n_bases")
    stacked: dict[str, Any] = {key: np.stack([getattr(batch, key) for batch in batches]) for key in keys}
    return Batch(**stacked)


class _Stack:
    """A stack in progress; `taken` counts its steps.

    On disk while it runs: one checkpoint, with the state of every run, where its trunk was left, and how long its
    metrics were. Going back to it cuts those, and drops rows that came later. It is saved whenever a run's model has
    been annealed, before the manifest of a run that ends with it.
    """

    def __init__(
        self,
        members: Sequence[Member],
        folder: Path,
        devices: Devices,
        progress: Callable[[float], None],
        is_asked: Callable[[], bool],
    ):
        self.folder, self.devices, self.progress, self.is_asked = folder, devices, progress, is_asked
        self.lanes = [_Lane(member) for member in members]
        self.train, self.n_steps = self.lanes[0].run.train, max(lane.end for lane in self.lanes)
        self.ends = {leg.end for lane in self.lanes for leg in lane.legs}
        self.clock = Clock(folder / "timing.jsonl", devices.device, self.train.precision)
        self.of_runs = _Batches(self.lanes)
        self.batches = Ahead(self.of_runs, slice(None), devices.device)
        model = network(self.lanes[0].run.model).to(devices.device)
        model.use_attention("matmul")
        self.take = StackStep(model, [lane.run for lane in self.lanes], devices)
        self.trunk = {key: torch.zeros_like(tensor) for key, tensor in self.take.state.items()}
        self.outcomes = torch.zeros(devices.reads_every, 2, len(members), dtype=torch.float64, device=devices.device)
        self.unread: list[dict[int, dict[str, Any]]] = []  # of each step the lines of its runs; outcomes are not read
        self.taken = 0
        self.saved_at = time.monotonic()

    def run_to_end(self) -> None:
        """Go back to the last state on disk and train from there."""
        self._resume()
        with ExitStack() as opened:
            opened.enter_context(self.batches)
            for lane in self.lanes:
                opened.enter_context(lane.journal.opened())
            self._complete()
            if not self.taken:
                self.take.fit(self.batches[0].tensors)
                self._arrive()
            while any(lane.is_open(self.taken) for lane in self.lanes):
                self._advance()

    def _resume(self) -> None:
        """Restore what is on disk, or draw the first weights."""
        found = load_state(self.folder / CHECKPOINT, {"step", "rows_at_once"})
        lengths = [0] * len(self.lanes)
        if found is None:
            for i, (lane, own) in enumerate(zip(self.lanes, self.of_runs.batches, strict=True)):
                self.take.model.initialise(lane.run.seed, own.frequencies)
                self.take.put(i)
        else:
            state, position = found
            self._restore(state)
            self.taken, self.take.rows_at_once = position["step"], position["rows_at_once"]
            for i, lane in enumerate(self.lanes):
                lane.n_bases, lane.trunk_bases, lengths[i], lane.diverged = state["runs"][i].tolist()
        for lane, length in zip(self.lanes, lengths, strict=True):
            if not lane.is_complete:
                done = sum(leg.branch is not None and leg.end <= self.taken for leg in lane.legs)
                del lane.journal.rows[done:]
                lane.journal.cut(length)

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        wanted = {**self.take.state, **{f"trunk.{key}": tensor for key, tensor in self.trunk.items()}}
        shapes = {**{key: tensor.shape for key, tensor in wanted.items()}, "runs": (len(self.lanes), 4)}
        if {key: tuple(tensor.shape) for key, tensor in state.items()} != {k: tuple(s) for k, s in shapes.items()}:
            raise DataError(
                f"The checkpoint {self.folder / CHECKPOINT} is another stack's.\n  Delete it: training starts over."
            )
        for key, tensor in wanted.items():
            tensor.copy_(state[key])

    def _advance(self) -> None:
        """Take a step of every run, and do what is to be done after it."""
        batch = self.batches[self.taken]
        self._update(batch)
        self.taken += 1
        self.clock.tick()
        is_end = self.taken in self.ends
        is_due, stop = self._read(is_end)
        if self.taken % 8 == 0:
            self.progress(self.taken / self.n_steps)
        is_due |= is_end and self._arrive()
        if is_due or stop:
            self._save()
            self._complete()
        if stop and any(lane.is_open(self.taken) for lane in self.lanes):
            raise Stopped(
                f"{self.folder.name} stopped after {self.taken:,} steps, and is saved; the same command goes on."
            )

    def _update(self, batch: Rows) -> None:
        """Take an optimizer step; its outcome stays on the device."""
        rates = [lane.rates(peaks, self.taken) for lane, peaks in zip(self.lanes, self.take.peaks, strict=True)]
        outcome = self.take(batch.tensors, torch.tensor(rates).T[:, :, None])
        self.outcomes[len(self.unread)].copy_(torch.stack(outcome))
        lines = {}
        for i, lane in enumerate(self.lanes):
            if lane.is_open(self.taken):
                leg = lane.leg(self.taken)
                lane.n_bases += int(batch.n_bases[i])  # type: ignore[index]
                step = leg.first + self.taken - leg.begin + 1
                lines[i] = lane.journal.line(leg.branch, step, rates[i][0], lane.n_bases)
        self.unread.append(lines)

    def _read(self, is_last: bool) -> tuple[bool, bool]:
        """Log the steps since the last reading when it is time to, of each run up to a loss that is no number.

        It is time to, too, where something else than a step comes next (`is_last`). Returns whether a checkpoint is
        due, and whether to stop.
        """
        is_due, stop = time.monotonic() - self.saved_at > loop.CHECKPOINT_SECONDS, self.is_asked()
        if len(self.unread) < len(self.outcomes) and not (is_last or is_due or stop):
            return False, False
        for lines, (losses, norms) in zip(self.unread, self.outcomes.tolist(), strict=False):
            for i, line in lines.items():
                lane = self.lanes[i]
                if lane.diverged:
                    continue
                line.update(loss=losses[i], grad_norm=norms[i])
                lane.journal.log(line)
                if not isfinite(losses[i] + norms[i]):
                    lane.diverged, is_due = line["step"], True
        self.unread.clear()
        return is_due, stop

    def _arrive(self) -> bool:
        """Where legs of runs end: keep their trunks, or score their models and go back; say whether any was scored."""
        is_scored = False
        for i, lane in enumerate(self.lanes):
            for leg in lane.legs:
                if leg.end != self.taken or lane.diverged or lane.is_complete:
                    continue
                if leg.branch is None:
                    self._copy(i, self.take.state, self.trunk)
                    lane.trunk_bases = lane.n_bases
                else:
                    self._finish(i, leg.branch)
                    self._copy(i, self.trunk, self.take.state)
                    lane.n_bases, is_scored = lane.trunk_bases, True
        return is_scored

    def _copy(self, i: int, source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> None:
        for key, tensor in source.items():
            target[key][i].copy_(tensor[i])

    def _finish(self, i: int, branch: Branch) -> None:
        """Score an annealed model and record its observation."""
        self._write_time()
        lane, model = self.lanes[i], self.take.lend(i)
        scores = score_model(model, lane.member.evaluation, lane.member.intervals)
        lane.journal.add(
            branch,
            {name: tensor.detach().cpu().clone() for name, tensor in model.named_parameters()},
            scores,
            lane.n_bases,
            peak_lr=self.take.peaks[i][0],
            flops_optimizer=self.take.flops,
            attention=model.bert.encoder.backend,
            stack=len(self.lanes),
        )

    def _save(self) -> None:
        """Write the checkpoint, atomically."""
        self._write_time()
        state = {**self.take.state, **{f"trunk.{key}": tensor for key, tensor in self.trunk.items()}}
        state = {key: tensor.cpu() for key, tensor in state.items()}
        state["runs"] = torch.tensor(
            [[lane.n_bases, lane.trunk_bases, lane.journal.sync(), lane.diverged] for lane in self.lanes]
        )
        position = {"step": self.taken, "rows_at_once": self.take.rows_at_once, "precision": self.train.precision}
        save_state(self.folder / CHECKPOINT, state, position)
        self.saved_at = time.monotonic()

    def _write_time(self) -> None:
        n, train = len(self.lanes), self.train
        how = {"rows_at_once": self.take.rows_at_once, "recorded": int(self.take.is_recorded), "runs": n}
        tokens, flops = n * train.batch * train.length, n * self.lanes[0].run.flops_per_step
        self.clock.write(self.taken, tokens, flops, **how)

    def _complete(self) -> None:
        """Write the manifests of the runs that have ended."""
        for lane in self.lanes:
            if not (lane.is_complete or lane.is_open(self.taken)):
                lane.journal.sync()
                lane.journal.complete(lane.member.corpus, lane.member.tokenizer, lane.diverged, stack=self.folder.name)
                lane.is_complete = True
