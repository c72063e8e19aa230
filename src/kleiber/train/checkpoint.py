"""The whole state of a training run in one safetensors file: weights, optimizer, position. No pickle, no code.

A file lands atomically, so that a kill leaves the last one or the new one; loading it continues to the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from kleiber.errors import DataError
from kleiber.storage import write_atomic
from kleiber.train.config import PRECISIONS
from kleiber.train.devices import whole
from kleiber.train.optimizers import Optimizers, moments

__all__ = ["load_state", "restore", "save_state", "saved_precision", "snapshot"]

COUNTS = frozenset({"step", "n_bases", "done", "metrics", "rows_at_once"})


def snapshot(model: torch.nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """Return copies of the weights and the optimizers' moments, by parameter name."""
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        state[f"model.{name}"] = whole(parameter.detach()).cpu().clone()
        for moment, tensor in optimizers.of(parameter).state.get(parameter, {}).items():
            state[f"{moment}.{name}"] = whole(tensor.detach()).cpu().clone()
    return state


def restore(state: dict[str, Tensor], model: torch.nn.Module, optimizers: Optimizers) -> None:
    """Put a snapshot back into the model and the optimizers, in place.

    Raises
    ------
    DataError
        When it lacks a parameter or has one of another shape; nothing is changed then.
    """
    parameters = dict(model.named_parameters())
    by_name = {name: moments(optimizers.of(parameter)) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        wanted = {f"model.{name}": parameter.shape}
        if any(f"{moment}.{name}" in state for moment in by_name[name]):
            wanted |= {f"{m}.{name}": torch.Size() if m == "step" else parameter.shape for m in by_name[name]}
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
            remembered = optimizers.of(parameter).state
            if f"{by_name[name][0]}.{name}" in state:
                remembered[parameter] = {m: _like(state[f"{m}.{name}"].clone(), parameter) for m in by_name[name]}
            else:
                remembered.pop(parameter, None)


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor where its parameter lives, in the same pieces; a count of steps is whole everywhere."""
    if tensor.ndim == 0:
        return tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
    return tensor.to(parameter.device)


def save_state(path: Path, state: dict[str, Tensor], position: dict[str, Any]) -> None:
    """Write a snapshot and where it stands to one file, atomically; `position` tells the precision, too."""
    write_atomic(path, safetensors.torch.save(state, {"position": json.dumps(position)}))


def saved_precision(folder: Path) -> str | None:
    """Return the precision that the checkpoints in a run's folder were computed in, None without one."""
    for path in (*folder.glob("*.safetensors"), *folder.glob("checkpoints/*/model.safetensors")):
        try:
            with safetensors.safe_open(path, "pt") as file:
                found = json.loads(file.metadata()["position"])["precision"]
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError):
            continue  # whoever loads it says what is wrong
        if found in PRECISIONS:
            return found
    return None


def load_state(path: Path, counts: Set[str] = COUNTS) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the snapshot and the position of a file, or None when there is none.

    Parameters
    ----------
    counts
        The whole numbers of a position, which has a precision beside them.

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
        if not isinstance(found, dict) or found.keys() != counts | {"precision"}:
            raise ValueError(f"its position is {position[:80]}")
        if any(type(found[key]) is not int for key in counts) or found["precision"] not in PRECISIONS:
            raise ValueError(f"its position is {position[:80]}")
        return state, found
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise DataError(f"The checkpoint {path} is damaged: {error}.\n  Delete it: training starts over.") from error
