"""What frozen embeddings know of sequences: logistic regression on them, beside the same on counts of k-mers.

Counts of k-mers need no training at all, and models of this field are rarely shown beside them. Both opponents get the
same classifier (scikit-learn's logistic regression), the same choice of its penalty, and choose what they read on the
dev table alone: the model its layer, counts their k. Whatever is chosen, the test table is looked at once. Rejected:
fine-tuning, which asks how good a start the weights are, and not what they know.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.downstream.statistics import Estimate, auroc, estimate, mcc, resamples
from kleiber.downstream.tables import Labelled, Tables
from kleiber.errors import MissingDependency
from kleiber.tokens.tokenizer import CODES

__all__ = ["Compared", "Probed", "compare", "kmer_features", "probe"]

PENALTIES = (0.01, 0.1, 1.0)  # C: the smaller, the simpler
KMERS = (3, 4, 5, 6)
ITERATIONS = 200
Features = tuple[Any, ...]  # of the train, dev and test tables, (n, F) each


@dataclass(frozen=True)
class Short:
    """How many fits of how many stopped at `ITERATIONS` before they converged, and whether the chosen one did."""

    n: int
    of: int
    chosen: bool

    def __str__(self) -> str:
        """Say it in a sentence."""
        chosen = "the chosen one among them" if self.chosen else "the chosen one not"
        return f"{self.n} of {self.of} fits stopped after {ITERATIONS} steps before they converged, {chosen}"


@dataclass(frozen=True)
class Probed:
    """What one kind of features reached on the test table.

    Attributes
    ----------
    chosen
        On the dev table: the layer or k, and C.
    dev_mcc
        What chose it.
    mcc, auroc
        On the test table; `auroc` is None where there are more than two classes.
    predicted
        The class of each test row, (n,).
    short
        Fits that did not converge, if any.
    """

    chosen: str
    dev_mcc: float
    mcc: Estimate
    auroc: Estimate | None
    predicted: NDArray[np.int64]
    short: Short | None


@dataclass(frozen=True)
class Compared:
    """The difference of two probes' MCC on the same test rows, and its interval."""

    mcc: float
    interval: tuple[float, float]


def kmer_features(tables: Tables) -> Iterator[tuple[str, Features]]:
    """Yield counts of the k-mers of each sequence for several k, sparse (n, 4^k), named ``"k = 6"``."""
    from scipy.sparse import csr_matrix

    for k in KMERS:
        made = []
        for table in tables:
            rows, columns = [], []
            for number, text in enumerate(table.sequences):
                codes = CODES[np.frombuffer(text.encode(), np.uint8)].astype(np.int64)
                n = len(codes) - k + 1
                if n < 1:
                    continue
                word = sum((codes[i : n + i] << 2 * (k - 1 - i) for i in range(k)), np.zeros(n, np.int64))
                whole = np.max([codes[i : n + i] for i in range(k)], 0) < 4
                columns.append(word[whole])
                rows.append(np.full(int(whole.sum()), number))
            at = (np.concatenate([*rows, np.zeros(0, int)]), np.concatenate([*columns, np.zeros(0, int)]))
            made.append(csr_matrix((np.ones(len(at[0])), at), shape=(len(table), 4**k)))
        yield f"k = {k}", (made[0], made[1], made[2])


def probe(features: Iterator[tuple[str, Features]], tables: Tables, seed: int = 0) -> Probed:
    """Fit every candidate, keep the best on the dev table, and score it on the test table.

    Parameters
    ----------
    features
        Candidates by name: of the train, dev and test tables, (n, F) each, dense or sparse.
    tables
        Train, dev, test; the first with two classes at least, the others with none besides.

    Raises
    ------
    MissingDependency
        When scikit-learn is not installed.
    """
    train, dev, test = tables
    best: tuple[float, str, Any, Any] | None = None
    n_fits = n_short = 0
    for name, (x_train, x_dev, x_test) in features:
        scale = _scaler(x_train)
        scaled = scale(x_train)
        for penalty in PENALTIES:
            model = _fitted(scaled, train.labels, penalty)
            n_fits, n_short = n_fits + 1, n_short + _is_short(model)
            reached = mcc(dev.labels, model.predict(scale(x_dev)))(np.ones(len(dev)))
            if best is None or reached > best[0]:
                best = (reached, f"{name}, C = {penalty:g}", model, scale(x_test))
    assert best is not None
    reached, chosen, model, x_test = best
    predicted = model.predict(x_test).astype(np.int64)
    own = np.arange(len(test))
    area = None
    if len(model.classes_) == 2:
        area = estimate(auroc(model.decision_function(x_test), test.labels == model.classes_[1]), own, seed)
    short = Short(n_short, n_fits, _is_short(model)) if n_short else None
    return Probed(chosen, reached, estimate(mcc(test.labels, predicted), own, seed), area, predicted, short)


def compare(first: Probed, second: Probed, test: Labelled, seed: int = 0) -> Compared:
    """Return the difference of two probes' MCC; every draw takes the same rows of both."""
    one, other = mcc(test.labels, first.predicted), mcc(test.labels, second.predicted)
    drawn = [one(weights) - other(weights) for weights in resamples(np.arange(len(test)), seed)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Compared(first.mcc.value - second.mcc.value, (float(low), float(high)))


def _scaler(x: Any) -> Callable[[Any], Any]:
    """Return what gives each column the spread one; counts stay sparse, for zeros mean zero."""
    if hasattr(x, "tocsr"):
        mean = np.asarray(x.mean(0)).ravel()
        spread = np.sqrt(np.maximum(np.asarray(x.multiply(x).mean(0)).ravel() - mean**2, 0))
        return lambda other: other.multiply(1 / np.where(spread > 0, spread, 1.0)).tocsr()
    mean, spread = x.mean(0), x.std(0)
    return lambda other: (other - mean) / np.where(spread > 0, spread, 1.0)


def _fitted(x: Any, labels: NDArray[np.int64], penalty: float) -> Any:
    """Fit on one thread, so that the bytes do not depend on how many there are."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingDependency("scikit-learn", "downstream") from error
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said once, of all fits: `Short`
        return LogisticRegression(C=penalty, max_iter=ITERATIONS).fit(x, labels)


def _is_short(model: Any) -> bool:
    return bool(model.n_iter_.max() >= ITERATIONS)
