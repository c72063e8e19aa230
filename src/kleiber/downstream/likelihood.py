"""Log-likelihood ratios and embeddings of alleles, by a model. Rows of one length go through it together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kleiber.downstream.alleles import CLS, SEP, Laid
from kleiber.downstream.tables import Labelled
from kleiber.tokens.tokenizer import Tokenizer

__all__ = ["allele_scores", "embedded_tables", "embeddings"]

CHUNK = {"cpu": 32}  # rows at once, and OTHERWISE on what is no processor
OTHERWISE = 512
DNA = slice(1, -1)  # a row between [CLS] and [SEP]


@torch.inference_mode()
def allele_scores(model: nn.Module, laid: Laid, distance: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score variants.

    Parameters
    ----------
    model
        Called as ``model(ids, rows=positions)``, it returns logits (B, K, V).
    distance
        Whether to compare embeddings, too.

    Returns
    -------
    The log-likelihood ratio of ALT against REF, in nats, and the Euclidean distance of the mean embeddings, float64
    (n,) each, means over both strands; NaN where there is none. Indels have their ratio per base.
    """
    logs = _log_likelihoods(model, laid)

    def likelihood(parts: list[tuple[int, int, int]], n_bases: int) -> float:
        return sum(logs[part] for part in parts) / n_bases

    ratios, distances = np.full((2, len(laid.terms)), np.nan)
    for i, terms in enumerate(laid.terms):
        if not laid.why_not[i]:
            ratios[i] = np.mean([likelihood(*alt) - likelihood(*ref) for ref, alt in terms])
    if distance and laid.whole:
        means = embeddings(model, laid.whole, last_only=True)[:, 0]
        for i, pairs in enumerate(laid.pairs):
            if not laid.why_not[i]:
                distances[i] = np.mean([np.linalg.norm(means[alt] - means[ref]) for ref, alt in pairs])
    return ratios, distances


def _log_likelihoods(model: nn.Module, laid: Laid) -> dict[tuple[int, int, int], float]:
    """Return the log-likelihood of every (row, place, token) that a variant asks for."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for terms, why in zip(laid.terms, laid.why_not, strict=True):
        for pair in () if why else terms:
            for parts, _ in pair:
                for row, place, token in parts:
                    wanted.setdefault(row, []).append((place, token))
    device = next(model.parameters()).device
    logs: dict[tuple[int, int, int], float] = {}
    keys = {row: (len(laid.masked[row][0]), len(laid.masked[row][1])) for row in wanted}
    for which in _together(keys, CHUNK.get(device.type, OTHERWISE)):
        ids = torch.tensor([laid.masked[row][0] for row in which], device=device)
        positions = torch.tensor([laid.masked[row][1] for row in which], device=device)
        logits = model(ids, rows=positions).float()
        norms = logits.logsumexp(-1)
        asked = [(b, place, token) for b, row in enumerate(which) for place, token in wanted[row]]
        at_row, at_place, at_token = torch.tensor(asked, device=device).unbind(1)
        values = (logits[at_row, at_place, at_token].double() - norms[at_row, at_place].double()).cpu().tolist()
        for (number, at, asked_token), value in zip(asked, values, strict=True):
            logs[which[number], at, asked_token] = value
    return logs


@torch.inference_mode()
def embeddings(model: nn.Module, rows: Sequence[Sequence[int]], last_only: bool = False) -> NDArray[np.float32]:
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
    bert: Any = model.bert
    config: Any = model.config
    layers = [] if last_only else [bert.embeddings, *bert.encoder.layer[:-1]]
    kept: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda module, given, output: kept.append(output[:, DNA].mean(1)))
        for layer in layers
    ]
    found = np.zeros((len(rows), len(layers) + 1, config.hidden), np.float32)
    try:
        for which in _together({i: len(row) for i, row in enumerate(rows)}, CHUNK.get(device.type, OTHERWISE)):
            kept.clear()
            output = bert(torch.tensor([rows[i] for i in which], device=device))
            kept.append(output[:, DNA].mean(1))
            found[which] = torch.stack(kept, 1).float().cpu().numpy()
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


def _together(keys: dict, most: int) -> list[list[int]]:
    """Return the numbers of rows with one key, at most so many at once, in a fixed order."""
    by_key: dict = {}
    for number, key in keys.items():
        by_key.setdefault(key, []).append(number)
    return [which[at : at + most] for _, which in sorted(by_key.items()) for at in range(0, len(which), most)]
