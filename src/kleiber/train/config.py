"""What a training run is, in plain numbers; no torch, so that planning and reporting need none.

One run serves several budgets of data: a trunk at constant learning rate, from which each budget branches off and
cools down (WSD: Hu et al. 2024, arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392). Every budget is annealed, at
a third of the cost of separate runs. Rejected: cosine runs per budget, and un-annealed intermediate losses, which are
no observations of L(N, D). Linear and cosine schedules are there for recipes that have them: each budget then trains
from the first step.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import sqrt
from typing import Self

from kleiber.errors import ConfigError
from kleiber.model.config import BACKENDS, ModelConfig

__all__ = ["OPTIMIZERS", "ORIGINAL_WINDOW", "PRECISIONS", "Branch", "Optimizer", "Run", "TrainConfig", "alone_by"]

PRECISIONS = ("fp32", "bf16")

RATED, RATED_STEP = 1.3e5, 16 * 128  # non-embedding parameters, and tokens in a step: what rates are given at

ORIGINAL_WINDOW = 700  # bases


@dataclass(frozen=True)
class Optimizer:
    """What ``[train] optimizer`` names; its peak rates grow with the root of a step's tokens.

    Attributes
    ----------
    rate
        AdamW's at `RATED` parameters and `RATED_STEP` tokens: of all that it changes.
    exponent
        How that changes with the parameters: as N^exponent.
    matrices
        ``"module:Class"`` of what changes the hidden matrices (a `kleiber.train.optimizers.MatrixOptimizer`), which
        leaves everything else to AdamW; empty where AdamW changes all.
    matrices_rate
        Its own at `RATED_STEP` tokens and every size.
    """

    rate: float
    exponent: float
    matrices: str = ""
    matrices_rate: float = 0.0


OPTIMIZERS = {
    "muon": Optimizer(0.008, -0.1, "kleiber.train.optimizers:Muon", 0.0075),
    "adamw": Optimizer(0.0018, -0.2),  # as high as DNABERT-2 takes; shortconv takes three times as much
}
"""The one place where an optimizer is added (see "Add a part" of the how-tos); rates are from the notebook."""


@dataclass(frozen=True)
class TrainConfig:
    """``[train]``: how every model of a study is trained.

    Attributes
    ----------
    length
        Tokens in a row, [CLS] and [SEP] included.
    batch
        Rows in an optimizer step.
    micro_batch
        Rows computed at once, on each device; 0 for the whole batch. Changes memory and speed, not the loss.
    mask_rate
        Share of a row's tokens that are predicted; the number per row is fixed.
    mask_only
        True replaces every predicted token by [MASK]; False does so for 80 %, puts a random token for 10 % and keeps
        10 % (BERT's mix).
    optimizer
        ``"muon"`` on the hidden matrices and AdamW on everything else; or ``"adamw"`` on all.
    muon_lr
        The peak learning rate of Muon, or of what else changes the hidden matrices, at every size; 0 for the rule that
        was measured.
    momentum
        Muon's memory of gradients.
    lr
        AdamW's peak learning rate at `lr_size` parameters, times (N / lr_size)^lr_exponent elsewhere; 0 for the rule
        that was measured with the optimizer, which heeds the tokens in a step, too.
    lr_size
        Non-embedding parameters at which the rate is `lr`.
    lr_exponent
        How `lr` changes with the size; 0, one rate for all sizes, unless said.
    schedule
        ``"wsd"`` (constant, then a cooldown), ``"linear"`` or ``"cosine"`` (falling to zero from the warm-up on).
    warmup
        Share of the steps over which the rate rises linearly: of the smallest budget's with WSD, else of each budget's.
    cooldown
        Share of each budget's steps over which the rate of WSD falls to zero as 1 - sqrt.
    weight_decay
        On matrices only.
    beta1
        AdamW's memory of gradients.
    beta2
        AdamW's memory of squared gradients.
    epsilon
        What AdamW adds to the root of the latter.
    clip
        The largest gradient norm.
    dropout
        0 by default: at these budgets models are short of capacity and data, not over-fitted.
    precision
        ``"fp32"``, ``"bf16"`` (autocast), or ``"auto"``: bf16 where a matrix product is at least 1.5 times as fast in
        it. Measured once, when a run or a study begins, and kept.
    eval_rate
        Share of a held-out row's tokens in one mask set, all of them [MASK]; the same for every model, however trained.
    eval_masks
        Disjoint mask sets under which each held-out row is scored.
    eval_rows
        Held-out rows at most, spread evenly over the held-out territory.
    attention
        ``"matmul"``, ``"sdpa"`` or ``"flex"``; ``"auto"`` is the fastest here: measured once by a study, and kept.
    compile
        Whether the network is compiled (`torch.compile`): faster after a minute or so.
    original
        The recipe of the original study to the letter, for reproduction: windows of 700 bases cut or padded to a row,
        each token masked by a coin of its own, the mean of the micro-batches' means as the loss, weight decay on
        everything, no clipping, and a linear schedule that counts micro-batches.
    """

    length: int = 128
    batch: int = 32
    micro_batch: int = 0
    mask_rate: float = 0.4
    mask_only: bool = True
    optimizer: str = "muon"
    muon_lr: float = 0.0
    momentum: float = 0.95
    lr: float = 0.0
    lr_size: float = RATED
    lr_exponent: float = 0.0
    schedule: str = "wsd"
    warmup: float = 0.2
    cooldown: float = 0.2
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    clip: float = 1.0
    dropout: float = 0.0
    precision: str = "auto"
    eval_rate: float = 0.15
    eval_masks: int = 3
    eval_rows: int = 2000
    attention: str = "auto"
    compile: bool = False
    original: bool = False

    def __post_init__(self) -> None:
        def check(key: str, holds: bool, wanted: str) -> None:
            if not holds:
                raise ConfigError(f"[train] {key} = {getattr(self, key)!r} cannot be: it must be {wanted}.")

        check("length", 8 <= self.length <= 65_536, "8 to 65,536 tokens")
        check("batch", 1 <= self.batch <= 1 << 24, "1 to 16,777,216 rows")
        check("micro_batch", 0 <= self.micro_batch <= self.batch, "0, or a number of rows up to the batch's")
        check("schedule", self.schedule in ("wsd", "linear", "cosine"), '"wsd", "linear" or "cosine"')
        check("mask_rate", 0 < self.mask_rate <= 0.5, "above 0 and at most 0.5")
        check("optimizer", self.optimizer in OPTIMIZERS, " or ".join(f'"{name}"' for name in OPTIMIZERS))
        check("muon_lr", 0 <= self.muon_lr < 1, "above 0 and below 1, or 0")
        check("momentum", 0 <= self.momentum < 1, "from 0 to below 1")
        check("lr", 0 <= self.lr < 1, "above 0 and below 1, or 0")
        check("lr_size", 1 <= self.lr_size <= 1e15, "1 to 1e15 parameters")
        check("lr_exponent", -2 < self.lr_exponent < 2, "an exponent between -2 and 2")
        if not self.lr:
            check("lr_size", self.lr_size == RATED, f"{RATED:g} where lr, which it is the size of, is not given")
            check("lr_exponent", self.lr_exponent == 0, "0 where lr, which it changes, is not given")
        check("warmup", 0 <= self.warmup < 1, "a share from 0 to below 1")
        check("cooldown", 0 < self.cooldown < 1, "a share between 0 and 1")
        check("weight_decay", 0 <= self.weight_decay < 1, "from 0 to below 1")
        check("beta1", 0 <= self.beta1 < 1, "from 0 to below 1")
        check("beta2", 0 <= self.beta2 < 1, "from 0 to below 1")
        check("epsilon", 0 < self.epsilon < 1, "above 0 and below 1")
        check("clip", 0 < self.clip <= 1e9, "above 0 and at most 1e9")
        check("dropout", 0 <= self.dropout < 1, "from 0 to below 1")
        check("precision", self.precision in ("auto", *PRECISIONS), '"auto", "fp32" or "bf16"')
        check("eval_rate", 0.001 <= self.eval_rate <= 0.5, "from 0.001 to 0.5")
        check("eval_masks", 1 <= self.eval_masks <= int(1 / self.eval_rate), "at least 1 and at most 1 / eval_rate")
        check("eval_rows", 2 <= self.eval_rows <= 1 << 31, "2 to 2^31 rows")
        check("attention", self.attention in ("auto", *BACKENDS), f"auto, {', '.join(BACKENDS)}")
        if self.original:
            check("schedule", self.schedule == "linear", '"linear" where original = true')
            check("optimizer", self.optimizer == "adamw", '"adamw" where original = true')
            check("mask_only", not self.mask_only, "false where original = true")
            divides = self.micro_batch > 0 and self.batch % self.micro_batch == 0
            check("micro_batch", divides, f"a divisor of the {self.batch} rows of a step where original = true")

    @property
    def has_trunk(self) -> bool:
        """Whether budgets branch off one trunk, trained at a constant rate; else each has a run of its own."""
        return self.schedule == "wsd"

    @property
    def row_tokens(self) -> int:
        """Tokens of DNA in a row: all but [CLS] and [SEP]."""
        return self.length - 2

    @property
    def n_masked(self) -> int:
        """Predicted tokens in a row."""
        return max(1, round(self.mask_rate * self.row_tokens))

    @property
    def n_scored(self) -> int:
        """Tokens scored in a held-out row under one mask set."""
        return max(1, round(self.eval_rate * self.row_tokens))

    @property
    def base_lr(self) -> float:
        """AdamW's peak learning rate at `lr_size` parameters."""
        return self.lr or OPTIMIZERS[self.optimizer].rate * self._growth

    @property
    def base_exponent(self) -> float:
        """How AdamW's peak learning rate changes with the size."""
        return self.lr_exponent if self.lr else OPTIMIZERS[self.optimizer].exponent

    @property
    def matrices_lr(self) -> float:
        """The peak learning rate of what changes the hidden matrices."""
        return self.muon_lr or OPTIMIZERS[self.optimizer].matrices_rate * self._growth

    @property
    def _growth(self) -> float:
        """What measured rates are multiplied by for the tokens in a step."""
        return sqrt(self.batch * self.length / RATED_STEP)

    def peak_lr(self, model: ModelConfig) -> float:
        """Return AdamW's peak learning rate at one size."""
        return self.base_lr * (model.n_params_non_embedding / self.lr_size) ** self.base_exponent

    def times_lr(self, adamw: float, matrices: float = 1.0) -> Self:
        """Return the same with so many times these rates, AdamW's at every size."""
        return replace(
            self, lr=self.base_lr * adamw, lr_exponent=self.base_exponent, muon_lr=self.matrices_lr * matrices
        )


def alone_by(train: TrainConfig) -> str:
    """Return the key and value by which runs can only be trained alone, such as ``"dropout = 0.1"``.

    Empty where they can be trained at once, in a stack (`kleiber.train.stack`).
    """
    asked = {
        "dropout": train.dropout > 0,
        "original": train.original,
        "compile": train.compile,
        "attention": train.attention not in ("auto", "matmul"),
        "optimizer": train.optimizer not in ("adamw", "muon"),
    }
    return next((f"{key} = {str(getattr(train, key)).lower()}" for key, is_asked in asked.items() if is_asked), "")


@dataclass(frozen=True)
class Branch:
    """One budget of a run, in optimizer steps: leave the trunk after `start`, be annealed after `end`.

    Without a trunk (linear, cosine) `start` is 0.
    """

    tokens: int
    start: int
    end: int

    @property
    def phase(self) -> str:
        """What the metrics call its steps."""
        return f"cooldown-{self.tokens}"


@dataclass(frozen=True)
class Run:
    """One unit of training: a model, its data budgets and everything that decides its bytes.

    Attributes
    ----------
    name
        What the run is called in tables and folders.
    tokens
        Budgets D in token slots (rows x length), increasing.
    init
        SHA-256 of the weights it starts from; empty when they are drawn from the seed.
    labels
        Columns of the observations that training does not know itself: arm, corpus, size, …
    """

    name: str
    model: ModelConfig
    train: TrainConfig
    tokens: tuple[int, ...]
    seed: int
    init: str = ""
    labels: dict[str, str | int | float] = field(default_factory=dict)

    def branches(self) -> list[Branch]:
        """Return the budgets as steps of the trunk and of its cooldowns.

        Raises
        ------
        ConfigError
            When a budget is too small for a step of each, or two budgets fall on one step.
        """
        per_step = self.train.batch * self.train.length
        branches = []
        for tokens in self.tokens:
            end = round(tokens / per_step)
            cooldown = max(1, round(self.train.cooldown * end)) if self.train.has_trunk else end
            branches.append(Branch(tokens, end - cooldown, end))
        has_trunk = self.train.has_trunk
        is_close = any((a.start >= b.start if has_trunk else a.end >= b.end) for a, b in pairwise(branches))
        if branches[0].end < 1 + has_trunk or (has_trunk and branches[0].start < 1) or is_close:
            raise ConfigError(
                f"The budgets {list(self.tokens)} are too small or too close: a step reads {per_step:,} tokens "
                f"({self.train.batch} rows of {self.train.length}).\n  Raise [ladder] tokens or lower [train] batch."
            )
        return branches

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of an optimizer step."""
        train = self.train
        return sum(self.model.flops(train.batch, train.length, train.batch * train.n_masked).values())

    @property
    def n_steps(self) -> int:
        """Optimizer steps of the trunk and all cooldowns together."""
        branches = self.branches()
        return branches[-1].start + sum(branch.end - branch.start for branch in branches)
