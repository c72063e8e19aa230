"""What each part of the network that reads order, and of its recipe, earns: each left out or exchanged, in pairs.

    python benchmarks/recipe.py FASTA [--out out/recipe] [--only recipe no-convolution] [--workers 2]

Two sizes, two budgets from one trunk, on a whole chromosome without the stretch that is scored (steps of 16 rows of 128
tokens, BPE of 1,024). Each variant is trained at its own rates: AdamW's and then Muon's are doubled and halved as long
as that lowers the mean of both budgets, with a seed that is then put aside; the comparison is of other seeds, which the
rates were not chosen by. A difference's standard error has two parts: clusters of held-out DNA, in pairs and over all
seeds, and the luck of a seed: the median over the variants of a size and budget, or a variant's own where that is more
(some are at the mercy of it, and would widen the intervals of all in a mean). Variants that earn no place are written
down here and nowhere else; their own few parameters are not counted. A run that is there is not trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from math import sqrt
from multiprocessing import get_context
from operator import sub
from statistics import mean, median, variance
from typing import Any

import torch
import torch.nn.functional as F
from chromosome import Chromosome, Trained, arguments, pooled
from scipy.stats import chi2
from torch import Tensor, nn

from kleiber.model.architectures import ARCHITECTURES
from kleiber.model.attention import Attend
from kleiber.model.config import ModelConfig, shape_for
from kleiber.model.dnabert2 import Block, Embeddings
from kleiber.model.networks import NETWORKS
from kleiber.model.shortconv import ConvolvedBlock, ShortConv, ShortConvBert, ShortConvolution
from kleiber.scaling.pairs import bits_between
from kleiber.scaling.quantiles import student
from kleiber.train.config import TrainConfig

SIZES = ("0.033M", "0.2M")
BUDGETS = (0.7e6, 1.4e6)
TUNED, COMPARED = 17, (18, 19, 20)  # seeds
RECIPE = TrainConfig(batch=16, eval_rows=1000, eval_masks=1)
STEP = 2.0  # a rate's
THETA = 100.0  # of rotated positions
FEW = 4  # variants, below which none is usual
EFFICIENCY = 0.5  # of a median of ten variances beside their mean, where each has two degrees of freedom


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class PlainBlock(ConvolvedBlock):
    """A block without a convolution."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.convolution = Nothing()


class PlainBert(ShortConvBert):
    block = PlainBlock


class NoConvolution(ShortConv):
    body = PlainBert


class ConvolvedEmbeddings(Embeddings):
    """Embeddings, and a convolution over them."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.convolution = ShortConvolution(config)

    def forward(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        x = super().forward(ids, types)
        return x + self.convolution(x)


class EverywhereBert(ShortConvBert):
    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.embeddings = ConvolvedEmbeddings(config)


class Everywhere(ShortConv):
    """A convolution over the embeddings beside those of the blocks."""

    body = EverywhereBert


class AtEmbeddingsBert(EverywhereBert):
    block = PlainBlock


class AtEmbeddings(ShortConv):
    """One convolution, over the embeddings, in place of those of the blocks."""

    body = AtEmbeddingsBert


class WiderConvolution(ShortConvolution):
    """The same over five tokens."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.weight = nn.Parameter(torch.zeros(5, config.hidden))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        around = F.pad(x, (0, 0, 2, 2))
        return sum(around[:, at : at + length] * weight for at, weight in enumerate(self.weight.unbind()))


class WiderBlock(ConvolvedBlock):
    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.convolution = WiderConvolution(config)


class WiderBert(ShortConvBert):
    block = WiderBlock


class Wider(ShortConv):
    body = WiderBert


class PostNormBlock(ConvolvedBlock):
    """Norms behind attention and feed-forward, as DNABERT-2 has them."""

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        return Block.forward(self, x + self.convolution(x), attend, rows)


class PostNormBert(ShortConvBert):
    block = PostNormBlock

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.norm = nn.Identity()


class PostNorm(ShortConv):
    body = PostNormBert


