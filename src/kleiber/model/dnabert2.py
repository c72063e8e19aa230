"""DNABERT-2, with the published parameter names, so that its weights load as they are.

A BERT encoder with ALiBi instead of positions, a gated GELU feed-forward and layer norms after each residual, as
MosaicBERT has it (Portes et al. 2023, arXiv:2312.17482; Zhou et al. 2024, arXiv:2306.15006). Rows are full, so the
hot path has no padding; the head, and the last block behind its keys and values, are computed at masked positions
only. Rejected: the published unpadding and Triton kernels, which need a GPU and break with every release of either.

Shapes: B rows, S tokens in a row, K masked tokens in a row, H width, V vocabulary, h heads, d = H / h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kleiber.model.config import ModelConfig

__all__ = ["DNABERT2", "alibi_slopes"]

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # (B, h, K, d), (B, h, S, d) twice -> (B, h, K, d)


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each attention head (Press et al. 2022, arXiv:2108.12409).

    2^(-8(i+1)/n) when n is a power of two; otherwise those of the power of two below, then every second of twice that.
    """
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    finer = [2 ** (-8 * (i + 1) / (2 * below)) for i in range(0, 2 * below, 2)]
    return slopes + finer[: heads - below]


def alibi(slopes: list[float], x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Tensor:
    """Return what is added to the attention scores: -slope·|i - j|, and the least number where j is padding.

    Parameters
    ----------
    x
        (B, S, H); gives the length, device and type.
    mask
        (B, S), 0 where there is padding.
    rows
        (B, K) tokens that attend; all when None.

    Returns
    -------
    (B, h, K, S), or (1, h, S, S) when all attend and nothing is padding.
    """
    at = torch.arange(x.shape[1], device=x.device)
    queries = at[None] if rows is None else rows
    distance = (queries[:, :, None] - at).abs().to(x.dtype)
    bias = distance[:, None] * -torch.tensor(slopes, device=x.device, dtype=x.dtype)[:, None, None]
    return bias if mask is None else bias.masked_fill(mask[:, None, None, :] == 0, torch.finfo(x.dtype).min)


def attention(backend: str, slopes: list[float], x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Attend:
    """Return softmax(q·k / √d + ALiBi)·v as a function of q, k and v, computed by one of `BACKENDS`.

    The other arguments are those of `alibi`.
    """
    if backend == "flex":
        return _flex(slopes, x, mask, rows)
    return partial(_sdpa if backend == "sdpa" else _matmul, bias=alibi(slopes, x, mask, rows))


def _matmul(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    B, h, K, d = q.shape
    q, k, v = (t.reshape(B * h, -1, d) for t in (q, k, v))
    bias = bias.expand(B, h, K, -1).reshape(B * h, K, -1)
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=d**-0.5)
    return torch.bmm(torch.softmax(scores, -1), v).view(B, h, K, d)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype).expand(*q.shape[:3], -1))


def _flex(slopes: list[float], x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Attend:
    """Attend by FlexAttention, which writes neither scores nor bias down; for long rows on a GPU."""
    slope = torch.tensor(slopes, device=x.device)

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        at = i if rows is None else rows[b, i]
        score = score - slope[h] * (at - j).abs()
        return score if mask is None else torch.where(mask[b, j] == 0, torch.finfo(torch.float32).min, score)

    return partial(_flex_attention(x.is_cuda), score_mod=score_mod)


@cache
def _flex_attention(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention


def pick(x: Tensor, rows: Tensor) -> Tensor:
    """Return the tokens `rows` (B, K) of x (B, S, H), shape (B, K, H)."""
    return x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class Embeddings(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden)
        self.token_type_embeddings = nn.Embedding(2, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        kind = self.token_type_embeddings.weight[0] if types is None else self.token_type_embeddings(types)
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + kind))


class SelfAttention(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads = config.heads
        self.Wqkv = nn.Linear(config.hidden, 3 * config.hidden)

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None) -> Tensor:
        """Attend from the tokens `rows` (all when None) to all tokens; returns (B, S or K, H)."""
        B, S, H = x.shape
        d = H // self.heads
        if rows is None:
            q, k, v = self.Wqkv(x).view(B, S, 3, self.heads, d).permute(2, 0, 3, 1, 4)
        else:
            weight, offset = self.Wqkv.weight, self.Wqkv.bias
            q = F.linear(pick(x, rows), weight[:H], offset[:H]).view(B, -1, self.heads, d).transpose(1, 2)
            k, v = F.linear(x, weight[H:], offset[H:]).view(B, S, 2, self.heads, d).permute(2, 0, 3, 1, 4)
        return attend(q, k, v).transpose(1, 2).reshape(B, -1, H)


class AttentionOutput(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, mixed: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(mixed)) + x)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.self = SelfAttention(config)
        self.output = AttentionOutput(config)

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None) -> Tensor:
        return self.output(self.self(x, attend, rows), x if rows is None else pick(x, rows))


class GatedMLP(nn.Module):
    """GELU(gate) · value, then `wo`; the first half of `gated_layers` is the gate."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gated_layers = nn.Linear(config.hidden, 2 * config.intermediate, bias=False)
        self.wo = nn.Linear(config.intermediate, config.hidden)
        self.layernorm = nn.LayerNorm(config.hidden, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.gated_layers(x).chunk(2, dim=-1)
        return self.layernorm(self.wo(self.dropout(F.gelu(gate) * value)) + x)


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention = Attention(config)
        self.mlp = GatedMLP(config)

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None) -> Tensor:
        return self.mlp(self.attention(x, attend, rows))


class Encoder(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layer = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.slopes = alibi_slopes(config.heads)  # no buffer: transformers 5 hands non-persistent ones back unset
        self.backend = "matmul"

    def forward(self, x: Tensor, mask: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Return the last block's output at the tokens `rows` (B, K), at all when None."""
        attend = attention(self.backend, self.slopes, x, mask, None)
        last = attend if rows is None else attention(self.backend, self.slopes, x, mask, rows)
        for block in self.layer[:-1]:
            x = block(x, attend)
        return self.layer[-1](x, last, rows)


class Bert(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)


class Transform(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(x)))


class Predictions(nn.Module):
    def __init__(self, config: ModelConfig, embedding: Any):
        super().__init__()
        self.transform = Transform(config)
        self.decoder = nn.Linear(config.hidden, config.vocab_size)
        self.decoder.weight = embedding

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class Head(nn.Module):
    def __init__(self, config: ModelConfig, embedding: Any):
        super().__init__()
        self.predictions = Predictions(config, embedding)


class DNABERT2(nn.Module):
    """DNABERT-2 for masked language modelling."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.cls = Head(config, self.bert.embeddings.word_embeddings.weight)

    def forward(self, ids: Tensor, mask: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Return the logits of every token, or of the masked ones.

        Parameters
        ----------
        ids
            (B, S) token ids.
        mask
            (B, S), 1 where there is a token and 0 where there is padding; None for full rows.
        rows
            (B, K) positions to predict; None for all.

        Returns
        -------
        (B, S, V), or (B, K, V).
        """
        return self.cls.predictions(self.bert.encoder(self.bert.embeddings(ids), mask, rows))

    def use_attention(self, backend: str) -> None:
        """Compute attention in one of the ways of `BACKENDS` from now on."""
        self.bert.encoder.backend = backend

    def initialise(self, seed: int) -> None:
        """Draw the weights: N(0, 0.02) for matrices and embeddings, biases 0, layer norms 1 and 0."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0.0, 0.02, generator=generator)
                elif "orm.weight" in name:
                    parameter.fill_(1.0)
                else:
                    parameter.zero_()
