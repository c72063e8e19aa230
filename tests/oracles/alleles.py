"""One variant at a time in plain strings and loops: the twin of `kleiber.downstream`."""

from __future__ import annotations

import math

import numpy as np
import torch

PAIRS = {"A": "T", "C": "G", "G": "C", "T": "A"}


def turned(text: str) -> str:
    return "".join(PAIRS[letter] for letter in reversed(text))


def ids_of(tokenizer, text: str) -> list[int]:
    return [int(i) for i in tokenizer.encode(np.frombuffer(text.encode(), np.uint8))] if text else []


def log_chance(model, ids: list[int], place: int, token: int) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0, place].double().tolist()
    most = max(logits)
    return logits[token] - most - math.log(sum(math.exp(value - most) for value in logits))


def mean_vector(model, ids: list[int]) -> list[float]:
    with torch.no_grad():
        vectors = model.bert(torch.tensor([ids]))[0].double().tolist()[1:-1]
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def ratio_and_distance(model, tokenizer, genome: str, start: int, ref: str, alt: str, row: int) -> tuple[float, float]:
    """Return the log-likelihood ratio and the distance of a variant far from any end or N."""
    ratios, distances = [], []
    for strand in ("+", "-"):
        pieces = {
            allele: (window(tokenizer, genome, start, ref, allele, row, strand)
                     if len(ref) != len(alt) else hidden(tokenizer, genome, start, ref, allele, row, strand))
            for allele in (ref, alt)
        }  # fmt: skip
        chances, vectors = {}, {}
        for allele, (ids, places, bases) in pieces.items():
            total = 0.0
            for place in places:
                masked = list(ids)
                for other in places if len(ref) == len(alt) else [place]:
                    masked[other] = 4
                total += log_chance(model, masked, place, ids[place])
            chances[allele] = total / bases
            vectors[allele] = mean_vector(model, ids)
        ratios.append(chances[alt] - chances[ref])
        distances.append(math.dist(vectors[ref], vectors[alt]))
    return sum(ratios) / 2, sum(distances) / 2


def hidden(tokenizer, genome, start, ref, allele, row, strand):
    """Return a row with the allele's tokens in the middle, their places, and 1."""
    k = getattr(tokenizer, "k", 1)
    flank = math.ceil(row / 2) * min(tokenizer.max_token_length, 8)
    size = math.ceil(len(ref) / k) * k
    before = (size - len(ref)) // 2
    first, last = start - before, start - before + size
    core = genome[first:start] + allele + genome[start + len(ref) : last]
    left, right = genome[first - flank : first], genome[last : last + flank]
    if strand == "-":
        core, left, right = turned(core), turned(right), turned(left)
    left, core, right = (ids_of(tokenizer, text) for text in (left, core, right))
    n_left = (row - len(core)) // 2
    n_right = row - len(core) - n_left
    begin = [1, *left[max(0, len(left) - n_left) :]]
    ids = [*begin, *core, *right[:n_right], 2]
    return ids, [len(begin) + i for i in range(len(core))], 1


def window(tokenizer, genome, start, ref, allele, row, strand):
    """Return a row of the allele's window, the places of tokens within 12 bases of it, and their bases."""
    k = getattr(tokenizer, "k", 1)
    flank = math.ceil(row / 2) * min(tokenizer.max_token_length, 8) + k
    left, right = genome[start - flank : start], genome[start + len(ref) : start + len(ref) + flank]
    if strand == "-":
        left, allele, right = turned(right), turned(allele), turned(left)
    left = left[len(left) % k :]
    ids = ids_of(tokenizer, left + allele + right)
    scored, at = [], 0
    for number, token in enumerate(ids):
        end = at + len(tokenizer.tokens[token])
        if at < len(left) + len(allele) + 12 and end > len(left) - 12:
            scored.append(number)
        at = end
    begin = max(0, scored[0] - (row - len(scored)) // 2)
    stop = min(len(ids), begin + row)
    begin = max(0, stop - row)
    bases = sum(len(tokenizer.tokens[ids[number]]) for number in scored)
    return [1, *ids[begin:stop], 2], [number - begin + 1 for number in scored], bases
