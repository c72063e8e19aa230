"""Models travel: to transformers with kleiber and without it, and back from published checkpoints."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import safetensors.torch
import torch

from kleiber.errors import DataError
from kleiber.model.architectures import ARCHITECTURES
from kleiber.model.config import ModelConfig
from kleiber.model.networks import network
from kleiber.model.weights import load_model, load_weights
from kleiber.tokens.kinds import load
from kleiber.tokens.train import train_tokenizer

pytest.importorskip("transformers")
SHAPE = ModelConfig(vocab_size=73, hidden=24, layers=2, heads=3, intermediate=32)
IDS = torch.randint(5, 73, (3, 17), generator=torch.Generator().manual_seed(2))
MASK = torch.ones_like(IDS)
MASK[1, 11:] = 0
MASK[2, 5:] = 0

WITHOUT_KLEIBER = """
import sys
sys.modules["kleiber"] = None
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer
out, *folders = sys.argv[1:]
ids, mask = torch.load(out)
found = []
for folder in folders:
    model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True).eval()
    features = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    classes = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True, num_labels=4)
    words = AutoTokenizer.from_pretrained(folder)("ACGTTGCAAC")["input_ids"]
    with torch.no_grad():
        logits, hidden = model(ids, attention_mask=mask).logits, features(ids, attention_mask=mask).last_hidden_state
        assert classes(ids, attention_mask=mask, labels=torch.tensor([0, 1, 3])).loss.isfinite()
    found.append((logits, hidden, words))
