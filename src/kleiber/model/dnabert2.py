"""DNABERT-2, with the published parameter names, so that its weights load as they are.

A BERT encoder with ALiBi instead of positions, a gated GELU feed-forward and layer norms after each residual, as
MosaicBERT has it (Portes et al. 2023, arXiv:2312.17482; Zhou et al. 2024, arXiv:2306.15006). Rows are full, so the
hot path has no padding; the head, and the last block behind its keys and values, are computed at masked positions
only. Rejected: the published unpadding and Triton kernels, which need a GPU and break with every release of either.

Shapes: B rows, S tokens in a row, K masked tokens in a row, H width, V vocabulary, h heads, d = H / h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kleiber.model.attention import Attend, SelfAttention, alibi_slopes, attention, pick
from kleiber.model.config import ModelConfig

__all__ = ["DNABERT2"]


class Embeddings(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden)
        # A vector that all tokens share: AdamW moves it at every step, a rare token's own only when that is read. It
        # drowns them at the rates of small models, so other networks do without.
        typed = config.architecture == "dnabert2"
        self.token_type_embeddings = nn.Embedding(2, config.hidden) if typed else None
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        x = self.word_embeddings(ids)
        if self.token_type_embeddings is not None:
            x = x + (self.token_type_embeddings.weight[0] if types is None else self.token_type_embeddings(types))
        return self.dropout(self.LayerNorm(x))


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

    def feed(self, x: Tensor) -> Tensor:
        gate, value = self.gated_layers(x).chunk(2, dim=-1)
        return self.wo(self.dropout(F.gelu(gate) * value))

    def forward(self, x: Tensor) -> Tensor:
        return self.layernorm(self.feed(x) + x)


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention = Attention(config)
        self.mlp = GatedMLP(config)

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        """Return (B, S, H), or (B, K, H) at the tokens `rows`; `real` (B, S, 1) is 0 at padding, None without any."""
        return self.mlp(self.attention(x, attend, rows))


class Encoder(nn.Module):
    def __init__(self, config: ModelConfig, block: type[Block]):
        super().__init__()
        self.layer = nn.ModuleList(block(config) for _ in range(config.layers))
        self.slopes: Tensor
        self.register_buffer("slopes", torch.empty(config.heads), persistent=False)
        self.set_slopes()
        self.backend = "matmul"

    def set_slopes(self) -> None:
        """Fill in the slopes of ALiBi, (h,); files of weights do not hold them."""
        with torch.no_grad():
            self.slopes.copy_(torch.tensor(alibi_slopes(len(self.slopes))))

    def forward(self, x: Tensor, mask: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Return the last block's output at the tokens `rows` (B, K), at all when None."""
        attend = attention(self.backend, self.slopes, x, mask, None)
        last = attend if rows is None else attention(self.backend, self.slopes, x, mask, rows)
        real = None if mask is None else mask.unsqueeze(-1).to(x.dtype)
        for block in self.layer[:-1]:
            x = block(x, attend, None, real)
        return self.layer[-1](x, last, rows, real)


class Bert(nn.Module):
    def __init__(self, config: ModelConfig, block: type[Block] = Block):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config, block)

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, rows: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        """Return the vectors of all tokens, or of those at `rows`; types as BERT has them, all 0 when None."""
        return self.encoder(self.embeddings(ids, types), mask, rows)


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

    body: type[Bert] = Bert

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.bert = self.body(config)
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
        return self.cls.predictions(self.bert(ids, mask, rows))

    def use_attention(self, backend: str) -> None:
        """Compute attention in one of the ways of `BACKENDS` from now on."""
        self.bert.encoder.backend = backend

    def initialise(self, seed: int, frequencies: Callable[[], Any] | None = None) -> None:
        """Draw the weights: N(0, 0.02) for matrices and embeddings, biases 0, layer norms 1 and 0.

        DNABERT-2 does not ask for the `frequencies` of its tokens.
        """
        generator = torch.Generator().manual_seed(seed % 2**63)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0.0, 0.02, generator=generator)
                elif "orm.weight" in name:
                    parameter.fill_(1.0)
                else:
                    parameter.zero_()
