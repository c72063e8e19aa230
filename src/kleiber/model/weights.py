"""Read the weights of a DNABERT-2: a checkpoint of ours, an exported folder, or the published one. No pickled code.

The names are the published checkpoint's, so there is nothing to map; what does not fit is refused by name instead of
being skipped, because a model with one layer left at random still answers. Rejected: `from_pretrained`, which warns.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from dataclasses import fields
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from kleiber.errors import DataError
from kleiber.model.config import ModelConfig
from kleiber.model.dnabert2 import DNABERT2
from kleiber.model.networks import network

__all__ = ["load_model", "load_weights"]

TIED = "cls.predictions.decoder.weight"
EMBEDDING = "bert.embeddings.word_embeddings.weight"


def load_model(path: Path) -> DNABERT2:
    """Return the network of a checkpoint, in evaluation mode; errors as `load_weights`."""
    config, weights = load_weights(path)
    model = network(config)
    model.load_state_dict(weights)
    return model.eval()


def load_weights(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a checkpoint.

    Parameters
    ----------
    path
        A ``model.safetensors`` of ours, its folder, or a folder with DNABERT-2's ``config.json`` and
        ``model.safetensors`` or ``pytorch_model.bin``.

    Returns
    -------
    The shape, and float32 weights by name, for `load_state_dict` with ``strict=True``.

    Raises
    ------
    DataError
        When a file is missing or damaged, holds code, or its parameters are not those of the shape.
    """
    file = _file(path)
    state, metadata = _read(file)
    config = _config(file, metadata)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("bert.pooler.")}
    tied = state.pop(TIED, None)
    _check(state, config, file)
    state = {name: tensor.float() for name, tensor in state.items()}
    if tied is not None and not (tied.shape == state[EMBEDDING].shape and torch.equal(tied.float(), state[EMBEDDING])):
        raise DataError(f"{file}: the decoder's matrix is not the embedding's; a DNABERT-2 has them tied.")
    return config, {**state, TIED: state[EMBEDDING]}


def _config(file: Path, metadata: dict[str, str]) -> ModelConfig:
    """Return the shape that a file of ours states, or the ``config.json`` beside a published one."""
    if "position" in metadata:
        stated = {"architecture": "dnabert2", **_object(metadata["position"], file)}  # 0.1.0 had one and said none
        stated.pop("precision", None)  # that it was trained in
        if stated.keys() ^ {field.name for field in fields(ModelConfig)}:
            raise DataError(
                f"{file} holds no model that can be read alone: it states {', '.join(stated) or 'nothing'}."
            )
        return ModelConfig(**stated)
    described = file.parent / "config.json"
    if not described.is_file():
        raise DataError(f"{file} does not say its shape, and there is no {described} beside it.")
    return ModelConfig.from_hub(_object(described.read_bytes(), described), str(described))


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    steps = {
        int(match[1]): checkpoint
        for checkpoint in path.glob("checkpoints/*/model.safetensors")
        if (match := re.fullmatch(r"step-(\d+)", checkpoint.parent.name))
    }
    if steps:
        return steps[max(steps)]  # a run's folder: the largest budget
    raise DataError(f"{path} holds no model.safetensors, no pytorch_model.bin and no checkpoints of a run.")


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if file.suffix == ".safetensors":
            with safetensors.safe_open(file, "pt") as handle:
                return {k: handle.get_tensor(k) for k in handle.keys()}, handle.metadata() or {}  # noqa: SIM118
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{file} holds more than weights, and is not read: {str(error).split(chr(10))[0]}") from None
    except Exception as error:  # damaged bytes end the library's readers in a dozen kinds of error
        raise DataError(f"{file} is no file of weights, or is damaged: {type(error).__name__}: {error}") from None
    if not isinstance(state, dict) or not all(isinstance(key, str) and _is_dense(t) for key, t in state.items()):
        raise DataError(f"{file} holds something else than a weight for each name.")
    return state, {}


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.is_floating_point()


def _object(text: str | bytes, path: Path) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} holds no JSON object: {error}.") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object: {str(value)[:60]}.")
    return value


def _check(state: dict[str, Tensor], config: ModelConfig, file: Path) -> None:
    """Refuse parameters that are missing, unknown, or of another shape; before a stated shape costs anything."""
    blocks = len({name.split(".")[3] for name in state if name.startswith("bert.encoder.layer.")})
    if blocks != config.layers:
        raise DataError(f"{file} holds {blocks} blocks, and its shape says {config.layers}.")
    with torch.device("meta"):
        wanted = {name: tuple(p.shape) for name, p in network(config).named_parameters()}
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unknown:
        raise DataError(
            f"{file} does not hold the parameters of its shape.\n  Missing ({len(missing)}): "
            f"{', '.join(missing[:3]) or 'none'}; unknown ({len(unknown)}): {', '.join(unknown[:3]) or 'none'}."
        )
    for name, shape in wanted.items():
        if tuple(state[name].shape) != shape:
            raise DataError(f"{file}: {name} is {tuple(state[name].shape)}, and the configuration says {shape}.")