torch.save(found, out)
"""


@pytest.fixture(scope="module")
def all_made(tmp_path_factory):
    """Of each network a checkpoint of ours with its tokenizer, the network, and what was exported of them."""
    return {architecture: make(tmp_path_factory.mktemp(architecture), architecture) for architecture in ARCHITECTURES}


@pytest.fixture(params=ARCHITECTURES)
def made(request, all_made):
    return all_made[request.param]


def make(folder, architecture):
    from kleiber.model.hub import export_model

    shape = replace(SHAPE, architecture=architecture)
    model = network(shape)
    model.initialise(4)
    with torch.no_grad():
        for parameter in model.parameters():  # no zeros: a bias that is not loaded has to show
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
    weights = dict(model.named_parameters())
    (folder / "ours").mkdir()
    data = safetensors.torch.save(weights, {"position": json.dumps(asdict(shape))})
    (folder / "ours" / "model.safetensors").write_bytes(data)
    train_tokenizer("3mer", np.empty((0, 0), np.uint8)).save(folder / "ours" / "tokenizer.json")
    export_model(folder / "ours", folder / f"{architecture}-exported", folder / "ours" / "tokenizer.json")
    return folder, model.eval()


def expected(model):
    with torch.no_grad():
        return model(IDS, MASK)


def close(a, b):
    real = MASK.bool()
    torch.testing.assert_close(a[real], b[real], atol=1e-5, rtol=0)


def exported(folder):
    return next(folder.glob("*-exported"))


def test_without_kleiber(all_made, tmp_path):
    """One process reads all."""
    torch.save((IDS, MASK), tmp_path / "x.pt")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    folders = [str(exported(folder)) for folder, _ in all_made.values()]
    command = [sys.executable, "-c", WITHOUT_KLEIBER, str(tmp_path / "x.pt"), *folders]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = torch.load(tmp_path / "x.pt", weights_only=True)
    for (folder, model), (logits, hidden, words) in zip(all_made.values(), found, strict=True):
        close(logits, expected(model))
        with torch.no_grad():
            close(hidden, model.bert(IDS, MASK))
        ids = load(folder / "ours" / "tokenizer.json").encode(np.frombuffer(b"ACGTTGCAAC", np.uint8))
        assert words == [1, *ids.tolist(), 2]


def test_with_kleiber_and_saved_again(made, tmp_path):
    from kleiber.model.pretrained import DNABERT2ForMaskedLM, DNABERT2ForSequenceClassification, DNABERT2Model

    folder, model = made
    loaded = DNABERT2ForMaskedLM.from_pretrained(exported(folder)).eval()
    found = loaded(IDS, attention_mask=MASK, labels=IDS)
    close(found.logits, expected(model))
    loss = torch.nn.functional.cross_entropy(found.logits.flatten(0, 1), IDS.flatten())
    assert found.loss.item() == pytest.approx(loss.item())
    assert loaded.cls.predictions.decoder.weight is loaded.bert.embeddings.word_embeddings.weight
    begun = DNABERT2ForMaskedLM(loaded.config)  # as what no file holds is: norms 1, biases 0, and all else drawn
    assert all(p.std() > 0 or p.ndim == 1 for p in begun.parameters())
    loaded.save_pretrained(tmp_path / "again")
    close(DNABERT2ForMaskedLM.from_pretrained(tmp_path / "again").eval()(IDS, MASK).logits, expected(model))
    close(load_model(tmp_path / "again")(IDS, MASK), expected(model))
    assert DNABERT2Model.from_pretrained(tmp_path / "again")(IDS).last_hidden_state.shape == (3, 17, 24)
    classes = DNABERT2ForSequenceClassification.from_pretrained(tmp_path / "again", num_labels=2)
    both = classes.eval()(IDS, attention_mask=MASK).logits
    short = classes(IDS[2:, :5]).logits
    torch.testing.assert_close(both[2:], short, atol=1e-5, rtol=0)


def test_a_published_checkpoint_comes_in(made, tmp_path):
    """A pickled file of weights, with the pooler and the tied matrix that such files have."""
    from kleiber.model.hub import import_model

    _, model = made
    published = tmp_path / "published"
    published.mkdir()
    state = {**model.state_dict(), "bert.pooler.dense.weight": torch.zeros(24, 24)}
    torch.save(state, published / "pytorch_model.bin")
    (published / "config.json").write_text(json.dumps(model.config.to_hub() | {"model_type": "bert"}))
    assert import_model(published, tmp_path / "in") == model.config
    close(load_model(tmp_path / "in")(IDS, MASK), expected(model))
    with pytest.raises(DataError, match="there already"):
        import_model(published, tmp_path / "in")


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("what", ["missing", "unknown", "shape", "untied", "pickle", "damaged", "no config", "empty"])
def test_what_does_not_fit_is_refused(what, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, model = made
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = "bert.encoder.layer.1.mlp.wo.bias"
    match = {
        "missing": f"Missing .1.: {name}",
        "unknown": "unknown .1.: extra",
        "shape": r"wo.bias is \(3,\), and the configuration says \(24,\)",
        "untied": "has them tied",
        "pickle": "more than weights",
        "damaged": "damaged",
        "no config": "does not say its shape",
        "empty": "holds no model.safetensors",
    }[what]
    if what == "missing":
        del state[name]
    if what == "unknown":
        state["extra"] = torch.zeros(1)
    if what == "shape":
        state[name] = torch.zeros(3)
    if what == "untied":
        state["cls.predictions.decoder.weight"] += 1
    if what != "no config":
        (tmp_path / "config.json").write_text(json.dumps(model.config.to_hub()))
    if what == "pickle":
        (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Trap()}, protocol=2))
    elif what == "damaged":
        (tmp_path / "model.safetensors").write_bytes(safetensors.torch.save(state)[:-5])
    elif what != "empty":
        (tmp_path / "model.safetensors").write_bytes(safetensors.torch.save(state))
    with pytest.raises(DataError, match=match):
        load_weights(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_tokenizer_of_another_size(made, tmp_path):
    from kleiber.model.hub import export_model

    folder, _ = made
    train_tokenizer("2mer", np.empty((0, 0), np.uint8)).save(tmp_path / "t.json")
    with pytest.raises(DataError, match=r"25 tokens, and the model of .* 73"):
        export_model(folder / "ours", tmp_path / "out", tmp_path / "t.json")
