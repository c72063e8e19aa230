"""What a network is in numbers: its configuration, the ladder of sizes, exact parameter and FLOP counts. No torch.

Sizes follow one rule, so that a law in N is not a law in shape: the width is about 32 times the depth, heads are as
wide as divides it up to 16, the feed-forward is four times the width. Wider heads for wider networks would be faster,
and a step in the law: at 0.13M parameters heads of 32 cost 0.008 bits a base. The original study mixed depth and
width at will; its five shapes are kept as presets. Counting follows the modules one by one: the usual
6·N·D is 3 % to 49 % more than what these five compute (see `ModelConfig.flops`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from kleiber.errors import ConfigError, DataError, UnknownName
from kleiber.model.architectures import ARCHITECTURES

__all__ = ["BACKENDS", "PRESETS", "ModelConfig", "shape_for"]

HEAD_WIDTH = 16
"""The widest head of the ladder. Narrower ones are as good and wider ones are not (see the notebook)."""

BACKENDS = ("matmul", "sdpa", "flex")
"""How attention can be computed; `kleiber.study.machine` measures which is fastest."""


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a network and its dropout.

    Attributes
    ----------
    vocab_size
        Rows of the embedding and of the tied decoder.
    hidden, layers, heads, intermediate
        Width, blocks, attention heads a block, width of the gated feed-forward.
    dropout
        After the embeddings, after attention's output and inside the feed-forward; never on attention itself.
    architecture
        One of `kleiber.model.architectures.ARCHITECTURES`.
    """

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    dropout: float = 0.0
    architecture: str = "dnabert2"

    def __post_init__(self) -> None:
        if str(self.architecture) not in ARCHITECTURES:
            raise UnknownName(str(self.architecture), ARCHITECTURES, kind="architecture")
        numbers = (self.vocab_size, self.hidden, self.layers, self.heads, self.intermediate)
        if any(type(n) is not int for n in numbers) or not isinstance(self.dropout, int | float):
            raise ConfigError(f"A model's shape is whole numbers and a share for dropout: {self}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"A dropout is a share from 0 to below 1, not {self.dropout}.")
        if min(numbers) < 1 or max(numbers) > 1 << 24:
            raise ConfigError(f"Every number of a model's shape must be at least 1, and at most {1 << 24:,}: {self}.")
        if self.hidden % self.heads:
            raise ConfigError(f"The width {self.hidden} is no multiple of the {self.heads} attention heads.")

    @property
    def n_params(self) -> int:
        """All parameters; the decoder's matrix is the embedding's and counts once."""
        v, h = self.vocab_size, self.hidden
        embeddings = v * h + 2 * h
        head = h * h + 3 * h + v
        return embeddings + self.n_params_non_embedding + head + ARCHITECTURES[self.architecture].own_params(h)

    @property
    def n_params_non_embedding(self) -> int:
        """The parameters of the blocks: what the ladder's sizes count."""
        h, own = self.hidden, ARCHITECTURES[self.architecture].block_params(self.hidden)
        return self.layers * (4 * h * h + 9 * h + 3 * h * self.intermediate + own)

    def flops(self, rows: int, length: int, scored: int | None = None) -> dict[str, int]:
        """Count the floating-point operations of one training step: matrix products, forward and backward.

        The head, and the last block behind its keys and values, compute only the scored tokens. A product of m×k and
        k×n is 2·m·k·n; the backward pass is two products for each of the forward's.

        Parameters
        ----------
        rows, length
            Rows of the batch and tokens in a row.
        scored
            Masked tokens in the batch; None when everything is computed at every token.

        Returns
        -------
        Operations by component: projections, attention, feed_forward, head, and what is the architecture's own.
        """
        h, i, tokens = self.hidden, self.intermediate, rows * length
        last = tokens if scored is None else scored  # tokens that leave the last block
        through = tokens * (self.layers - 1) + last  # tokens times blocks that they pass to the end
        forward = {
            "projections": 2 * h * h * (2 * tokens * self.layers + 2 * through),
            "attention": 2 * 2 * h * length * through,
            "feed_forward": 2 * 3 * h * i * through,
            "head": 2 * h * (h + self.vocab_size) * last,
        }
        own = ARCHITECTURES[self.architecture].block_flops(h, tokens)
        forward |= {name: self.layers * value for name, value in own.items()}
        return {name: 3 * value for name, value in forward.items()}

    def to_hub(self) -> dict[str, Any]:
        """Return DNABERT-2's ``config.json`` for this shape, without the keys that only transformers needs."""
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": 0.0,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "initializer_range": 0.02,
            "type_vocab_size": ARCHITECTURES[self.architecture].n_types,
            "pad_token_id": 3,
            "architecture": self.architecture,
        }

    @classmethod
    def from_hub(cls, config: dict[str, Any], where: str = "config.json") -> ModelConfig:
        """Read DNABERT-2's ``config.json``.

        Raises
        ------
        DataError
            When a key is missing, or asks for something that this network does not do.
        UnknownName
            When it names another architecture.
        """
        architecture = str(config.get("architecture", "dnabert2"))
        if architecture not in ARCHITECTURES:
            raise UnknownName(architecture, ARCHITECTURES, where, "architecture")
        fixed = {
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "attention_probs_dropout_prob": 0.0,
            "type_vocab_size": ARCHITECTURES[architecture].n_types,
        }
        for key, value in fixed.items():
            if config.get(key, value) != value:
                raise DataError(f"{where}: {key} is {config[key]!r}; a DNABERT-2 has {value!r}.")
        try:
            return cls(
                config["vocab_size"],
                config["hidden_size"],
                config["num_hidden_layers"],
                config["num_attention_heads"],
                config["intermediate_size"],
                config.get("hidden_dropout_prob", 0.1),
                architecture,
            )
        except KeyError as error:
            raise DataError(f"{where} has no {error}: it is no configuration of a DNABERT-2.") from None


