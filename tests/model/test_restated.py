"""The network against its naive re-statement: other heads, lengths and padding than the reference files have."""

from __future__ import annotations

import pytest
import torch

from kleiber.model.attention import alibi_slopes
from kleiber.model.config import ModelConfig
from kleiber.model.dnabert2 import DNABERT2
from oracles import dnabert2 as oracle
from oracles.restated import assert_restated


@pytest.mark.parametrize("backend", ["matmul", "sdpa"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [16, 127, 513, 700])
@pytest.mark.parametrize("heads", [8, 12])
def test_logits_loss_and_gradients(heads, length, padded, backend):
    config = ModelConfig(vocab_size=60, hidden=12 * heads, layers=2, heads=heads, intermediate=64)
    model = DNABERT2(config)
    model.initialise(length)
    model.use_attention(backend)
    draw = torch.Generator().manual_seed(heads)
    with torch.no_grad():  # as drawn, every bias is 0 and every norm 1
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    ids = torch.randint(5, 60, (2, length), generator=draw)
    real = torch.ones(2, length, dtype=torch.bool)
    if padded:
        real[1, length - length // 3 :] = False
    at = torch.stack([torch.randperm(length - length // 3, generator=draw)[:5] for _ in range(2)])
    target = torch.randint(5, 60, (2, 5), generator=draw)
    assert_restated(model, oracle.logits, ids, real, at, target)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [16, 600])
def test_flex_attention_forward(length, padded):
    """FlexAttention has no backward on a CPU; forward it has, with the masked rows too."""
    model = DNABERT2(ModelConfig(vocab_size=60, hidden=96, layers=2, heads=12, intermediate=64)).eval()
    model.initialise(3)
    draw = torch.Generator().manual_seed(1)
    ids, at = (torch.randint(5, n, (2, k), generator=draw) for n, k in ((60, length), (length - 6, 4)))
    mask = torch.ones_like(ids)
    mask[1, length - 4 :] = 1 - int(padded)
    arguments = (ids, mask if padded else None, at)
    with torch.no_grad():
        expected = model(*arguments)
        model.use_attention("flex")
        torch.testing.assert_close(model(*arguments), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("heads", range(1, 21))
def test_slopes(heads):
    assert alibi_slopes(heads) == pytest.approx([oracle.slope(head, heads) for head in range(heads)])
