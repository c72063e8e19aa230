"""A network against its naive re-statement: logits, the loss at some tokens, and every gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def assert_restated(
    model: nn.Module, logits: Callable[..., Tensor], ids: Tensor, real: Tensor, at: Tensor, target: Tensor
) -> None:
    """Compare a network with `logits` of its weights, ids (B, S) and `real` (B, S), False at padding.

    The loss is that of `target` (B, K) at the tokens `at` (B, K).
    """
    config = model.config
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    expected = logits(weights, ids, real, config.heads, config.layers)
    picked = expected.gather(1, at[..., None].expand(-1, -1, config.vocab_size))
    expected_loss = F.cross_entropy(picked.flatten(0, 1), target.flatten())
    expected_loss.backward()

    mask = None if real.all() else real.long()
    assert (model(ids, mask) - expected)[real].abs().max() < 1e-5
    loss = F.cross_entropy(model(ids, mask, at).flatten(0, 1), target.flatten())
    assert loss.item() == pytest.approx(expected_loss.item(), abs=1e-5)
    loss.backward()
    largest = max(weight.grad.abs().max() for weight in weights.values() if weight.grad is not None)
    for name, parameter in model.named_parameters():
        wanted = weights[name].grad
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert (found - (0 if wanted is None else wanted)).abs().max() < 1e-5 * largest, name