PRESETS: dict[str, tuple[int, int, int, int]] = {
    "15M": (3, 512, 8, 2048),
    "28M": (6, 512, 8, 2048),
    "60M": (6, 768, 12, 3072),
    "117M": (12, 768, 12, 3072),
    "230M": (24, 768, 12, 3072),
}
"""The original study's five shapes: layers, hidden, heads, feed-forward."""


def shape_for(size: str, vocab_size: int, dropout: float = 0.0, architecture: str = "dnabert2") -> ModelConfig:
    """Return the configuration of one size of the ladder.

    Parameters
    ----------
    size
        ``"0.4M"``: the non-embedding parameters to come closest to under the aspect-ratio rule, by DNABERT-2's; or a
        preset of the original study, ``"15M"`` … ``"230M"``, which count all parameters.

    Raises
    ------
    ConfigError, UnknownName
        When the text is no size.
    """
    if size in PRESETS:
        layers, hidden, heads, intermediate = PRESETS[size]
        return ModelConfig(vocab_size, hidden, layers, heads, intermediate, dropout, architecture)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB])", size)
    if not match:
        raise UnknownName(size, PRESETS, kind="size")
    target = float(match[1]) * {"K": 1e3, "M": 1e6, "B": 1e9}[match[2]]
    found = min(_ladder(vocab_size), key=lambda c: abs(c.n_params_non_embedding - target))
    if not target / 2 < found.n_params_non_embedding < target * 2:
        raise ConfigError(
            f"No model has about {size} parameters in its blocks; the nearest has {found.n_params_non_embedding:,}."
        )
    return replace(found, dropout=dropout, architecture=architecture)


def _ladder(vocab_size: int) -> list[ModelConfig]:
    """Return every shape of the rule, from 2 layers of width 16 to 128 of width 4,096: DNABERT-2's.

    By its sizes, so that a size has one shape whatever the network.
    """
    shapes = []
    for hidden in (*range(16, 512, 8), *range(512, 4097, 64)):
        heads = next(n for n in range(-(-hidden // HEAD_WIDTH), hidden + 1) if hidden % n == 0)
        layers = max(2, round(hidden / 32))
        shapes.append(ModelConfig(vocab_size, hidden, layers, heads, 4 * hidden))
    return shapes
