"""A plausible finished study, made from a known law: four arms, five sizes, three budgets, logs and fits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl

ARMS = {
    "ref-bpe": ("reference", "bpe1024", 4.5),
    "pan-bpe": ("pangenome", "bpe1024", 4.5),
    "variant-bpe": ("variant", "bpe1024", 4.5),
    "ref-6mer": ("reference", "6mer", 6.0),
}
TWO_ARMS = {arm: ARMS[arm] for arm in ("ref-bpe", "ref-6mer")}
SIZES = {"0.05M": (2, 40), "0.1M": (2, 64), "0.2M": (2, 88), "0.4M": (3, 104), "0.8M": (4, 128)}
TOKENS = (500_000, 1_000_000, 2_000_000)
LAW = {"E": 4.9, "A": 22.0, "B": 60.0, "alpha": 0.42, "beta": 0.40}
SLOTS_PER_STEP = 32 * 126


def law(n: float, d: float, shift: float = 0.0) -> float:
    return LAW["E"] + shift + LAW["A"] * n ** -LAW["alpha"] + LAW["B"] * d ** -LAW["beta"]


def write_study(out: Path, name: str = "first", arms: dict[str, tuple[str, str, float]] = ARMS, seed: int = 3) -> Path:
    """Write a finished study's folder; every number in it follows from `LAW`, `seed` and the arm."""
    rng = np.random.default_rng(seed)
    (out / "fits").mkdir(parents=True)
    (out / "study.toml").write_text(_toml(name, arms), encoding="utf-8")
    rows: list[dict[str, object]] = []
    for shift, (arm, (sampling, tokenizer, bases)) in zip((0.0, 0.012, 0.03, 1.2), arms.items(), strict=False):
        for size, (layers, hidden) in SIZES.items():
            n = round(float(size[:-1]) * 1e6)
            total = n + 1024 * hidden
            run = f"{arm.replace('<', '').replace('>', '')}.{size}"
            drift = rng.normal(0, 0.002)
            _write_run(out / "runs" / run, run, arm, size, n, shift, rng)
            for d in TOKENS:
                loss = law(n, d, shift) + drift + rng.normal(0, 0.003)
                rows.append(
                    {"run": run, "config_hash": "abc123", "arm": arm, "corpus": sampling, "tokenizer": tokenizer}
                    | {"vocab_size": 1024, "bases_per_token": bases, "size": size, "layers": layers, "hidden": hidden}
                    | {"heads": 4, "n_params": total, "n_params_non_embedding": n, "n_effective": n}
                    | {
                        "n_tokens": d,
                        "n_tokens_masked": d // 5,
                        "n_bases": round(d * bases),
                        "n_unique_bases": 2_500_000,
                    }
                    | {"epochs": d * bases / 2.5e6, "batch": 32, "steps": d // SLOTS_PER_STEP, "peak_lr": 3e-3}
                    | {"schedule": "wsd", "seed": 17, "annealed": True, "eval_set": f"held-{tokenizer}", "loss": loss}
                    | {"loss_se": 0.006, "bits_per_base": loss / math.log(2) / bases, "bits_per_base_se": 0.0025}
                    | {"cost_reversed": 0.08, "cost_reversed_se": 0.01 if n > 1e5 else 0.04}
                    | {"cost_shuffled": 0.12, "cost_shuffled_se": 0.01, "cost_complement": 0.001}
                    | {"cost_complement_se": 0.008}
                    | {"accuracy": 0.01, "train_loss": loss, "flops": 6.2 * n * d, "flops_6nd": 6 * n * d}
                    | {"threads": 1, "status": "OK"}
                )
        _write_fits(out, arm, shift)
    pl.DataFrame(rows).write_csv(out / "observations.csv")
    _clusters(rows, rng).write_csv(out / "clusters.csv")
    _dump(
        out / "corpora.json",
        {
            arm: {"strategy": s, "n_unique_bases": 2_500_000, "n_windows": 2_499_000, "coverage": {"mean": 1.0}}
            for arm, (s, _, _) in arms.items()
        },
    )
    _dump(out / "baselines.json", {arm: _baselines(t) for arm, (_, t, _) in arms.items()})
    _dump(
        out / "checklist.json",
        [
            {"check": "at least 5 sizes", "status": "pass", "detail": "5 sizes"},
            {"check": "at least 4 budgets", "status": "warn", "detail": "3 budgets"},
            {"check": "seeds", "status": "fail", "detail": "1 seed <b>only</b>"},
        ],
    )
    _dump(out / "machine.json", {"threads": 1, "dtype": "bf16", "cpu": "a machine"})
    for _, tokenizer, bases in arms.values():
        (out / "tokenizer" / tokenizer).mkdir(parents=True, exist_ok=True)
        known = {"spec": tokenizer, "bases_per_token": bases, "fingerprint": "f00d" * 16}
        _dump(out / "tokenizer" / tokenizer / "manifest.json", known)
    inputs = {"/home/somebody/chr20.fa.gz": {"name": "chr20.fa.gz", "sha256": "00ff", "size": 12}}
    _dump(
        out / "manifest.json",
        {"study": name, "kleiber": "0.1.0", "inputs": inputs},
    )
    return out


def _clusters(rows: list[dict[str, object]], rng: np.random.Generator) -> pl.DataFrame:
    """Ten clusters a model that sum up to its bits per base, most of their spread common to all models."""
    hard = rng.normal(0, 0.05, 10)
    parts = []
    for row in rows:
        bases = rng.integers(1500, 2500, 10)
        bits = row["bits_per_base"] + hard + rng.normal(0, 0.001, 10)
        bits += row["bits_per_base"] - (bits * bases).sum() / bases.sum()
        known = {"run": [row["run"]] * 10, "steps": [row["steps"]] * 10, "contig": ["20"] * 10}
        known |= {"start": [3_500_001 + 50_000 * k for k in range(10)]}
        counts = {"n_tokens": bases // 4, "n_bases": bases, "nats": bits * bases * math.log(2)}
        parts.append(pl.DataFrame(known | counts))
    return pl.concat(parts)


def _toml(name: str, arms: dict[str, tuple[str, str, float]]) -> str:
    lines = [f'{json.dumps(arm)} = {{ sampling = "{s}", tokenizer = "{t}" }}' for arm, (s, t, _) in arms.items()]
    return "\n".join(
        [
            "[study]",
            f"name = {json.dumps(name)}",
            "seed = 17",
            'title = "A study of <b>nothing</b> & noise"',
            'question = "Do more parameters or more data lower the loss?"',
            "[genome]",
            'reference = "embedded"',
            'panel = ["embedded"]',
            'holdout = ["20:3,500,001-4,000,000"]',
            "[arms]",
            *lines,
            "[ladder]",
            f"sizes = {json.dumps(list(SIZES))}",
            f"tokens = {json.dumps([float(d) for d in TOKENS])}",
            "",
        ]
    )


def _write_run(folder: Path, run: str, arm: str, size: str, n: int, shift: float, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    steps = TOKENS[-1] // SLOTS_PER_STEP
    lines = []
    for step in range(1, steps + 1, 3):
        d = step * SLOTS_PER_STEP
        loss = min(6.9 + shift, law(n, d, shift) + 0.08) + rng.normal(0, 0.02)
        lines.append(_step("trunk", step, loss, 3e-3 * min(1, step / 20), n))
    for d in TOKENS:
        last = d // SLOTS_PER_STEP
        for step in range(round(0.85 * last), last + 1, 3):
            part = (step - 0.85 * last) / (0.15 * last)
            loss = law(n, step * SLOTS_PER_STEP, shift) + 0.08 * (1 - part) + rng.normal(0, 0.02)
            lines.append(_step(f"cooldown-{d}", step, loss, 3e-3 * (1 - max(0, part) ** 0.5), n))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _dump(folder / "manifest.json", {"run": run, "arm": arm, "size": size, "seed": 17})


def _step(phase: str, step: int, loss: float, lr: float, n: int) -> dict[str, object]:
    d = step * SLOTS_PER_STEP
    known = {"phase": phase, "step": step, "loss": loss, "lr": lr, "grad_norm": 0.5}
    return known | {"n_tokens": d, "n_bases": 5 * d, "flops": 6.2 * n * d}


def _write_fits(out: Path, arm: str, shift: float) -> None:
    alpha, beta = LAW["alpha"], LAW["beta"]
    a = beta / (alpha + beta)
    settings = {"columns": {"N": "n_params_non_embedding"}}
    common = {
        "schema": 1,
        "objective": 1e-4,
        "n": 15,
        "warnings": ["three budgets only"],
        "settings": settings,
    }
    estimates = {**LAW, "E": LAW["E"] + shift, "a": a, "b": 1 - a}
    intervals = {"a": [a - 0.08, a + 0.09], "b": [1 - a - 0.09, 1 - a + 0.08], "alpha": [0.3, 0.55], "E": [4.2, 5.2]}
    intervals |= {"beta": [0.31, 0.48]}
    known = {"E": False, "A": False, "B": False, "alpha": True, "beta": True, "a": True}
    _dump(
        out / "fits" / f"{arm}.parametric.json",
        {
            **common,
            "method": "parametric",
            "form": "chinchilla",
            "status": "CONVERGED",
            "estimates": estimates,
            "intervals": intervals,
            "identified": known,
            "usable": True,
            "witnesses": [
                {"name": "design", "agrees": True, "says": "5 sizes and 4 amounts of data", "settles": ""},
                {"name": "IsoFLOP", "agrees": None, "says": "2 of 7 valleys have both sides", "settles": ""},
            ],
            "settings": settings | {"starts": 65, "starts_at_optimum": 0.8, "second_basin": 1.2e-4},
            "holdouts": [
                {"left_out": "largest N", "points": 3, "error": 0.01, "error_in_noise": 2.0}
                | {"nearest": 0.03, "line": 0.02},
                {"left_out": "largest C", "points": 2, "error": None, "error_in_noise": None, "nearest": 0.03},
            ],
        },
    )
    cells = [
        {
            "n": n,
            "d": d,
            "by_n": 0.05,
            "by_d": by_d,
            "by_n_interval": [0.04, 0.06],
            "by_d_interval": [by_d - 0.01, by_d + 0.01],
        }
        for n in (7e4, 3e5)
        for d, by_d in ((7e5, 0.08), (1.4e6, 0.045))
    ]
    _dump(
        out / "fits" / f"{arm}.elasticities.json",
        {
            **common,
            "method": "elasticities",
            "form": "none",
            "status": "CONVERGED",
            "estimates": {"by_n": 0.05, "by_d": 0.045},
            "settings": {"cells": cells},
            "optima": [
                {"flops": 6 * 3e5 * 1.3e6, "n": 3e5, "d": 1.3e6},
                {"flops": 6 * 7e4 * 1.2e6, "n": 7e4, "d": 1.2e6},
            ],
        },
    )
    optima = [{"flops": c, "n": 0.02 * c**a * 1.2, "d": c ** (1 - a) * 7} for c in (1e12, 3e12, 6e12)]
    for method, value, is_usable in (("envelope", a + 0.05, True), ("gradient-rule", 0.97, False)):
        numbers = {"estimates": {"a": value, "b": 1 - value}, "intervals": {"a": [value - 0.1, value + 0.1]}}
        refused = {"estimates": {}, "intervals": {}, "refused": {"a": {"estimate": value, "interval": None}}}
        _dump(
            out / "fits" / f"{arm}.{method}.json",
            {
                **common,
                "method": method,
                "status": "CONVERGED",
                **(numbers if is_usable else refused),
                "identified": {"a": is_usable},
                "usable": is_usable,
                "optima": optima,
            },
        )
    _dump(
        out / "fits" / f"{arm}.isoflop.json",
        {
            **common,
            "method": "isoflop",
            "status": "REFUSED",
            "estimates": {},
            "intervals": {},
            "identified": {},
            "warnings": ["two bracketed budgets, three are needed"],
        },
    )


def refuse(path: Path, n_witnesses: int = 1, **values: object) -> None:
    """Let witnesses speak against a fit, whose exponent then is no result."""
    names = ("design", "sizes", "cuts", "hold-outs", "forms")[:n_witnesses]
    against = [
        {"name": name, "agrees": False, "says": f"{name}: a would be 0.4928", "settles": f"more runs for {name}"}
        | {"a": 0.4928, "interval": None}
        for name in names
    ]
    against[0] |= {"says": "3 sizes, where 5 are needed", "a": None}
    raw = json.loads(path.read_text())
    for key in ("a", "b"):
        raw["refused"] = {**raw.get("refused", {}), key: {"estimate": raw["estimates"].pop(key), "interval": None}}
        raw["intervals"].pop(key)
    raw |= {"usable": False, "identified": {"a": False}, "witnesses": against}
    _dump(path, raw | values)


def _baselines(tokenizer: str) -> dict[str, dict[str, float]]:
    values = {
        "uniform": 2.0,
        "unigram": 1.967 if tokenizer == "bpe1024" else 1.96,
        "markov-1": 1.949,
        "markov-3": 1.922,
        "markov-5": 1.881,
    }
    return {name: {"bits_per_base": bits, "se": 0.002} for name, bits in values.items()}


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
