"""To and from Hugging Face: register our models, export a checkpoint, import a published one.

An exported folder is complete: weights, configuration, tokenizer, a model card, and the modelling code in one file,
which is the source of the networks' modules and of `kleiber.model.pretrained` joined. Importing this module registers
the models with the Auto classes.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import safetensors.torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from kleiber import __version__
from kleiber.errors import DataError
from kleiber.model import attention, dnabert2, pretrained
from kleiber.model.architectures import ARCHITECTURES, CONV_WIDTH
from kleiber.model.config import ModelConfig
from kleiber.model.networks import NETWORKS
from kleiber.model.weights import TIED, load_weights
from kleiber.storage import staged_folder
from kleiber.tokens.kinds import load
from kleiber.tokens.tokenizer import SPECIALS

__all__ = ["export_model", "import_model", "modelling_code"]

MODULE = "modeling_dnabert2"

AutoConfig.register(pretrained.DNABERT2Config.model_type, pretrained.DNABERT2Config)
AutoModel.register(pretrained.DNABERT2Config, pretrained.DNABERT2Model)
AutoModelForMaskedLM.register(pretrained.DNABERT2Config, pretrained.DNABERT2ForMaskedLM)
AutoModelForSequenceClassification.register(pretrained.DNABERT2Config, pretrained.DNABERT2ForSequenceClassification)


def export_model(source: Path, out: Path, tokenizer: Path) -> None:
    """Write a folder that `transformers` loads, with kleiber or (``trust_remote_code=True``) without.

    Parameters
    ----------
    source
        A checkpoint, as for `kleiber.model.weights.load_weights`.
    out
        The folder; it must not be there yet.
    tokenizer
        The model's ``tokenizer.json``.

    Raises
    ------
    DataError
        When the checkpoint or the tokenizer cannot be read, or they do not belong together.
    """
    shape, weights = load_weights(source)
    words = load(tokenizer)
    if words.vocab_size != shape.vocab_size:
        raise DataError(f"{tokenizer} has {words.vocab_size:,} tokens, and the model of {source} {shape.vocab_size:,}.")
    if out.exists():
        raise DataError(f"{out} is there already.\n  Name another --out.")
    del weights[TIED]
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    names = {name: name.lower().strip("[]") + "_token" for name in SPECIALS}
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 10**6,  # ALiBi has no longest row
        **{key: name for name, key in names.items()},
    }
    with staged_folder(out) as folder:
        (folder / "config.json").write_text(json.dumps(_config(shape), indent=1) + "\n")
        (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights, {"format": "pt"}))
        (folder / f"{MODULE}.py").write_text(modelling_code())
        words.save(folder / "tokenizer.json")
        (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=1) + "\n")
        (folder / "README.md").write_text(_card(shape, words.kind))


def import_model(source: Path, out: Path) -> ModelConfig:
    """Write a published DNABERT-2 as a checkpoint of ours, with its tokenizer beside it if it has one.

    Raises
    ------
    DataError
        When `out` is there already, or as `kleiber.model.weights.load_weights` does.
    """
    shape, weights = load_weights(source)
    del weights[TIED]
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    words = (source if source.is_dir() else source.parent) / "tokenizer.json"
    if out.exists():
        raise DataError(f"{out} is there already.\n  Name another --out.")
    with staged_folder(out) as folder:
        position = {"position": json.dumps(asdict(shape))}
        (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights, position))
        if words.is_file():
            load(words).save(folder / "tokenizer.json")
    return shape


def modelling_code() -> str:
    """Return the networks and their `transformers` classes as one module.

    It needs torch and transformers alone.
    """
    parts = [f'"""A network exported by kleiber {__version__}; needs torch and transformers alone."""\n']
    parts.append("from __future__ import annotations\n\nfrom types import SimpleNamespace as ModelConfig\n")
    parts.append(f"CONV_WIDTH = {CONV_WIDTH}\n")
    networks = dict.fromkeys([dnabert2, *(sys.modules[made.__module__] for made in NETWORKS.values())])
    parts += map(_own_lines, (attention, *networks))
    parts.append(f"NETWORKS = {{{', '.join(f'{name!r}: {made.__name__}' for name, made in NETWORKS.items())}}}\n")
    return "\n".join([*parts, _own_lines(pretrained)])


def _own_lines(module: ModuleType) -> str:
    """Return the source of a module without what it imports of kleiber."""
    source = inspect.getsource(module).split("from __future__ import annotations\n", 1)[1]
    return "\n".join(line for line in source.splitlines() if not line.startswith("from kleiber.")) + "\n"


def _config(shape: ModelConfig) -> dict:
    classes = {
        "AutoConfig": pretrained.DNABERT2Config,
        "AutoModel": pretrained.DNABERT2Model,
        "AutoModelForMaskedLM": pretrained.DNABERT2ForMaskedLM,
        "AutoModelForSequenceClassification": pretrained.DNABERT2ForSequenceClassification,
    }
    return {
        "model_type": pretrained.DNABERT2Config.model_type,
        "architectures": ["DNABERT2ForMaskedLM"],
        "auto_map": {auto: f"{MODULE}.{made.__name__}" for auto, made in classes.items()},
        "is_decoder": False,
        "tie_word_embeddings": True,
        **shape.to_hub(),
    }


def _card(shape: ModelConfig, kind: str) -> str:
    return (
        f"# A {ARCHITECTURES[shape.architecture].about} of {shape.n_params:,} parameters\n\n"
        f"{shape.layers} layers, width {shape.hidden}, {shape.heads} heads, feed-forward {shape.intermediate}; "
        f"{shape.vocab_size:,} tokens ({kind}). Pre-trained by kleiber {__version__} on masked DNA.\n\n"
        "```python\nfrom transformers import AutoModelForMaskedLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        'model = AutoModelForMaskedLM.from_pretrained(".", trust_remote_code=True)\n```\n\n'
        "DNA is written in upper case. Architecture: Zhou et al. 2024, arXiv:2306.15006.\n"
    )
