"""The class of each architecture, and a network of a configuration.

Apart from the networks, which know nothing of each other, and from `kleiber.model.architectures`, which needs no torch.
"""

from __future__ import annotations

from pkgutil import resolve_name

from kleiber.model.architectures import ARCHITECTURES
from kleiber.model.config import ModelConfig
from kleiber.model.dnabert2 import DNABERT2

__all__ = ["NETWORKS", "network"]


NETWORKS: dict[str, type[DNABERT2]] = {name: resolve_name(entry.network) for name, entry in ARCHITECTURES.items()}


def network(config: ModelConfig) -> DNABERT2:
    """Return the network of a configuration, its weights not drawn yet."""
    return NETWORKS[config.architecture](config)