class NormedBlock(ConvolvedBlock):
    """Queries and keys of every head at one length, times a weight a dimension."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        width = config.hidden // config.heads
        self.query_norm, self.key_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        def normed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attend(self.query_norm(q.float()), self.key_norm(k.float()), v)

        return super().forward(x, normed, rows, real)


class NormedBert(ShortConvBert):
    block = NormedBlock


class QKNorm(ShortConv):
    body = NormedBert


def rotated(x: Tensor, at: Tensor) -> Tensor:
    """Rotate pairs of dimensions of x (B, h, K, d) by angles that grow with the positions `at` (1 or B, K)."""
    half = x.shape[-1] // 2
    angle = at[:, None, :, None] * THETA ** (-torch.arange(half) / half)
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half : 2 * half]
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine, x[..., 2 * half :]], -1)


class RotatedBlock(ConvolvedBlock):
    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None, real: Tensor | None = None) -> Tensor:
        every = torch.arange(x.shape[1])[None]
        asked = every if rows is None else rows
        return super().forward(x, lambda q, k, v: attend(rotated(q, asked), rotated(k, every), v), rows, real)


class RotatedBert(ShortConvBert):
    block = RotatedBlock

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.encoder.slopes.zero_()  # no ALiBi


class Rotated(ShortConv):
    body = RotatedBert


class UniformBias(ShortConv):
    """The decoder's bias begins at 0."""

    def initialise(self, seed: int, frequencies: Callable[[], Any] | None = None) -> None:
        super().initialise(seed)


class TypedBert(ShortConvBert):
    """With the vector of a type that BERT adds to every token."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.embeddings.token_type_embeddings = nn.Embedding(2, config.hidden)


class Typed(ShortConv):
    body = TypedBert


@dataclass(frozen=True)
class Variant:
    """What is trained, and in words how it differs from the recipe."""

    network: type[ShortConv]
    words: str
    optimizer: str = "muon"


VARIANTS = {
    "recipe": Variant(ShortConv, "the recipe"),
    "no-convolution": Variant(NoConvolution, "no convolutions"),
    "adamw": Variant(ShortConv, "AdamW alone", "adamw"),
    "post-norm": Variant(PostNorm, "norms behind attention and feed-forward"),
    "uniform-bias": Variant(UniformBias, "decoder bias begins at 0"),
    "wider": Variant(Wider, "convolutions over five tokens"),
    "at-embeddings": Variant(AtEmbeddings, "one convolution, over the embeddings"),
    "everywhere": Variant(Everywhere, "a convolution over the embeddings, too"),
    "qk-norm": Variant(QKNorm, "queries and keys normed"),
    "rotated": Variant(Rotated, "rotated positions (theta 100) for ALiBi"),
    "typed": Variant(Typed, "the vector of a token's type"),
}
for _name, _variant in VARIANTS.items():
    NETWORKS[_name] = _variant.network
    ARCHITECTURES[_name] = replace(ARCHITECTURES["shortconv"], about=f"A variant, {_name},")


@dataclass(frozen=True)
class Rates:
    """Factors on the recipe's rates."""

    adamw: float = 1.0
    muon: float = 1.0

    def __str__(self) -> str:
        return f"{self.adamw:g}x{self.muon:g}"


@dataclass(frozen=True)
class Tuned:
    """A variant at one size: its best rates and what it reads at them, by seed and budget."""

    name: str
    size: str
    rates: Rates
    models: dict[int, list[Trained]]


def train_one(chromosome: Chromosome, name: str, size: str, rates: Rates, seed: int) -> list[Trained]:
    """Train one run of a variant; a model a budget."""
    variant = VARIANTS[name]
    shape = replace(shape_for(size, chromosome.tokenizer.vocab_size, architecture="shortconv"), architecture=name)
    recipe = replace(
        chromosome.recipe,
        optimizer=variant.optimizer,
    ).times_lr(rates.adamw, rates.muon)
    start = time.perf_counter()
    models = chromosome.train(f"{name}.{size}.{rates}.{seed}", shape, recipe, BUDGETS, seed)
    bits = " ".join(f"{model.bits:.4f}" for model in models)
    print(
        f"{name:<15}{size:>6}  rates {rates!s:<8} seed {seed}  {bits}  {time.perf_counter() - start:.0f} s", flush=True
    )
    return models


