"""A network that reads order: DNABERT-2's parts, with a short convolution over the embeddings.

ALiBi knows how far apart two tokens are and not which of them is on the left, so that DNABERT-2 scores a row and the
row reversed alike. Here each token's vector also gets a weighted sum of its own and its two neighbours', dimension by
dimension (a depthwise convolution of 3·H weights), and order is in everything that follows. Norms stand before
attention and feed-forward instead of behind them (Xiong et al. 2020, arXiv:2002.04745), and no vector for a type is
added to every token. All other parts are DNABERT-2's own. What was tried and earned no place (wider convolutions, more
of them, rotated positions, norms of queries and keys, blocks that begin as nothing) is in the notebook.

Shapes: B rows, S tokens in a row, K masked tokens in a row, H width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kleiber.model.architectures import CONV_WIDTH
from kleiber.model.attention import Attend, pick
from kleiber.model.config import ModelConfig
from kleiber.model.dnabert2 import DNABERT2, Bert, Block

__all__ = ["ShortConv"]

CONV_SPREAD = 0.3  # of the first weights of the convolution


class ShortConvolution(nn.Module):
    """A weighted sum of each token's vector and its neighbours', dimension by dimension."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(CONV_WIDTH, config.hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, S, H) for x (B, S, H); what lies outside a row is 0."""
        left, right = F.pad(x, (0, 0, 1, -1)), F.pad(x, (0, 0, -1, 1))
        before, here, after = self.weight.unbind()
        return torch.addcmul(torch.addcmul(x * here, left, before), right, after)


class PreNormBlock(Block):
    """DNABERT-2's block with its norms before attention and feed-forward."""

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None) -> Tensor:
        """Return (B, S, H), or (B, K, H) at the tokens `rows`."""
        output, mlp = self.attention.output, self.mlp
        mixed = self.attention.self(output.LayerNorm(x), attend, rows)
        x = (x if rows is None else pick(x, rows)) + output.dropout(output.dense(mixed))
        return x + mlp.feed(mlp.layernorm(x))


class ShortConvBert(Bert):
    """The encoder, between the convolution and a last norm."""

    block: type[Block] = PreNormBlock

    def __init__(self, config: ModelConfig):
        super().__init__(config, self.block)
        self.convolution = ShortConvolution(config)
        self.norm = nn.LayerNorm(config.hidden, eps=1e-12)

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, rows: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        """Return the vectors of all tokens, or of those at `rows`; types, which BERT has, make no difference."""
        x = self.embeddings(ids, types)
        seen = x if mask is None else x * mask.unsqueeze(-1).to(x.dtype)
        return self.norm(self.encoder(x + self.convolution(seen), mask, rows))


class ShortConv(DNABERT2):
    """The network that reads order, for masked language modelling."""

    body = ShortConvBert

    def initialise(self, seed: int, frequencies: Callable[[], Any] | None = None) -> None:
        """Draw the weights: as DNABERT-2's, but N(0, 0.3) for the convolution.

        Parameters
        ----------
        frequencies
            Gives the shares of the tokens, (V,) float32; the bias of the decoder begins at their logarithms, so that
            none of the training goes into learning them.
        """
        super().initialise(seed)
        assert isinstance(self.bert, ShortConvBert)
        generator = torch.Generator().manual_seed((seed + 1) % 2**63)
        with torch.no_grad():
            self.bert.convolution.weight.normal_(0.0, CONV_SPREAD, generator=generator)
            if frequencies is not None:
                self.cls.predictions.decoder.bias.copy_(torch.as_tensor(frequencies()).log())
