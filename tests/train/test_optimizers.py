"""Muon against torch's own, on single matrices; what it is for, and what it remembers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kleiber.model.config import shape_for
from kleiber.model.networks import network
from kleiber.train.config import Run, TrainConfig
from kleiber.train.optimizers import STEPS, Muon, Optimizers, muon_flops, orthogonalise

TRAIN = TrainConfig(precision="fp32")


@pytest.mark.parametrize("shape", [(16, 16), (48, 12), (12, 48)])
def test_steps_are_those_of_torch(shape):
    """`torch.optim.Muon` iterates in bf16, so ours does here; its scale is ours where its adjustment is "original"."""
    draw = torch.Generator().manual_seed(1)
    ours, theirs = (torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(2))) for _ in "ab")
    muon = Muon([(ours, 1)], momentum=0.95, weight_decay=0.01, dtype=torch.bfloat16)
    oracle = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01, momentum=0.95, adjust_lr_fn="original")
    muon.param_groups[0]["lr"] = 0.02
    for _ in range(5):
        ours.grad = torch.randn(shape, generator=draw)
        theirs.grad = ours.grad.clone()
        muon.step()
        oracle.step()
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_a_stack_is_its_matrices_each_alone():
    draw = torch.Generator().manual_seed(1)
    stack = torch.nn.Parameter(torch.randn(36, 12, generator=draw))
    parts = [torch.nn.Parameter(part.clone()) for part in stack.detach().split(12)]
    tall = torch.nn.Parameter(torch.randn(30, 12, generator=draw))
    lying = torch.nn.Parameter(tall.detach().T.clone())
    together = Muon([(stack, 3), (tall, 1), (lying, 1)], 0.95, 0.0, torch.float32)
    alone = Muon([(part, 1) for part in parts], 0.95, 0.0, torch.float32)
    stack.grad, tall.grad = torch.randn(36, 12, generator=draw), torch.randn(30, 12, generator=draw)
    lying.grad = tall.grad.T.clone()
    for part, gradient in zip(parts, stack.grad.split(12), strict=True):
        part.grad = gradient
    before = tall.detach().clone()
    for optimizer in (together, alone):
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
    torch.testing.assert_close(stack, torch.cat(parts), atol=1e-6, rtol=1e-5)
    # of a matrix and its transpose the changes are alike, but for the scale of the taller
    torch.testing.assert_close((tall - before) / (30 / 12) ** 0.5, (lying.T - before), atol=1e-6, rtol=1e-4)


def test_orthogonal_it_is():
    matrices = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(3))
    values = torch.linalg.svdvals(orthogonalise(matrices, torch.float32))
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("architecture", ["dnabert2", "shortconv"])
def test_muon_has_the_hidden_matrices_and_nothing_else(architecture):
    model = network(shape_for("0.03M", 73, architecture=architecture))
    model.initialise(1)
    found = Optimizers(model, Run("x", model.config, TRAIN, (1,), 1))
    names = {id(p): n for n, p in model.named_parameters()}
    muon = {names[id(p)] for group in found.parts[1].param_groups for p in group["params"]}
    block = "bert.encoder.layer.1."
    kinds = ("attention.self.Wqkv", "attention.output.dense", "mlp.gated_layers", "mlp.wo")
    assert {name for name in muon if name.startswith(block)} == {f"{block}{kind}.weight" for kind in kinds}
    assert muon - {name for name in muon if ".layer." in name} == {"cls.predictions.transform.dense.weight"}
    stacked = {names[id(p)]: n for p, n in found.parts[1].stacked.items()}
    assert stacked[f"{block}attention.self.Wqkv.weight"] == 3
    assert stacked[f"{block}mlp.gated_layers.weight"] == 2
    assert all(type(found.of(p)) is (Muon if n in muon else torch.optim.AdamW) for n, p in model.named_parameters())
    alone = Optimizers(model, Run("x", model.config, replace(TRAIN, optimizer="adamw"), (1,), 1))
    assert len(alone.parts) == 1
    assert alone.flops == 0


def test_its_own_operations_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        orthogonalise(torch.randn(1, 12, 40), torch.float32)
    assert muon_flops(12, 40) == muon_flops(40, 12) == counter.get_total_flops()
    assert STEPS == 5
