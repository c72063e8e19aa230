"""The network that reads order: against its naive re-statement, and that it does read order."""

from __future__ import annotations

import pytest
import torch

from kleiber.model.config import ModelConfig
from kleiber.model.networks import network
from kleiber.model.shortconv import Neighbours
from oracles import shortconv as oracle
from oracles.restated import assert_restated


def drawn(architecture: str, seed: int = 1) -> torch.nn.Module:
    model = network(ModelConfig(60, 24, 2, 3, 40, architecture=architecture))
    model.initialise(seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # as drawn, every bias is 0, every norm 1 and every block nothing
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [5, 33])
def test_logits_loss_and_gradients(length, padded):
    model = drawn("shortconv", length)
    draw = torch.Generator().manual_seed(4)
    ids = torch.randint(5, 60, (2, length), generator=draw)
    real = torch.ones(2, length, dtype=torch.bool)
    if padded:
        real[1, length - length // 3 :] = False
    at = torch.stack([torch.randperm(length - length // 3, generator=draw)[:3] for _ in range(2)])
    target = torch.randint(5, 60, (2, 3), generator=draw)
    assert_restated(model, oracle.logits, ids, real, at, target)


@pytest.mark.parametrize(("architecture", "reads"), [("dnabert2", False), ("shortconv", True)])
def test_whether_it_reads_order(architecture, reads):
    """Reverse a whole row, [CLS] and [SEP] too: DNABERT-2 gives the reversed logits, because it sees distances only."""
    model = drawn(architecture)
    ids = torch.randint(5, 60, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        apart = (model(ids.flip(1)).flip(1) - model(ids)).abs().max()
    assert (apart > 0.1) == reads
    assert reads or apart < 1e-5


@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_gradient_is_that_of_differences(length):
    draw = torch.Generator().manual_seed(length)
    x, weight = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((2, length, 3), (3, 3)))
    assert torch.autograd.gradcheck(Neighbours.apply, (x.requires_grad_(), weight.requires_grad_()))


def test_weights_are_drawn_from_the_seed_and_the_frequencies():
    config = ModelConfig(60, 24, 2, 3, 40, architecture="shortconv")
    shares = torch.rand(60, generator=torch.Generator().manual_seed(1)) + 0.1
    one, same = network(config), network(config)
    for model in (one, same):
        model.initialise(1, lambda: shares / shares.sum())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    for block in one.bert.encoder.layer:
        assert 0.2 < block.convolution.weight.std() < 0.4
    bias = one.cls.predictions.decoder.bias
    torch.testing.assert_close(bias.softmax(0), shares / shares.sum())
    assert network(config).initialise(1) is None
