"""A network that reads order: DNABERT-2's parts, with a short convolution in every block.

ALiBi knows how far apart two tokens are and not which of them is on the left, so that DNABERT-2 scores a row and the
row reversed alike. Here every block first adds to each token's vector a weighted sum of its own and its two
neighbours', dimension by dimension (a depthwise convolution of 3·H weights), and order is in everything that follows.
Norms stand before attention and feed-forward instead of behind them (Xiong et al. 2020, arXiv:2002.04745), and no
vector for a type is added to every token. All other parts are DNABERT-2's own. What was tried and earned no place (one
convolution over the embeddings, wider ones, rotated positions, norms of queries and keys, blocks that begin as nothing)
is in the notebook.

Shapes: B rows, S tokens in a row, K masked tokens in a row, H width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kleiber.model.architectures import CONV_WIDTH
from kleiber.model.attention import Attend, pick
from kleiber.model.config import ModelConfig
from kleiber.model.dnabert2 import DNABERT2, Bert, Block

__all__ = ["ShortConv"]

CONV_SPREAD = 0.3  # of the first weights of a convolution


class Neighbours(torch.autograd.Function):
    """The weighted sums; with a backward pass of its own, which takes a fifth of the time of PyTorch's of the parts."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        before, here, after = weight.unbind()
        y = x * here
        y[:, 1:] += x[:, :-1] * before  # not addcmul_, which vmap computes model by model
        y[:, :-1] += x[:, 1:] * after
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        before, here, after = weight.unbind()
        of_x = gradient * here
        of_x[:, :-1] += gradient[:, 1:] * before
        of_x[:, 1:] += gradient[:, :-1] * after
        pairs = (gradient[:, 1:] * x[:, :-1], gradient * x, gradient[:, :-1] * x[:, 1:])
        return of_x, torch.stack([pair.sum((0, 1)) for pair in pairs])


class ShortConvolution(nn.Module):
    """A weighted sum of each token's vector and its neighbours', dimension by dimension."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(CONV_WIDTH, config.hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, S, H) for x (B, S, H); what lies outside a row is 0."""
        return Neighbours.apply(x, self.weight)


class ConvolvedBlock(Block):
    """DNABERT-2's block behind a convolution, its norms before attention and feed-forward."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.convolution = ShortConvolution(config)

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        """Return (B, S, H), or (B, K, H) at the tokens `rows`; padding gives its neighbours nothing."""
        x = x + self.convolution(x if real is None else x * real)
        output, mlp = self.attention.output, self.mlp
        mixed = self.attention.self(output.LayerNorm(x), attend, rows)
        x = (x if rows is None else pick(x, rows)) + output.dropout(output.dense(mixed))
        return x + mlp.feed(mlp.layernorm(x))


class ShortConvBert(Bert):
    """The encoder, and a last norm."""

    block: type[Block] = ConvolvedBlock

    def __init__(self, config: ModelConfig):
        super().__init__(config, self.block)
        self.norm = nn.LayerNorm(config.hidden, eps=1e-12)

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, rows: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        """Return the vectors of all tokens, or of those at `rows`; types, which BERT has, make no difference."""
        return self.norm(self.encoder(self.embeddings(ids, types), mask, rows))


class ShortConv(DNABERT2):
    """The network that reads order, for masked language modelling."""

    body = ShortConvBert

    def initialise(self, seed: int, frequencies: Callable[[], Any] | None = None) -> None:
        """Draw the weights: as DNABERT-2's, but N(0, 0.3) for the convolutions.

        Parameters
        ----------
        frequencies
            Gives the shares of the tokens, (V,) float32; the bias of the decoder begins at their logarithms, so that
            none of the training goes into learning them.
        """
        super().initialise(seed)
        generator = torch.Generator().manual_seed((seed + 1) % 2**63)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if "convolution" in name:
                    parameter.normal_(0.0, CONV_SPREAD, generator=generator)
            if frequencies is not None:
                self.cls.predictions.decoder.bias.copy_(torch.as_tensor(frequencies()).log())