def tuned(chromosome: Chromosome, name: str, size: str) -> Tuned:
    """Find a variant's rates at one size, and train it at them with the seeds that are compared."""
    tried: dict[Rates, float] = {}

    def loss(rates: Rates) -> float:
        if rates not in tried:
            models = train_one(chromosome, name, size, rates, TUNED)
            tried[rates] = mean(model.bits for model in models) if len(models) == len(BUDGETS) else float("inf")
        return tried[rates]

    best = Rates()
    for rate in ("adamw", "muon") if VARIANTS[name].optimizer == "muon" else ("adamw",):
        for factor in (STEP, 1 / STEP):
            while loss(further := replace(best, **{rate: getattr(best, rate) * factor})) < loss(best):
                best = further
    models = {seed: train_one(chromosome, name, size, best, seed) for seed in COMPARED}
    return Tuned(name, size, best, models)


@dataclass(frozen=True)
class Luck:
    """The variance of a difference between two seeds' models: a variant's own, and what is usual."""

    own: dict[str, float]

    def of(self, name: str) -> tuple[float, float]:
        """Return a variant's variance, the usual or its own where that is more, and its degrees of freedom."""
        each = len(COMPARED) - 1
        if len(self.own) < FEW:
            return self.own[name], each
        usual = median(self.own.values()) * each / float(chi2.median(each))
        return max((usual, EFFICIENCY * len(self.own) * each), (self.own[name], each))


def table(found: list[Tuned]) -> list[dict[str, Any]]:
    """Compare each variant with the recipe of its size, by budget; intervals are of one difference each."""
    rows = []
    for size, (at, budget) in product(SIZES, enumerate(BUDGETS)):
        models = {one.name: [one.models[seed][at] for seed in COMPARED] for one in found if one.size == size}
        bits = {name: [model.bits for model in of] for name, of in models.items()}
        base = models.pop("recipe")
        luck = Luck({name: variance(map(sub, bits[name], bits["recipe"])) for name in models})
        for one in (one for one in found if one.size == size):
            row = {"variant": one.name, "size": size, "tokens": round(budget), "rates": str(one.rates)}
            row["bits"] = mean(bits[one.name])
            if one.name in models:
                clusters = bits_between(pooled(models[one.name]), pooled(base))
                of_seeds, degrees = luck.of(one.name)
                error = sqrt(clusters.se**2 + of_seeds / len(COMPARED))
                half = student(min(degrees, clusters.n - 1)) * error
                gap = row["bits"] - mean(bits["recipe"])
                row |= {"difference": gap, "low": gap - half, "high": gap + half}
            rows.append(row | {"words": VARIANTS[one.name].words})
    return rows


def main() -> None:
    parser = arguments("out/recipe")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    options = parser.parse_args()
    chromosome = Chromosome.prepare(options.fasta, options.holdout, options.out, RECIPE)
    names = list(dict.fromkeys(["recipe", *options.only]))
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        asked = [pool.submit(tuned, chromosome, name, size) for name in names for size in reversed(SIZES)]
        found = [each.result() for each in asked]
    whole = [one for one in found if all(len(models) == len(BUDGETS) for models in one.models.values())]
    for one in (one for one in found if one not in whole):
        print(f"{one.name} {one.size}: a run diverged at its best rates, {one.rates}; left out")
    rows = table(whole)
    for size in SIZES:
        print(f"\n{size}, bits per base at {' and '.join(f'{b / 1e6:g}M' for b in BUDGETS)} tokens")
        for name in names:
            mine = [row for row in rows if (row["variant"], row["size"]) == (name, size)]
            cells = [
                f"{row['bits']:.4f}"
                + (f" {row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})" if "low" in row else "")
                for row in mine
            ]
            if mine:
                print(f"{mine[0]['words']:<42} rates x {mine[0]['rates']:<7} {' | '.join(cells)}")
    (options.out / "recipe.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
