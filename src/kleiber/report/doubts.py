"""Sentences of doubt, made from the study's own numbers: how sure its results are, and what it cannot say."""

from __future__ import annotations

from math import log
from typing import Any

import polars as pl

from kleiber.report.measures import PUBLISHED_FLOPS, is_far
from kleiber.report.numbers import compact, count
from kleiber.report.reader import Law, StudyOutput

__all__ = ["limits", "sureness"]

ERRORS = 3  # paired ones that reversal has to cost of a model that is said to read order


def sureness(study: StudyOutput) -> list[str]:
    """Say how far the numbers can be trusted.

    Fits and what they say against themselves, hold-outs, replicates.
    """
    sentences = []
    laws = [law for arm in study.arms if (law := study.law(arm)) is not None]
    if laws:
        good, sure = sum(law.has_converged for law in laws), sum(law.is_usable for law in laws)
        sentences.append(
            f"{good} of {len(laws)} parametric fits converged; in {sure} of them the exponent a is usable, that is, "
            "the data rule out much of what it could have been, and no witness speaks against it."
        )
    warned: dict[str, list[str]] = {}
    for law in laws:
        for warning in law.warnings:
            warned.setdefault(warning.rstrip("."), []).append(law.arm)
    sentences += [f"{', '.join(arms)}: {warning}." for warning, arms in warned.items()]
    if laws and not any(law.raw.get("holdouts") for law in laws):
        sentences.append("No hold-out was made: how well the laws predict models that they have not seen is not known.")
    sentences += _blind_to_order(study)
    sentences += [sentence for law in laws if (sentence := _largest_left_out(study, law))]
    seeds = study.observations.group_by("arm", "size", "n_tokens").agg(pl.col("seed").n_unique())["seed"]
    if len(seeds) and (seeds.max() or 0) < 2:  # type: ignore[operator]
        sentences.append(
            "Every model was trained with one seed: differences between seeds were not measured, and intervals can "
            "only know of them through the scatter about the law."
        )
    return sentences


def _blind_to_order(study: StudyOutput) -> list[str]:
    """Warn of models to which the order of tokens makes no difference that can be told."""
    asked = study.observations.drop_nulls("cost_reversed")
    cost, error = pl.col("cost_reversed"), pl.col("cost_reversed_se").fill_nan(None)
    is_told = (cost > ERRORS * error).fill_null(False)
    blind = asked.filter(~is_told)
    if blind.is_empty():
        return []
    names = blind.group_by("arm", maintain_order=True).agg(pl.col("size").unique(maintain_order=True))
    listed = "; ".join(f"{arm}: {', '.join(sizes)}" for arm, sizes in names.iter_rows())
    return [
        f"Warning: {len(blind)} of {len(asked)} models lose less than {ERRORS:g} paired standard errors when rows are "
        f"read backwards ({listed}): they have learned which tokens stand near, but not their order, as far as can be "
        "told."
    ]


def _largest_left_out(study: StudyOutput, law: Law) -> str:
    """Say how well a law that never saw the largest size predicts it, beside the nearest size that it saw."""
    made = {entry.get("left_out"): entry for entry in law.raw.get("holdouts") or ()}
    entry: dict[str, Any] = made.get("largest N", {})
    bases = study.points(law.arm)["bases_per_token"].drop_nulls()
    if entry.get("error") is None or not len(bases):
        return ""
    error, nearest = (entry.get(key) and entry[key] / log(2) / bases[0] for key in ("error", "nearest"))
    text = (
        f"{law.arm}: fitted without its largest size, the law predicts that size's losses to {error:.4f} bits per base"
    )
    return text + (f"; taking those of the next smaller size would err by {nearest:.4f}." if nearest else ".")


def limits(study: StudyOutput) -> list[str]:
    """Return what the study cannot say, with its own numbers."""
    table = study.observations
    sentences = [
        "The loss of a masked language model is a pseudo-likelihood: it scores masked tokens given both sides. It is "
        "no code length, and bits per base here are not comparable with compressors or with autoregressive models.",
    ]
    if any(study.sampling(arm) == "variant" for arm in study.arms):
        sentences.append(
            "Variant sampling is uniform over the windows of all haplotypes that hold a variant, not over variants: a "
            "variant counts as often as it is carried, so that common ones dominate. Every arm is scored on held-out "
            "DNA of the reference, which says nothing of how well variants are predicted."
        )
    if len(table):
        largest, compute = table["n_params"].max(), float(table["flops"].max())  # type: ignore[arg-type]
        text = f"The largest model has {count(largest)} parameters and the most compute is {compact(compute)} FLOPs"  # type: ignore[arg-type]
        if is_far(study):
            text += (
                f", {compact(PUBLISHED_FLOPS[0] / compute)} times less than the smallest optimum of the original study"
            )
        sentences.append(text + ". A law at one scale is no evidence about another.")
        sentences.append(
            f"Beyond {compact(10 * compute)} FLOPs (ten times the most compute here) every prediction is an "
            "extrapolation and no result of this study."
        )
    epochs = table["epochs"].max()
    if epochs is not None:
        text = f"The training DNA was read up to {float(epochs):.2g} times"  # type: ignore[arg-type]
        text += (
            "; beyond about four epochs repeated data are worth less than new data (Muennighoff et al. 2023), and D "
            "counts both alike."
            if float(epochs) > 4  # type: ignore[arg-type]
            else ", within the four epochs up to which repeated data are worth about as much as new (Muennighoff et "
            "al. 2023; found for text)."
        )
        sentences.append(text)
    if len({study.tokenizer(arm) for arm in study.arms}) > 1:
        sentences.append(
            "Losses per token of different tokenizers have different units: compare arms in bits per base only. Equal "
            "numbers of tokens are different numbers of bases."
        )
    sentences.append(
        "Learning rates follow one rule across sizes; a size for which the rule is wrong looks like a bend in the law."
    )
    return sentences
