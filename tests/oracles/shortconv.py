"""The network that reads order stated again, padded and slow: token by token where it differs from DNABERT-2."""

from __future__ import annotations

import torch
from torch import Tensor

from oracles.dnabert2 import Weights, attention, gelu, linear, norm


def convolve(x: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """Return what each token of x (S, H) gets from itself and its neighbours; padding gives nothing."""
    length = len(x)
    rows = []
    for i in range(length):
        parts = [weight[j] * x[i + j - 1] for j in range(3) if 0 <= i + j - 1 < length and real[i + j - 1]]
        rows.append(torch.stack(parts).sum(0) if parts else torch.zeros_like(x[i]))
    return torch.stack(rows)


def logits(w: Weights, ids: Tensor, real: Tensor, heads: int, layers: int) -> Tensor:
    """Return (B, S, V) for ids (B, S) and `real` (B, S), False at padding."""
    rows = []
    for row, there in zip(ids, real, strict=True):
        embeddings = "bert.embeddings"
        x = w[f"{embeddings}.word_embeddings.weight"][row]
        x = norm(x, w, f"{embeddings}.LayerNorm")
        for n in range(layers):
            block = f"bert.encoder.layer.{n}"
            x = x + convolve(x, there, w[f"{block}.convolution.weight"])
            mixed = attention(
                norm(x, w, f"{block}.attention.output.LayerNorm"), there, heads, w, f"{block}.attention.self"
            )
            x = x + linear(mixed, w, f"{block}.attention.output.dense")
            wide = norm(x, w, f"{block}.mlp.layernorm") @ w[f"{block}.mlp.gated_layers.weight"].T
            gate, value = wide[:, : wide.shape[1] // 2], wide[:, wide.shape[1] // 2 :]
            x = x + linear(gelu(gate) * value, w, f"{block}.mlp.wo")
        x = norm(x, w, "bert.norm")
        head = "cls.predictions"
        x = norm(gelu(linear(x, w, f"{head}.transform.dense")), w, f"{head}.transform.LayerNorm")
        rows.append(x @ w[f"{embeddings}.word_embeddings.weight"].T + w[f"{head}.decoder.bias"])
    return torch.stack(rows)
