"""Files of weights and of training runs, whole or with one part of them exchanged, and what loading them owes."""

from __future__ import annotations

import functools
import io
import json
import shutil
import zipfile
from pathlib import Path

from oracles.containers import refusing, unwrapped

SHAPE = {"vocab_size": 9, "hidden": 8, "layers": 1, "heads": 2, "intermediate": 8, "dropout": 0.0}
POSITION = {"step": 1, "n_bases": 9, "done": 0, "metrics": 0, "rows_at_once": 0, "precision": "fp32"}
HUB = {
    "vocab_size": 9,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_act": "gelu",
}


def tiny():
    """Return a network of the shape of the seeds."""
    from kleiber.model.config import ModelConfig
    from kleiber.model.dnabert2 import DNABERT2

    model = DNABERT2(ModelConfig(**SHAPE))
    model.initialise(1)
    return model


@functools.cache
def weights():
    """Return its weights by name."""
    return {name: tensor.detach().clone() for name, tensor in tiny().named_parameters()}


@functools.cache
def as_safetensors(position: str | None) -> bytes:
    import safetensors.torch

    return safetensors.torch.save(weights(), None if position is None else {"position": position})


@functools.cache
def as_pickles(legacy: bool) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save(dict(list(weights().items())), out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


@functools.cache
def as_state() -> bytes:
    """Return the file of a training run after one step."""
    import safetensors.torch

    from kleiber.train.checkpoint import snapshot

    model = tiny()
    found = optimizers(model)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    found.set_rates([1e-3] * len(found.parts))
    found.step()
    return safetensors.torch.save(snapshot(model, found), {"position": json.dumps(POSITION)})


def optimizers(model):
    """Return AdamW for a network, as a run has it."""
    from kleiber.train.config import Run, TrainConfig
    from kleiber.train.optimizers import Optimizers

    return Optimizers(model, Run("tiny", model.config, TrainConfig(optimizer="adamw", precision="fp32"), (1,), 1))


@functools.cache
def zipped() -> dict[str, bytes]:
    """Return the members of a pytorch_model.bin."""
    with zipfile.ZipFile(io.BytesIO(as_pickles(False))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_pickle(pickle: bytes) -> bytes:
    """Return a pytorch_model.bin with another pickle in it, and checksums that are right."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, contents in zipped().items():
            archive.writestr(name, pickle if name.endswith("data.pkl") else contents)
    return out.getvalue()


def with_header(header: bytes) -> bytes:
    """Return a safetensors file with another header, and as many bytes behind it as there were."""
    whole = as_safetensors(None)
    return len(header).to_bytes(8, "little") + header + whole[8 + int.from_bytes(whole[:8], "little") :]


def checkpoint_seeds() -> list[bytes]:
    """Return every kind of file of weights; the first byte says which part of it is given."""
    whole = as_safetensors(json.dumps(SHAPE))
    header = whole[8 : 8 + int.from_bytes(whole[:8], "little")]
    pickle = next(contents for name, contents in zipped().items() if name.endswith("data.pkl"))
    return [
        b"\0" + whole,
        b"\1" + header,
        b"\2" + json.dumps(SHAPE).encode(),
        b"\3" + json.dumps(HUB).encode(),
        b"\4" + as_pickles(False),
        b"\5" + pickle,
        b"\6" + as_pickles(True),
        b"\7" + as_state(),
    ]


@refusing
def check_checkpoint(data: bytes, folder: Path) -> None:
    """What loads are the parameters of the shape, by name, of their sizes, in float32."""
    import torch

    from kleiber.model.dnabert2 import DNABERT2
    from kleiber.model.weights import load_model, load_weights
    from kleiber.train.checkpoint import load_state, restore

    kind, contents = unwrapped(data)
    kind, is_run = kind & 7, bool(kind & 8)
    home = folder / "model"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    is_pickle = kind in (4, 5, 6)
    file = home / ("pytorch_model.bin" if is_pickle else "model.safetensors")
    config = contents if kind == 3 else json.dumps(HUB).encode()
    (home / "config.json").write_bytes(config)
    if kind == 1:
        contents = with_header(contents)
    elif kind == 2:
        contents = as_safetensors(contents.decode("utf-8", "replace"))
    elif kind == 3:
        contents = as_safetensors(None)
    elif kind == 5:
        contents = with_pickle(contents)
    file.write_bytes(contents)
    if kind == 7:
        found = load_state(file)
        assert found is not None
        assert isinstance(found[1], dict)
        restore(found[0], model := tiny(), optimizers(model))
        assert all(tensor.shape == weights()[name].shape for name, tensor in model.named_parameters())
        return
    shape, loaded = load_weights(home)
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in DNABERT2(shape).state_dict().items()}
    assert {name: tensor.shape for name, tensor in loaded.items()} == wanted
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
    if is_run:
        assert load_model(home)(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, shape.vocab_size)
