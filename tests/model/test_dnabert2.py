"""The networks: DNABERT-2's weights load by name and give its logits, loss and gradients; what holds for both."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

from kleiber.errors import ConfigError, DataError, UnknownName
from kleiber.model.architectures import ARCHITECTURES
from kleiber.model.attention import alibi_slopes
from kleiber.model.config import BACKENDS, HEAD_WIDTH, PRESETS, ModelConfig, shape_for
from kleiber.model.dnabert2 import DNABERT2
from kleiber.model.networks import network

SMALL = ModelConfig(vocab_size=100, hidden=32, layers=3, heads=4, intermediate=64)


@pytest.fixture(params=ARCHITECTURES)
def small(request) -> DNABERT2:
    """A network of three blocks, none of whose weights is zero."""
    model = network(replace(SMALL, architecture=request.param))
    model.initialise(3)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


@pytest.mark.parametrize("name", ["eight_heads", "twelve_heads"])
@pytest.mark.parametrize("backend", ["matmul", "sdpa"])
def test_logits_loss_and_gradients_of_the_original(name, backend, shared_data):
    file = safe_open(shared_data / "dnabert2" / f"{name}.safetensors", "pt")
    weights = {k.removeprefix("weights."): file.get_tensor(k) for k in file.keys() if k.startswith("weights.")}  # noqa: SIM118
    model = DNABERT2(ModelConfig.from_hub(json.loads(file.metadata()["config"])))
    model.eval()
    model.use_attention(backend)
    model.load_state_dict(weights, strict=True)
    ids, mask, labels = (file.get_tensor(k) for k in ("input_ids", "attention_mask", "labels"))
    logits = model(ids, mask)
    real = mask.bool()
    assert (logits - file.get_tensor("logits"))[real].abs().max() < 2e-6
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    assert loss.item() == pytest.approx(file.get_tensor("loss").item(), abs=2e-6)
    loss.backward()
    gradients = {k.removeprefix("grad."): file.get_tensor(k) for k in file.keys() if k.startswith("grad.")}  # noqa: SIM118
    assert len(gradients) > 20
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for key, parameter in model.named_parameters():
        if key in gradients:
            assert (parameter.grad - gradients[key]).abs().max() < 1e-5 * largest, key


@pytest.mark.parametrize("padded", [False, True])
def test_masked_rows_alone_give_the_same_logits(padded, small):
    ids = torch.randint(5, 100, (3, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 15:] = 0
    rows = torch.tensor([[0, 3, 7], [14, 2, 1], [19, 18, 5]])
    full = small(ids, mask if padded else None)
    some = small(ids, mask if padded else None, rows)
    expected = full.gather(1, rows.unsqueeze(-1).expand(-1, -1, 100))
    torch.testing.assert_close(some, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "matmul"])
def test_every_way_to_attend_is_the_same(backend, small):
    ids = torch.randint(5, 100, (2, 16), generator=torch.Generator().manual_seed(1))
    expected = small(ids)
    small.use_attention(backend)
    with torch.no_grad():  # FlexAttention has no backward on a CPU
        torch.testing.assert_close(small(ids), expected.detach(), atol=2e-6, rtol=1e-5)


def test_padding_changes_nothing(small):
    ids = torch.randint(5, 100, (1, 12), generator=torch.Generator().manual_seed(1))
    longer = torch.cat([ids, torch.full((1, 5), 3)], 1)
    mask = torch.tensor([[1] * 12 + [0] * 5])
    torch.testing.assert_close(small(longer, mask)[:, :12], small(ids), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("heads", [4, 8, 12, 16])
def test_slopes_are_those_of_alibi(heads):
    slopes = alibi_slopes(heads)
    assert len(slopes) == heads
    if heads & (heads - 1) == 0:
        assert slopes == pytest.approx([2 ** (-8 * (i + 1) / heads) for i in range(heads)])
    else:  # Press et al. 2022: those of 8, then every second of those of 16
        assert slopes == pytest.approx(alibi_slopes(8) + alibi_slopes(16)[::2][:4])


@pytest.mark.parametrize(
    ("size", "bpe", "six_mer"),
    [
        ("15M", 14_963_712, 14_968_842),
        ("28M", 27_560_448, 27_565_578),
        ("60M", 60_409_600, 60_417_290),
        ("117M", 117_074_176, 117_081_866),
        ("230M", 230_403_328, 230_411_018),
    ],
)
def test_the_published_parameter_counts(size, bpe, six_mer):
    assert shape_for(size, 4096).n_params == bpe
    assert shape_for(size, 4106).n_params == six_mer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", ["0.01M", "0.05M", "0.8M", "3M"])
def test_counts_are_those_of_the_modules(size, architecture):
    config = shape_for(size, 512, architecture=architecture)
    model = network(config)
    assert sum(p.numel() for p in model.parameters()) == config.n_params
    assert sum(p.numel() for p in model.bert.encoder.parameters()) == config.n_params_non_embedding


@pytest.mark.parametrize("scored", [None, 6])
def test_flops_are_those_that_torch_counts(scored, small):
    """All but the convolution: the counter knows matrix products, and it is none."""
    ids = torch.randint(5, 100, (4, 24))
    rows = None if scored is None else torch.stack([torch.randperm(24)[:scored] for _ in range(4)])
    with FlopCounterMode(display=False) as counter:
        small(ids, rows=rows).sum().backward()
    flops = small.config.flops(4, 24, None if scored is None else 4 * scored)
    convolution = 3 * (2 * 3 * SMALL.hidden) * 4 * 24 * SMALL.layers  # forward once, backward twice
    assert flops.pop("convolution", convolution) == convolution
    assert sum(flops.values()) == counter.get_total_flops()


def test_weights_are_drawn_from_the_seed_alone():
    one, same, other = DNABERT2(SMALL), DNABERT2(SMALL), DNABERT2(SMALL)
    one.initialise(1)
    same.initialise(1)
    other.initialise(2)
    weights = [torch.cat([p.flatten() for p in m.parameters() if p.ndim == 2]) for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(0.02, rel=0.02)


def test_hub_configuration_goes_both_ways(shared_data):
    config = shape_for("15M", 4096)
    assert ModelConfig.from_hub(config.to_hub()) == config
    published = ModelConfig.from_hub(json.loads((shared_data / "dnabert2" / "config.json").read_bytes()))
    assert published.vocab_size == 4096
    with pytest.raises(DataError, match="hidden_act is 'relu'"):
        ModelConfig.from_hub({**config.to_hub(), "hidden_act": "relu"})
    with pytest.raises(DataError, match="hidden_size"):
        ModelConfig.from_hub({"vocab_size": 3})


def test_the_ladder_has_no_step():
    """Heads are never wider than 16, and each width has one shape whatever the network."""
    sizes = [f"{n / 100:.2f}M" for n in range(2, 300, 3)]
    for size in sizes:
        shapes = [shape_for(size, 512, architecture=name) for name in ARCHITECTURES]
        assert len({(s.hidden, s.layers, s.heads, s.intermediate) for s in shapes}) == 1
        assert HEAD_WIDTH / 2 <= shapes[0].hidden / shapes[0].heads <= HEAD_WIDTH
        assert 1 / 1.5 < shapes[0].n_params_non_embedding / (float(size[:-1]) * 1e6) < 1.5


def test_what_is_no_size():
    assert set(PRESETS) == {"15M", "28M", "60M", "117M", "230M"}
    with pytest.raises(UnknownName, match="Unknown size '15'"):
        shape_for("15", 4096)
    with pytest.raises(ConfigError):
        ModelConfig(100, 30, 2, 4, 64)
    with pytest.raises(UnknownName, match="shortconv"):
        ModelConfig(100, 32, 2, 4, 64, architecture="shortcov")
