"""DNABERT-2, with the published parameter names, so that its weights load as they are.

A BERT encoder with ALiBi instead of positions, a gated GELU feed-forward and layer norms after each residual, as
MosaicBERT has it (Portes et al. 2023, arXiv:2312.17482; Zhou et al. 2024, arXiv:2306.15006). Rows are full, so the
hot path has no padding; the head, and the last block behind its keys and values, are computed at masked positions
only. Rejected: the published unpadding and Triton kernels, which need a GPU and break with every release of either.

Shapes: B rows, S tokens in a row, K masked tokens in a row, H width, V vocabulary, h heads, d = H / h.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kleiber.model.config import ModelConfig

__all__ = ["DNABERT2", "alibi_slopes"]


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each attention head (Press et al. 2022, arXiv:2108.12409).

    2^(-8(i+1)/n) when n is a power of two; otherwise those of the power of two below, then every second of twice that.
    """
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    finer = [2 ** (-8 * (i + 1) / (2 * below)) for i in range(0, 2 * below, 2)]
    return slopes + finer[: heads - below]


class Embeddings(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden)
        self.token_type_embeddings = nn.Embedding(2, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.word_embeddings(ids) + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(x))


class SelfAttention(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads = config.heads
        self.Wqkv = nn.Linear(config.hidden, 3 * config.hidden)

    def forward(self, x: Tensor, bias: Tensor, rows: Tensor | None) -> Tensor:
        """Attend from the tokens `rows` (all when None) to all tokens; returns (B, S or K, H)."""
        B, S, H = x.shape
        d = H // self.heads
        if rows is None:
            q, k, v = self.Wqkv(x).view(B, S, 3, self.heads, d).permute(2, 0, 3, 1, 4)
        else:
            weight, offset = self.Wqkv.weight, self.Wqkv.bias
            queries = x.gather(1, rows.unsqueeze(-1).expand(-1, -1, H))
            q = F.linear(queries, weight[:H], offset[:H]).view(B, -1, self.heads, d).transpose(1, 2)
            k, v = F.linear(x, weight[H:], offset[H:]).view(B, S, 2, self.heads, d).permute(2, 0, 3, 1, 4)
        scores = torch.matmul(q, k.transpose(-1, -2)).mul_(d**-0.5).add_(bias)
        mixed = torch.matmul(torch.softmax(scores, -1), v)
        return mixed.transpose(1, 2).reshape(B, -1, H)


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

    def forward(self, x: Tensor, bias: Tensor, rows: Tensor | None) -> Tensor:
        mixed = self.self(x, bias, rows)
        return self.output(mixed, x if rows is None else x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1])))


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

    def forward(self, x: Tensor, bias: Tensor, rows: Tensor | None = None) -> Tensor:
        return self.mlp(self.attention(x, bias, rows))


class Encoder(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layer = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.slopes = alibi_slopes(config.heads)  # no buffer: transformers 5 hands non-persistent ones back unset

    def forward(self, x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Tensor:
        bias = self.bias(x)
        if mask is not None:
            bias = bias + (1.0 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for block in self.layer[:-1]:
            x = block(x, bias)
        if rows is not None and mask is None:
            bias = bias[:, rows].transpose(0, 1)  # (B, h, K, S)
        return self.layer[-1](x, bias, rows)

    def bias(self, x: Tensor) -> Tensor:
        """Return ALiBi's bias, -slope·|i - j|, shape (h, S, S)."""
        at = torch.arange(x.shape[1], device=x.device)
        distance = (at[:, None] - at[None, :]).abs().to(x.dtype)
        return -torch.tensor(self.slopes, device=x.device, dtype=x.dtype)[:, None, None] * distance


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
    def __init__(self, config: ModelConfig, embedding: nn.Parameter):
        super().__init__()
        self.transform = Transform(config)
        self.decoder = nn.Linear(config.hidden, config.vocab_size)
        self.decoder.weight = embedding

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class Head(nn.Module):
    def __init__(self, config: ModelConfig, embedding: nn.Parameter):
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
        x = self.bert.encoder(self.bert.embeddings(ids), mask, rows if mask is None else None)
        if rows is not None and mask is not None:
            x = x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        return self.cls.predictions(x)

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
