"""DNABERT-2 stated again, padded and slow: head by head, row by row, from the table of its parts alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def slope(head: int, heads: int) -> float:
    """Press et al. 2022: 2^(-8/n), 2^(-16/n), … for n a power of two, else that n and every second of twice it."""
    n = 1
    while 2 * n <= heads:
        n *= 2
    return 2.0 ** (-8.0 * (head + 1) / n) if head < n else 2.0 ** (-8.0 * (2 * (head - n) + 1) / (2 * n))


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def attention(x: Tensor, real: Tensor, heads: int, w: Weights, name: str) -> Tensor:
    """x (S, H) of one row; `real` (S,) says which tokens are no padding."""
    length, width = x.shape
    d = width // heads
    q, k, v = linear(x, w, f"{name}.Wqkv").split(width, -1)
    place = torch.arange(length)
    distance = (place[:, None] - place[None, :]).abs()
    mixed = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        scores = q[:, part] @ k[:, part].T / math.sqrt(d) - slope(head, heads) * distance
        mixed.append(scores.masked_fill(~real[None, :], -math.inf).softmax(-1) @ v[:, part])
    return torch.cat(mixed, -1)


def logits(w: Weights, ids: Tensor, real: Tensor, heads: int, layers: int) -> Tensor:
    """Return (B, S, V) for ids (B, S) and `real` (B, S), False at padding; `w` by the published names."""
    rows = []
    for row, there in zip(ids, real, strict=True):
        embeddings = "bert.embeddings"
        x = w[f"{embeddings}.word_embeddings.weight"][row] + w[f"{embeddings}.token_type_embeddings.weight"][0]
        x = norm(x, w, f"{embeddings}.LayerNorm")
        for n in range(layers):
            block = f"bert.encoder.layer.{n}"
            mixed = attention(x, there, heads, w, f"{block}.attention.self")
            x = norm(linear(mixed, w, f"{block}.attention.output.dense") + x, w, f"{block}.attention.output.LayerNorm")
            wide = x @ w[f"{block}.mlp.gated_layers.weight"].T
            gate, value = wide[:, : wide.shape[1] // 2], wide[:, wide.shape[1] // 2 :]
            x = norm(linear(gelu(gate) * value, w, f"{block}.mlp.wo") + x, w, f"{block}.mlp.layernorm")
        head = "cls.predictions"
        x = norm(gelu(linear(x, w, f"{head}.transform.dense")), w, f"{head}.transform.LayerNorm")
        rows.append(x @ w[f"{embeddings}.word_embeddings.weight"].T + w[f"{head}.decoder.bias"])
    return torch.stack(rows)
