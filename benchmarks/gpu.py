"""What a card gives to training: our steps beside plain and other people's ones, and whole runs, in tokens a second.

    python benchmarks/gpu.py [SECTION...] [--out gpu.json] [--toy]

Sections, of two minutes at most on an H100, all when none is named: peak, small (16 and 128 rows a step), stacks (many
runs at once), large, peers, train (end to end, data preparation included), resume, scoring. Rows have 128 tokens, 15 %
of them predicted, of 4,096; bf16 but for the plain step, which is an eager fp32 step with PyTorch's default AdamW.
Times are medians of several stretches. Whatever has been measured is in the JSON file at once, also when a section
fails: an error is the line's result. Where there is no GPU, or with --toy, all is computed at toy size on the
processor: that shows that it runs and nothing else.
"""

from __future__ import annotations

import argparse
import atexit
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

sys.path.pop(0)  # the folder of this file, whose tokenizers.py would stand for the package of that name

import numpy as np
import torch
import torch.nn.functional as F

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.errors import Stopped
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.model.config import ModelConfig, shape_for
from kleiber.model.networks import network
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.tokens.train import WINDOW, train_tokenizer
from kleiber.train.clock import gemm_peak
from kleiber.train.config import Run, TrainConfig
from kleiber.train.devices import Devices
from kleiber.train.evaluate import Evaluation, score
from kleiber.train.loop import train
from kleiber.train.stack import Member, train_stack
from kleiber.train.stackstep import StackStep
from kleiber.train.step import Step

LENGTH, VOCABULARY, SHARE = 128, 4096, 0.15
KINDS = (("dnabert2", "adamw"), ("shortconv", "muon"))
HOLDOUT = ("20:3,500,001-4,000,000",)
SECONDS = 1.0  # of a stretch
STRETCHES = 3


