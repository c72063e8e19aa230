"""Attention with ALiBi in place of positions (Press et al. 2022, arXiv:2108.12409), and the ways to compute it.

Every network here attends alike: scores q·k / √d with ``-slope·|i - j|`` added, from the tokens asked for to all.
Rejected: positions that are learned or rotated. They tie a network to the length of its rows, and rotated ones cost
more time and were no better in bits per base (see the notebook).

Shapes: B rows, S tokens in a row, K masked tokens in a row, H width, h heads, d = H / h.
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

__all__ = ["SelfAttention", "alibi", "alibi_slopes", "attention", "pick"]

LANES = 16  # fp32 numbers in a register of AVX-512
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # (B, h, K, d), (B, h, S, d) twice -> (B, h, K, d)


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each attention head (Press et al. 2022, arXiv:2108.12409).

    2^(-8(i+1)/n) when n is a power of two; otherwise those of the power of two below, then every second of twice that.
    """
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    finer = [2 ** (-8 * (i + 1) / (2 * below)) for i in range(0, 2 * below, 2)]
    return slopes + finer[: heads - below]


def alibi(slopes: Tensor, x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Tensor:
    """Return what is added to the scores: ``-slope·|i - j|``, and the least number where j is padding.

    Nothing is copied from the host: a step that does cannot be captured as a CUDA graph.

    Parameters
    ----------
    slopes
        float32 (h,), where x is.
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
    bias = distance[:, None] * -slopes.to(x.dtype)[:, None, None]
    return bias if mask is None else bias.masked_fill(mask[:, None, None, :] == 0, torch.finfo(x.dtype).min)


def attention(backend: str, slopes: Tensor, x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Attend:
    """Return softmax(q·k / √d + ALiBi)·v as a function of q, k and v, computed by one of `BACKENDS`.

    The other arguments are those of `alibi`. Queries are (B, h, K, d), keys and values (B, h, S, d).
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
    d = q.shape[-1]
    if q.device.type == "cpu" and d % LANES:  # zeros add nothing, and heads that fill a register save 5 % of a pass
        q, k, v = (F.pad(t, (0, -d % LANES)) for t in (q, k, v))
    bias = bias.to(q.dtype).expand(*q.shape[:3], -1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=d**-0.5)[..., :d]


def _flex(slopes: Tensor, x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Attend:
    """Attend by FlexAttention, which writes neither scores nor bias down; for long rows on a GPU."""

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        at = i if rows is None else rows[b, i]
        score = score - slopes[h] * (at - j).abs()
        return score if mask is None else torch.where(mask[b, j] == 0, torch.finfo(torch.float32).min, score)

    return partial(_flex_attention(x.is_cuda), score_mod=score_mod)


@cache
def _flex_attention(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention


def pick(x: Tensor, rows: Tensor) -> Tensor:
    """Return the tokens `rows` (B, K) of x (B, S, H), shape (B, K, H)."""
    return x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class SelfAttention(nn.Module):
    """Queries, keys and values in one matrix of (3H, H), one below the other, and attention between them."""

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
