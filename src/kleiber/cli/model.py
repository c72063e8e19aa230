"""Verbs of models: model info, import, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App

from kleiber.cli.options import Flag

__all__ = ["app", "export", "import_", "info", "load_with_tokenizer"]

app = App(name="model", help="Look at models, and move them to and from Hugging Face.")


def load_with_tokenizer(checkpoint: Path, tokenizer: Path | None) -> tuple[Any, Any]:
    """Return a model, on the GPU where there is one, and its tokenizer."""
    import torch

    from kleiber.errors import DataError
    from kleiber.model.weights import load_model
    from kleiber.study.beside import tokenizer_beside
    from kleiber.tokens.kinds import load

    model = load_model(checkpoint)
    beside = tokenizer or tokenizer_beside(checkpoint)
    if not beside.is_file():
        raise DataError(f"There is no {beside}.\n  Name the tokenizer of the model: --tokenizer tokenizer.json.")
    cut = load(beside)
    if cut.vocab_size != model.config.vocab_size:
        raise DataError(
            f"{beside} has {cut.vocab_size:,} tokens, and {checkpoint} was trained on {model.config.vocab_size:,}."
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), cut


@app.command
def info(
    model: str,
    *,
    architecture: str = "shortconv",
    vocab_size: int = 4096,
    length: int = 128,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Show a model's shape, its parameters and operations: of a checkpoint, or of a size.

    Example: ``kleiber model info 0.4M --vocab-size 1024``

    Parameters
    ----------
    model
        A checkpoint as for `kleiber evaluate`, or a size: 0.4M, 15M.
    architecture
        Network, when a size is named: shortconv or dnabert2.
    vocab_size
        Tokens, when a size is named.
    length
        Tokens in a row, for counting operations.
    json
        Print JSON.
    """
    from dataclasses import asdict
    from json import dumps

    from kleiber.model.config import shape_for

    if Path(model).exists():
        from kleiber.model.weights import load_weights

        shape, _ = load_weights(Path(model))
    else:
        shape = shape_for(model, vocab_size, architecture=architecture)
    scored = max(1, round(0.15 * (length - 2)))
    facts: dict[str, Any] = {
        **asdict(shape),
        "n_params": shape.n_params,
        "n_params_non_embedding": shape.n_params_non_embedding,
        "flops_per_token": {name: n / length for name, n in shape.flops(1, length, scored).items()},
    }
    if json:
        print(dumps(facts))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {number:,.0f}" for name, number in value.items())
        print(f"{key:<24} {f'{value:,}' if isinstance(value, int) else value}")


@app.command(name="import")
def import_(source: Path, *, out: Path) -> None:
    """Read a published DNABERT-2 (config.json and weights) into a checkpoint of ours.

    Example: ``kleiber model import DNABERT-2-117M --out dnabert2``

    Parameters
    ----------
    source
        The published folder; weights are model.safetensors or pytorch_model.bin, which is read without its code.
    out
        The checkpoint's folder.
    """
    shape = _hub().import_model(source, out)
    print(f"{out}: {shape.n_params:,} parameters, {shape.layers} layers of {shape.hidden}")


@app.command
def export(checkpoint: Path, *, out: Path, tokenizer: Path | None = None) -> None:
    """Write a checkpoint as a folder that transformers loads, also where kleiber is not installed.

    Example: ``kleiber model export run --out my-model``

    Parameters
    ----------
    checkpoint
        A run's folder, or a checkpoint.
    out
        The folder to write.
    tokenizer
        The tokenizer.json, when there is none beside the checkpoint.
    """
    from kleiber.study.beside import tokenizer_beside

    beside = tokenizer or tokenizer_beside(checkpoint)
    _hub().export_model(checkpoint, out, beside)
    print(out)


def _hub() -> Any:
    from kleiber.errors import MissingDependency

    try:
        from kleiber.model import hub
    except ImportError as error:
        raise MissingDependency(error.name or "transformers", "hub") from error
    return hub
