"""Log-likelihood ratios and embeddings of alleles, by a model.

Rows of one length go through it together, a few at a time, so that what they need stays in a core's caches; on a
processor every such batch takes one thread, and as many run side by side as there are threads. The batches follow from
the rows alone, so that no number depends on how many threads there are. Rejected: all threads in one product, which at
these sizes wait for each other after every operation, and stand still when another job takes a core.

In bf16 the blocks' products are rounded and the head is not: it costs nothing at the few tokens that are asked for,
and its rounding would be the largest. fp32 is the default, because no two machines then disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import local
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kleiber.downstream.alleles import CLS, SEP, Laid
from kleiber.downstream.tables import Labelled
from kleiber.tokens.tokenizer import Tokenizer

__all__ = ["Precision", "allele_scores", "embedded_tables", "embeddings", "side_by_side"]

Precision = Literal["fp32", "bf16"]
AT_ONCE = {"cpu": 16}  # rows, and OTHERWISE on what is no processor
OTHERWISE = 512
DNA = slice(1, -1)  # a row between [CLS] and [SEP]
Batch = TypeVar("Batch")
Result = TypeVar("Result")


def allele_scores(
    model: Any, laid: Laid, precision: Precision = "fp32"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score variants.

    Parameters
    ----------
    model
        A `kleiber.model.dnabert2.DNABERT2`, or a network that is made like it.
    precision
        Of the products in the blocks.

    Returns
    -------
    The log-likelihood ratio of ALT against REF, in nats, and the Euclidean distance of the mean embeddings, float64
    (n,) each, means over both strands; NaN where there is none. Indels have their ratio per base.
    """
    logs = _log_likelihoods(model, laid, precision)

    def likelihood(parts: list[tuple[int, int, int]], n_bases: int) -> float:
        return sum(logs[part] for part in parts) / n_bases

    ratios, distances = np.full((2, len(laid.terms)), np.nan)
    for i, terms in enumerate(laid.terms):
        if not laid.why_not[i]:
            ratios[i] = sum(likelihood(*alt) - likelihood(*ref) for ref, alt in terms) / len(terms)
    if laid.whole:
        means = embeddings(model, laid.whole, last_only=True, precision=precision)[:, 0]
        for i, pairs in enumerate(laid.pairs):
            if not laid.why_not[i]:
                distances[i] = np.mean([np.linalg.norm(means[alt] - means[ref]) for ref, alt in pairs])
    return ratios, distances


def _log_likelihoods(model: Any, laid: Laid, precision: Precision) -> dict[tuple[int, int, int], float]:
    """Return the log-likelihood of every (row, place, token) that a variant asks for."""
    wanted: dict[int, dict[tuple[int, int], None]] = {}
    for terms, why in zip(laid.terms, laid.why_not, strict=True):
        for pair in () if why else terms:
            for parts, _ in pair:
                for row, place, token in parts:
                    wanted.setdefault(row, {})[place, token] = None
    device = next(model.parameters()).device

    def scored(which: list[int]) -> list[tuple[tuple[int, int, int], float]]:
        ids = torch.tensor([laid.masked[row][0] for row in which], device=device)
        positions = torch.tensor([laid.masked[row][1] for row in which], device=device)
        with _rounded(device, precision):
            hidden = model.bert(ids, rows=positions)
        logits = model.cls.predictions(hidden.float())
        norms = logits.logsumexp(-1)
        asked = [(b, place, token) for b, row in enumerate(which) for place, token in wanted[row]]
        at_row, at_place, at_token = torch.tensor(asked, device=device).unbind(1)
        values = logits[at_row, at_place, at_token].double() - norms[at_row, at_place].double()
        keys = [(which[b], place, token) for b, place, token in asked]
        return list(zip(keys, values.tolist(), strict=True))

    shapes = {row: (len(laid.masked[row][0]), len(laid.masked[row][1])) for row in wanted}
    return dict(pair for batch in side_by_side(model, scored, _together(shapes, device)) for pair in batch)


def embeddings(
    model: Any, rows: Sequence[Sequence[int]], last_only: bool = False, precision: Precision = "fp32"
) -> NDArray[np.float32]:
    """Return the mean vector of each row's tokens of DNA, layer by layer.

    Parameters
    ----------
    rows
        Ids of any lengths, [CLS] and [SEP] included; those of one length go through the model together, unpadded.
    last_only
        Only what the last layer gives.

    Returns
    -------
    float32 (n, L + 1, H): of the embedding of tokens and of each block's output, the last one after the network's
    last norm; (n, 1, H) with `last_only`.
    """
    device = next(model.parameters()).device
    layers: list[nn.Module] = [] if last_only else [model.bert.embeddings, *model.bert.encoder.layer[:-1]]
    mine = local()  # to each thread its own batch's

    def keep(module: nn.Module, given: Any, output: Tensor) -> None:
        mine.kept.append(output[:, DNA].mean(1))

    def embedded(which: list[int]) -> tuple[list[int], NDArray[np.float32]]:
        mine.kept = []
        with _rounded(device, precision):
            output = model.bert(torch.tensor([rows[i] for i in which], device=device))
        return which, torch.stack([*mine.kept, output[:, DNA].mean(1)], 1).float().cpu().numpy()

    found = np.zeros((len(rows), len(layers) + 1, model.config.hidden), np.float32)
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        lengths = {i: len(row) for i, row in enumerate(rows)}
        for which, vectors in side_by_side(model, embedded, _together(lengths, device)):
            found[which] = vectors
    finally:
        for hook in hooks:
            hook.remove()
    return found


def embedded_tables(
    model: nn.Module, tokenizer: Tokenizer, tables: Sequence[Labelled]
) -> Iterator[tuple[str, tuple[NDArray[np.float32], ...]]]:
    """Yield each layer's name and the embeddings of each table's sequences by it, (n, H) each."""
    found = []
    for table in tables:
        rows = [tokenizer.encode(np.frombuffer(text.encode(), np.uint8)).tolist() for text in table.sequences]
        found.append(embeddings(model, [[CLS, *ids, SEP] for ids in rows]))
    for layer in range(found[0].shape[1]):
        yield f"layer {layer}", tuple(vectors[:, layer] for vectors in found)


def _together(keys: dict, device: torch.device) -> list[list[int]]:
    """Return the numbers of rows with one key, so many as go through the model at once, in a fixed order."""
    most = AT_ONCE.get(device.type, OTHERWISE)
    by_key: dict = {}
    for number, key in keys.items():
        by_key.setdefault(key, []).append(number)
    return [which[at : at + most] for _, which in sorted(by_key.items()) for at in range(0, len(which), most)]


def side_by_side(model: Any, work: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
    """Yield what the work on each batch gives, in their order; attention is fused meanwhile.

    On a processor a batch takes one thread, and as many run at once as torch has threads; else one after the other.
    """

    @torch.inference_mode()
    def alone(batch: Batch) -> Result:
        return work(batch)

    on_processor = next(model.parameters()).device.type == "cpu"
    n_threads, backend = torch.get_num_threads(), model.bert.encoder.backend
    model.use_attention("sdpa")
    try:
        if n_threads == 1 or not on_processor:
            yield from map(alone, batches)
            return
        torch.set_num_threads(1)
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(alone, batches)
    finally:
        torch.set_num_threads(n_threads)
        model.use_attention(backend)


def _rounded(device: torch.device, precision: Precision) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
