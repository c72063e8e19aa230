"""The original study's recipe, by hand: its rows, its coins, its mean of means, its schedule."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.errors import ConfigError
from kleiber.model.config import shape_for
from kleiber.model.dnabert2 import DNABERT2
from kleiber.tokens.original import OriginalKmerTokenizer
from kleiber.tokens.train import train_tokenizer
from kleiber.train import loop
from kleiber.train.config import Run, TrainConfig
from kleiber.train.evaluate import Evaluation
from kleiber.train.optimizers import Optimizers
from kleiber.train.original import IGNORED, OriginalBatches, original_lr

CLS, SEP, PAD, MASK = 1, 2, 3, 4
TRAIN = TrainConfig(
    length=64, batch=8, micro_batch=2, mask_only=False, schedule="linear", warmup=0.05, weight_decay=1e-5, beta2=0.999,
    dropout=0.1, precision="fp32", eval_rows=20, original=True, optimizer="adamw",
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(embedded):
    return open_corpus(embedded[0], None, CorpusConfig("reference", 150, holdout=("20:3,900,001-4,000,000",)), 1)


@pytest.fixture(scope="module", params=["bpe", "6mer"])
def tokenizer(request, windows):
    return OriginalKmerTokenizer() if request.param == "6mer" else train_tokenizer("bpe64", windows[:500])


def test_rows_are_cut_or_padded(corpus, tokenizer):
    """150 bases are about 60 BPE tokens, so that some rows are cut and some padded, and 25 6-mers, all padded."""
    batches = OriginalBatches(corpus, tokenizer, replace(TRAIN, batch=256, mask_rate=1e-12), 5)
    batch = batches[3]
    windows = corpus.batch(np.arange(768, 1024))
    n_bases, kinds = 0, set()
    for i, window in enumerate(windows):
        ids = [CLS, *tokenizer.encode(window), SEP]
        expected = [*ids[:63], SEP] if len(ids) > 64 else ids + [PAD] * (64 - len(ids))
        kinds.add(np.sign(len(ids) - 64))
        assert batch.inputs[i].tolist() == expected
        assert batch.padding[i].tolist() == [int(token != PAD) for token in expected]
        n_bases += sum(tokenizer.token_lengths[token] for token in expected)
    assert batch.n_bases == n_bases
    assert kinds >= ({-1} if isinstance(tokenizer, OriginalKmerTokenizer) else {-1, 1})


def test_every_token_has_a_coin_of_its_own(corpus, tokenizer):
    train = replace(TRAIN, batch=1024, micro_batch=64, mask_rate=0.15)
    whole = OriginalBatches(corpus, tokenizer, replace(train, mask_rate=1e-12), 5)[0].inputs
    batch = OriginalBatches(corpus, tokenizer, train, 5)[0]
    real = batch.labels != IGNORED
    at = np.arange(1024)[:, None], batch.positions
    assert (whole[at] == batch.labels)[real].all()
    assert not np.isin(batch.labels[real], (CLS, SEP, PAD, MASK)).any()
    n = (whole > MASK).sum()
    assert real.sum() / n == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / n))
    assert real.sum(1).std() > 1
    shown = batch.inputs[at][real]
    shares = [(shown == MASK).mean(), (shown == batch.labels[real]).mean()]
    assert shares[0] == pytest.approx(0.8, abs=0.015)
    assert shares[1] == pytest.approx(0.1, abs=0.015)
    changed = whole != batch.inputs
    assert not (changed & ~_targets(batch)).any()


def _targets(batch):
    mask = np.zeros(batch.inputs.shape, bool)
    for row, at, label in zip(mask, batch.positions, batch.labels, strict=True):
        row[at[label != IGNORED]] = True
    return mask


def test_the_loss_is_the_mean_of_the_micro_batches_means(corpus, tokenizer):
    batch = OriginalBatches(corpus, tokenizer, TRAIN, 5)[0]
    nats = np.random.default_rng(1).random(batch.labels.shape) * (batch.labels != IGNORED)
    means = [nats[i : i + 2].sum() / (batch.labels[i : i + 2] != IGNORED).sum() for i in range(0, TRAIN.batch, 2)]
    assert (nats.sum(1) * batch.weights).sum() == pytest.approx(np.mean(means), rel=1e-6)


def test_an_unknown_base_is_silently_no_target(embedded, windows):
    class WithN:
        config = CorpusConfig("reference", 150)

        def batch(self, indices):
            rows = windows[: len(indices), :150].copy()
            rows[:, ::3] = ord("N")
            return rows

    tokenizer = train_tokenizer("nucleotide", windows[:10])
    batch = OriginalBatches(WithN(), tokenizer, replace(TRAIN, mask_rate=0.5), 5)[0]
    assert not (batch.labels == 0).any()


def test_one_step_is_that_of_plain_torch(corpus, tokenizer, embedded, tmp_path):
    """The first step's loss and gradient norm, computed as a plain script would; AdamW decays everything, unclipped."""
    heldout = open_corpus(
        embedded[0], None, CorpusConfig("reference", 800, holdout=("20:3,900,001-4,000,000",), split="heldout"), 1
    )
    train = replace(TRAIN, dropout=0.0, clip=1e-9)
    run = Run("o", shape_for("0.01M", tokenizer.vocab_size), train, (4 * 8 * 64,), 5)
    evaluation = Evaluation.of(heldout, train_tokenizer("nucleotide", np.empty((0, 0), np.uint8)), train, 1)
    evaluation = replace(evaluation, ids=np.clip(evaluation.ids, 0, tokenizer.vocab_size - 1))
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    model = DNABERT2(run.model)
    model.initialise(5)
    batch = OriginalBatches(corpus, tokenizer, train, 5)[0]
    losses = []
    for i in range(0, 8, 2):
        labels = torch.full((2, 64), IGNORED)
        labels[torch.arange(2)[:, None], torch.from_numpy(batch.positions[i : i + 2])] = torch.from_numpy(
            batch.labels[i : i + 2]
        )
        logits = model(torch.from_numpy(batch.inputs[i : i + 2]), torch.from_numpy(batch.padding[i : i + 2]))
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        (loss / 4).backward()
        losses.append(loss.item())
    assert lines[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item()
    assert lines[0]["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert lines[0]["loss"] != lines[1]["loss"]
    (optimizer,) = Optimizers(model, run).parts
    assert [group["weight_decay"] for group in optimizer.param_groups if group["params"]] == [1e-5]


@pytest.mark.filterwarnings("ignore:Detected call of")  # a scheduler that goes on between optimizer steps
def test_the_schedule_counts_micro_batches():
    """Against torch's own lambda scheduler, stepped after every micro-batch."""
    steps, each = 40, 4
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 2e-4)
    total, warmup = steps * each, round(0.05 * steps * each)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: s / warmup if s < warmup else max(0.0, (total - s) / (total - warmup))
    )
    for step in range(steps):
        for micro in range(each):
            if micro == each - 1:
                assert original_lr(TRAIN, 2e-4, steps, step) == pytest.approx(optimizer.param_groups[0]["lr"])
                optimizer.step()
            scheduler.step()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schedule": "wsd"}, "schedule"),
        ({"mask_only": True}, "mask_only"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"micro_batch": 3}, "micro_batch"),
    ],
)
def test_what_the_recipe_fixes(change, says):
    with pytest.raises(ConfigError, match=says):
        replace(TRAIN, **change)