class Bench:
    """Where results go, and how large they are to be."""

    def __init__(self, out: Path, toy: bool):
        self.out, self.toy, self.devices = out, toy, Devices()
        if toy:
            self.devices.device, self.devices.records = torch.device("cpu"), False
        self.device = self.devices.device
        self.lines: list[dict[str, Any]] = []

    def measure(self, section: str, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do one line's work, and write all lines."""
        line: dict[str, Any] = {"section": section, "name": name, "at": round(time.time(), 1)}
        try:
            line |= work()
        except Exception as error:  # one line that fails is a result, and the others follow
            line["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        self.lines.append(line)
        print(json.dumps(line), flush=True)
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "processor, toy size"
        facts = {"device": device, "torch": torch.__version__, "toy": self.toy, "lines": self.lines}
        self.out.write_text(json.dumps(facts, indent=1) + "\n")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds of one call, the device's work included."""
        for _ in range(1 if self.toy else 4):
            work()
        one = self._stretch(work, 1)
        n = 1 if self.toy else max(1, min(1000, round(SECONDS / one)))
        return statistics.median(self._stretch(work, n) for _ in range(1 if self.toy else STRETCHES))

    def _stretch(self, work: Callable[[], object], n: int) -> float:
        self._wait()
        start = time.perf_counter()
        for _ in range(n):
            work()
        self._wait()
        return (time.perf_counter() - start) / n

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def shape(self, size: str, architecture: str = "dnabert2") -> ModelConfig:
        """Return a size of the ladder, or the smallest there is."""
        return shape_for("0.01M" if self.toy else size, VOCABULARY, architecture=architecture)

    def rows(self, rows: int) -> int:
        """Return so many rows, or two."""
        return 2 if self.toy else rows

    def run(self, size: str, kind: tuple[str, str], rows: int, **changes: Any) -> Run:
        """Return a run of one kind; its batch is all that `Step` takes from it."""
        architecture, optimizer = kind
        train = TrainConfig(
            length=LENGTH, batch=self.rows(rows), mask_rate=SHARE, optimizer=optimizer, precision="bf16", eval_rows=2,
            **changes,
        )  # fmt: skip
        return Run(size, self.shape(size, architecture), train, (1,), 1)

    def batch(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return random rows as training has them, pinned where there is a GPU."""
        generator = torch.Generator().manual_seed(1)
        n = self.rows(rows)
        ids = torch.randint(5, VOCABULARY, (n, LENGTH), generator=generator)
        masked = round(SHARE * (LENGTH - 2))
        positions = 1 + torch.rand(n, LENGTH - 2, generator=generator).argsort(1)[:, :masked]
        labels = ids.gather(1, positions)
        tensors = ids, positions, labels, torch.full((n,), 1 / (n * masked))
        return tuple(t.pin_memory() if self.device.type == "cuda" else t for t in tensors)

    def rate(self, run: Run, work: Callable[[], object]) -> dict[str, Any]:
        """Return tokens a second of some step of a run's size, and its share of the peak."""
        seconds = self.seconds(work)
        tokens = run.train.batch * LENGTH
        peak = next((line["bf16"] for line in self.lines if line["section"] == "peak" and "bf16" in line), None)
        mfu = None if peak is None else run.flops_per_step / seconds / peak
        return {"tokens_per_second": tokens / seconds, "n_params": run.model.n_params, "mfu": mfu}


def our_step(bench: Bench, run: Run, attention: str = "auto") -> dict[str, Any]:
    """Measure the step of `kleiber train`: recorded where it is small, else launched kernel by kernel."""
    model = network(run.model)
    model.initialise(1)
    model.use_attention(bench.devices.attention(LENGTH) if attention == "auto" else attention)
    model.to(bench.device)
    step, tensors = Step(model, run, bench.devices), bench.batch(run.train.batch)
    rates = [1e-4] * len(step.optimizers.parts)
    found = bench.rate(run, lambda: step(tensors, rates, 0))
    return {**found, "recorded": step.is_recorded, "compiled": run.train.compile}


def plain_step(bench: Bench, run: Run) -> dict[str, Any]:
    """Measure an eager fp32 step, its loss read each time."""
    model = network(run.model)
    model.initialise(1)
    model.use_attention("sdpa")
    model.to(bench.device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    ids, positions, labels, _ = bench.batch(run.train.batch)

    def step() -> float:
        optimizer.zero_grad()
        logits = model(ids.to(bench.device), rows=positions.to(bench.device))
        loss = F.cross_entropy(logits.flatten(0, 1), labels.to(bench.device).flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return bench.rate(run, step)


def peer_step(bench: Bench, run: Run, kind: str) -> dict[str, Any]:
    """Measure a step of Hugging Face's BERT or ModernBERT of the same width and depth, bf16 and compiled."""
    import transformers

    shape = run.model
    shared = {
        "vocab_size": VOCABULARY, "hidden_size": shape.hidden, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "intermediate_size": shape.intermediate,
        "max_position_embeddings": LENGTH + 2, "pad_token_id": 3, "attn_implementation": "sdpa",
    }  # fmt: skip
    if kind == "bert":
        none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        model: Any = transformers.BertForMaskedLM(transformers.BertConfig(**shared, **none))
    else:
        ends = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
        model = transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(**shared, **ends))
    model.to(bench.device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    forward = model if bench.toy else torch.compile(model)
    ids, positions, labels, _ = (tensor.to(bench.device) for tensor in bench.batch(run.train.batch))
    targets = torch.full_like(ids, -100).scatter(1, positions, labels)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = forward(input_ids=ids, labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    found = bench.rate(run, step)
    return {**found, "n_params": sum(p.numel() for p in model.parameters()), "mfu": None}


def peak(bench: Bench) -> None:
    """The most of bf16 and fp32 matrix products."""
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        bench.measure("peak", name, lambda dtype=dtype, name=name: {name: gemm_peak(bench.device, dtype)})


def small(bench: Bench) -> None:
    """Small models: one run at a time, as recorded and as launched kernel by kernel."""
    for rows in (16, 128):
        for size in ("0.2M", "0.5M", "2M", "5M"):
            for kind in KINDS:
                run = bench.run(size, kind, rows)
                bench.measure("small", f"{size} x {rows} {kind[0]}", lambda run=run: our_step(bench, run))
        run = bench.run("0.5M", KINDS[0], rows)
        bench.measure("small", f"0.5M x {rows} plain fp32", lambda run=run: plain_step(bench, run))


def stacks(bench: Bench) -> None:
    """Many small models at once, 16 rows of each in a step: all of them together."""
    for size, n in (("0.2M", 32), ("0.2M", 64), ("0.5M", 16), ("2M", 8)):
        for kind in KINDS:
            run, n_runs = bench.run(size, kind, 16), 2 if bench.toy else n

            def work(run: Run = run, n: int = n_runs) -> dict[str, Any]:
                model = network(run.model).to(bench.device)
                model.use_attention("matmul")
                step = StackStep(model, [run] * n, bench.devices)
                for i in range(n):
                    model.initialise(i)
                    step.put(i)
                alike = (torch.stack([tensor] * n) for tensor in bench.batch(run.train.batch))
                tensors = tuple(t.pin_memory() if bench.device.type == "cuda" else t for t in alike)
                rates = torch.full((len(step.peaks[0]), n, 1), 1e-4)
                found = bench.rate(run, lambda: step(tensors, rates))
                return {key: n * value if value and key != "n_params" else value for key, value in found.items()} | {
                    "runs": n, "recorded": step.is_recorded,
                }  # fmt: skip

            bench.measure("stacks", f"{n} x {size} {kind[0]}", work)
    bench.measure("stacks", "32 x 0.2M end to end", lambda: whole_stack(bench, "0.2M", 32))


def whole_stack(bench: Bench, size: str, n: int) -> dict[str, Any]:
    """Measure a stack with its data, from the timing that it writes of itself."""
    run, (corpus, tokenizer, evaluation) = whole_run(bench, size, 16, 1500)
    n = 2 if bench.toy else n
    with tempfile.TemporaryDirectory() as folder:
        members = [
            Member(replace(run, seed=seed), corpus.drawn_by(seed), tokenizer, evaluation, Path(folder) / str(seed))
            for seed in range(n)
        ]
        train_stack(members, Path(folder) / "stack", torch.get_num_threads())
        lines = [json.loads(line) for line in (Path(folder) / "stack" / "timing.jsonl").read_text().splitlines()]
    seconds, done = (sum(line[key] for line in lines) for key in ("seconds", "steps"))
    return {"tokens_per_second": n * done * run.train.batch * LENGTH / seconds, "mfu": lines[-1]["mfu"], "runs": n}


def large(bench: Bench) -> None:
    """Large models, compiled."""
    for size, rows in (("15M", 1024), ("117M", 1024), ("230M", 512)):
        for kind in KINDS if size == "15M" else KINDS[:1]:
            run = bench.run(size, kind, rows, compile=not bench.toy)
            bench.measure("large", f"{size} x {rows} {kind[0]}", lambda run=run: our_step(bench, run))


def peers(bench: Bench) -> None:
    """The same sizes as others have them, and the plain step."""
    for size, rows in (("15M", 512), ("117M", 512)):
        run = bench.run(size, KINDS[0], rows)
        bench.measure("peers", f"{size} plain fp32", lambda run=run: plain_step(bench, run))
        for kind in ("bert", "modernbert"):
            bench.measure("peers", f"{size} {kind}", lambda run=run, kind=kind: peer_step(bench, run, kind))


@cache
def genome(toy: bool) -> tuple[Reference, Panel, Tokenizer]:
    """Return the embedded genome, its panel, and a tokenizer."""
    data, folder = files("kleiber") / "data" / "embedded", Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    reference = Reference.build(Path(str(data / "chr20_1-4Mb.GRCh37.fa.gz")), folder / "reference")
    panel = Panel.build(reference, [Path(str(data / "EUR300.chr20_1-4Mb.vcf.gz"))], folder / "panel")
    windows = open_corpus(reference, None, CorpusConfig("reference", WINDOW), 1)
    spec, rows = ("6mer", 1) if toy else (f"bpe{VOCABULARY}", 4000)
    return reference, panel, train_tokenizer(spec, windows.batch(np.arange(rows)))


def whole_run(bench: Bench, size: str, rows: int, steps: int, **changes: Any) -> tuple[Run, list[Any]]:
    """Return a run on windows of 600 haplotypes, and what else `train` takes."""
    reference, panel, tokenizer = genome(bench.toy)
    run = bench.run(size, KINDS[0], rows, **changes)
    n = run.train.row_tokens * tokenizer.max_token_length
    corpus = open_corpus(reference, panel, CorpusConfig("pangenome", n, n, HOLDOUT), 1)
    held = open_corpus(reference, None, CorpusConfig("reference", n, n, HOLDOUT, "heldout"), 1)
    scored = replace(run.train, eval_rows=4 if bench.toy else 1000)
    tokens = (12 if bench.toy else steps) * run.train.batch * LENGTH
    model = replace(run.model, vocab_size=tokenizer.vocab_size)
    return replace(run, model=model, tokens=(tokens,)), [corpus, tokenizer, Evaluation.of(held, tokenizer, scored, 1)]


def whole_runs(bench: Bench) -> None:
    """`kleiber train` end to end, from the timing that it writes of itself."""
    for size, rows, steps in (("0.2M", 128, 2000), ("0.5M", 16, 4000), ("5M", 128, 500), ("15M", 1024, 150)):

        def work(size: str = size, rows: int = rows, steps: int = steps) -> dict[str, Any]:
            run, rest = whole_run(bench, size, rows, steps, compile=size == "15M" and not bench.toy)
            with tempfile.TemporaryDirectory() as folder:
                train(run, *rest, Path(folder) / "run", threads=torch.get_num_threads())
                text = (Path(folder) / "run" / "timing.jsonl").read_text()
            lines = [json.loads(line) for line in text.splitlines()]
            seconds, done = (sum(line[key] for line in lines) for key in ("seconds", "steps"))
            return {"tokens_per_second": done * run.train.batch * LENGTH / seconds, "mfu": lines[-1]["mfu"]}

        bench.measure("train", f"{size} x {rows}", work)


def resume(bench: Bench) -> None:
    """A run that is stopped and goes on ends in the same bytes; fp32 losses are those of the processor."""

    class Stop:
        def __init__(self, step: int):
            self.step = step

        def log(self, values: dict[str, Any], step: int) -> None:
            if step == self.step:
                raise Stopped("stopped by the benchmark")

        def finish(self) -> None:
            pass

    def work() -> dict[str, Any]:
        run, rest = whole_run(bench, "0.5M", 16, 200)
        with tempfile.TemporaryDirectory() as scratch:
            whole, cut = Path(scratch) / "whole", Path(scratch) / "cut"
            train(run, *rest, whole)
            last = run.branches()[-1]
            try:
                train(run, *rest, cut, tracker=Stop((last.start + last.end) // 2))
            except Stopped:
                train(run, *rest, cut)
            same = (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()
        return {"same_bytes": same}

    bench.measure("resume", "0.5M x 16", work)

    def precise() -> dict[str, Any]:
        run = bench.run("0.5M", KINDS[0], 16)
        run = replace(run, train=replace(run.train, precision="fp32"))
        here, losses = Devices(), []
        here.device, here.records = torch.device("cpu"), False
        for devices in (bench.devices, here):
            model = network(run.model)
            model.initialise(1)
            model.to(devices.device)
            step, tensors = Step(model, run, devices), bench.batch(16)
            taken = [float(step(tensors, [1e-4], i)[0]) for i in range(3 if bench.toy else 100)]
            losses.append(taken)
        return {"largest_difference": max(abs(a - b) for a, b in zip(*losses, strict=True))}

    bench.measure("resume", "fp32 beside the processor", precise)


def scoring(bench: Bench) -> None:
    """Held-out scores of 1,000 rows under three mask sets."""

    def work() -> dict[str, Any]:
        run, rest = whole_run(bench, "15M", 128, 1)
        model = network(run.model)
        model.initialise(1)
        model.to(bench.device)
        return {"seconds": bench.seconds(lambda: score(model, rest[2]))}

    bench.measure("scoring", "15M", work)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "peak": peak, "small": small, "stacks": stacks, "large": large, "peers": peers, "train": whole_runs,
    "resume": resume, "scoring": scoring,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    bench = Bench(options.out, options.toy or not torch.cuda.is_available())
    for name in options.sections or SECTIONS:
        start = time.perf_counter()
        SECTIONS[name](bench)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
