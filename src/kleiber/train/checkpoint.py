"""The whole state of a training run in one safetensors file: weights, optimizer, position. No pickle, no code.

A file lands atomically, so that a kill leaves the last one or the new one; loading it continues to the same bits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from kleiber.errors import DataError
from kleiber.storage import write_atomic
from kleiber.train.devices import whole

__all__ = ["load_state", "restore", "save_state", "snapshot"]

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
POSITION = {"step", "n_bases", "done", "metrics"}


def snapshot(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return copies of the weights and the optimizer's moments, by parameter name."""
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        state[f"model.{name}"] = whole(parameter.detach()).cpu().clone()
        for moment in MOMENTS:
            if parameter in optimizer.state:
                state[f"{moment}.{name}"] = whole(optimizer.state[parameter][moment].detach()).cpu().clone()
    return state


def restore(state: dict[str, Tensor], model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a snapshot back into the model and the optimizer, in place.

    Raises
    ------
    DataError
        When it lacks a parameter or has one of another shape; nothing is changed then.
    """
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        wanted = {f"model.{name}": parameter.shape}
        if any(f"{moment}.{name}" in state for moment in MOMENTS):
            wanted |= {f"exp_avg.{name}": parameter.shape, f"exp_avg_sq.{name}": parameter.shape}
            wanted[f"step.{name}"] = torch.Size()
        for key, shape in wanted.items():
            found = state.get(key)
            if found is None or found.shape != shape:
                has = "is missing" if found is None else f"is {tuple(found.shape)}"
                raise DataError(
                    f"The checkpoint is another model's: {key} {has}, and {tuple(shape)} is wanted.\n"
                    "  Delete it: training starts over."
                )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_like(state[f"model.{name}"], parameter))
            if f"step.{name}" in state:
                optimizer.state[parameter] = {
                    moment: _like(state[f"{moment}.{name}"].clone(), parameter) for moment in MOMENTS
                }
            else:
                optimizer.state.pop(parameter, None)


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor where its parameter lives, in the same pieces; a step count stays on the processor."""
    if tensor.ndim == 0:
        return tensor
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
    return tensor.to(parameter.device)


def save_state(path: Path, state: dict[str, Tensor], position: dict[str, Any]) -> None:
    """Write a snapshot and where it stands to one file, atomically."""
    write_atomic(path, safetensors.torch.save(state, {"position": json.dumps(position)}))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the snapshot and the position of a file, or None when there is none.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            state, position = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()["position"]  # noqa: SIM118
        found = json.loads(position)
        if not isinstance(found, dict) or found.keys() != POSITION or any(type(n) is not int for n in found.values()):
            raise ValueError(f"its position is {position[:80]}")
        return state, found
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise DataError(f"The checkpoint {path} is damaged: {error}.\n  Delete it: training starts over.") from error
