"""Sentences of a report, made from its numbers: what was run and what was found.

No result is written by hand: a study of other DNA, or of half its runs, gets other sentences. Each names its
uncertainty, and a number that the data do not determine is called that instead of being printed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from kleiber.corpus.strategies import STRATEGIES
from kleiber.report.measures import differences, is_far, published, steps_along, strongest_baselines
from kleiber.report.numbers import compact, interval, plus_minus, signed
from kleiber.report.opponents import worth_sentence
from kleiber.report.reader import Law, StudyOutput
from kleiber.report.tokenizers import EQUAL, SCORES, EqualDifference, equal_differences

__all__ = ["ArmFindings", "arm_findings", "between_arms", "in_brief", "tokenizers_compared", "what_was_run"]

STATUS = {
    "CONVERGED": "the fit converged",
    "BOUND_HIT": "the fit ended on a bound, so its exponents are no estimates",
    "MAX_ITER": "the fit ran out of iterations, so its numbers are not final",
    "REFUSED": "the fit was refused",
    "UNKNOWN": "the fit does not state its status",
}
ORDERS = {
    "reversed": "reading rows backwards",
    "shuffled": "reading them shuffled",
    "complement": "reading the other strand",
}
PARAMETERS = {"E": "E", "alpha": "α", "beta": "β", "a": "a"}


@dataclass(frozen=True)
class ArmFindings:
    """What one arm showed: the sentence to remember, and the sentences behind it."""

    arm: str
    label: str
    key: str
    details: tuple[str, ...]


def arm_label(study: StudyOutput, arm: str) -> str:
    """Say what an arm is: its windows and its tokenizer."""
    sampling = study.sampling(arm)
    return f"{STRATEGIES[sampling].about if sampling in STRATEGIES else sampling}, {study.tokenizer(arm)} tokens"


def in_brief(study: StudyOutput) -> list[str]:
    """Return the two or three sentences a reader takes home."""
    table = study.observations
    if table.is_empty():
        return ["No model of this study has been scored yet: there is nothing to conclude."]
    sentences = []
    scored = table.filter(pl.col("bits_per_base").is_not_null())
    if len(scored):
        best = scored.sort("bits_per_base").row(0, named=True)
        found = plus_minus(best["bits_per_base"], best["bits_per_base_se"])
        sentences.append(
            f"The best of {len(scored)} annealed models ({best['arm']}, {best['size']}, {compact(best['n_tokens'])} "
            f"tokens) reaches {found} bits per base on held-out DNA{_against_baselines(study, best)}."
        )
        sentences += [text for text in [worth_sentence(study, str(best["arm"]), best)] if text]
    laws = [law for arm in study.arms if (law := study.law(arm)) is not None and law.is_usable]
    bounds = [law.interval("a") for law in laws]
    if laws and all(bounds):
        low, high = min(b[0] for b in bounds if b), max(b[1] for b in bounds if b)
        sentences.append(
            f"The exponent a of N_opt ∝ C^a is determined in {len(laws)} of {len(study.arms)} arms; their 95 % "
            f"intervals span {low:.2f} to {high:.2f}. {_balance(low, high)}"
        )
    elif any(study.laws.values()):
        sentences.append(
            "In no arm do the data determine the exponent a of N_opt ∝ C^a: "
            "what follows shows how the loss falls, but not how best to share compute between parameters and data."
        )
    return sentences + _pairs_in_brief(study)


def _pairs_in_brief(study: StudyOutput) -> list[str]:
    """Say what the corpora and the tokenizers change, each in one sentence."""
    sentences = []
    for same, name in ((True, "corpora"), (False, "tokenizers")):
        pairs = [d for d in differences(study) if (study.tokenizer(d.arm) == study.tokenizer(d.other)) is same]
        if not pairs:
            continue
        clear = sorted((d for d in pairs if d.is_clear), key=lambda d: -abs(d.mean))
        if not clear:
            widest = max((d.high - d.low) / 2 for d in pairs)
            sentences.append(
                f"Between {name}, no pair of arms differs beyond its noise in bits per base at equal size and tokens: "
                f"differences up to about {widest:.4f} could have been missed."
            )
            continue
        d = clear[0]
        better, worse = (d.arm, d.other) if d.mean < 0 else (d.other, d.arm)
        sentences.append(
            f"Between {name}, {len(clear)} of {_plural(len(pairs), 'pair')} of arms differ beyond noise in bits per "
            f"base at equal size and tokens; the most, {better} below {worse} by {abs(d.mean):.4f} (95 % interval "
            f"{min(abs(d.low), abs(d.high)):.4f} to {max(abs(d.low), abs(d.high)):.4f})."
        )
    return sentences


def _balance(low: float, high: float) -> str:
    if low > 0.5:
        return "Within the range studied, more compute is better spent on parameters than on data."
    if high < 0.5:
        return "Within the range studied, more compute is better spent on data than on parameters."
    return "That includes 0.5, at which parameters and data should grow together."


def _against_baselines(study: StudyOutput, best: dict[str, object]) -> str:
    """Say how far below the token unigram and the best Markov chain a model is."""
    bits = float(best["bits_per_base"])  # type: ignore[arg-type]
    found = []
    for name, (baseline, _) in strongest_baselines(study, str(best["arm"])).items():
        if name != "uniform":
            side = "below" if bits < baseline else "above"
            found.append(
                f"{abs(bits - baseline):.3f} {side} the {name.replace('unigram', 'token unigram')} at {baseline:.3f}"
            )
    return ": " + " and ".join(found) if found else ""


def arm_findings(study: StudyOutput) -> list[ArmFindings]:
    """Return, for each arm, its key sentence and the details behind it."""
    found = []
    for arm in study.arms:
        points = study.points(arm)
        if points.is_empty():
            key, details = f"{arm} has no scored model yet.", []
        else:
            key, details = _exponent_sentence(study, arm), [_range_sentence(study, arm, points)]
            details += _monotone_sentences(study, arm)
            details += _order_sentences(study, arm)
            scored = points.drop_nulls("bits_per_base").sort("bits_per_base")
            if len(scored) and (sentence := worth_sentence(study, arm, scored.row(0, named=True))):
                details.append(sentence)
            details += _published_sentences(study, arm)
        found.append(ArmFindings(arm, arm_label(study, arm), key, tuple(details)))
    return found


def _exponent_sentence(study: StudyOutput, arm: str) -> str:
    law = study.law(arm)
    if law is None:
        return f"No parametric law has been fitted to {arm}."
    status = STATUS.get(law.status, f"the status of the fit is {law.status}")
    if law.status == "REFUSED":
        reason = "; ".join(law.warnings) or "no reason is recorded"
        return f"The parametric fit of {arm} was refused: {reason.rstrip('.')}."
    if not law.is_usable:
        reason = law.verdict.removeprefix("a is not usable: ") or "its witnesses were not asked"
        return (
            f"No exponent of {arm} can be quoted as a result: {reason.rstrip('.')}. Of the parametric law {status}"
            f"{_what_is_known(law)}."
        )
    gives = interval(law.estimate("a"), law.interval("a"))
    return f"The parametric law of {arm} gives a = {gives}; {status}{_what_is_known(law)}.{_tenfold(law)}"


def _what_is_known(law: Law) -> str:
    known, unknown = _identified(law)
    text = f"; determined by the data: {', '.join(known)}" if known else ""
    return text + (f"; not identified: {', '.join(unknown)}" if unknown else "")


def _tenfold(law: Law) -> str:
    """Say what a means to somebody who is about to spend ten times the compute."""
    a, bounds = law.estimate("a"), law.interval("a")
    if a is None or bounds is None or not law.is_usable:
        return ""
    return (
        f" By this law, ten times the compute is best spent on {10**a:.1f} times the parameters "
        f"({10 ** bounds[0]:.1f} to {10 ** bounds[1]:.1f}) and {10 ** (1 - a):.1f} times the data."
    )


def _identified(law: Law) -> tuple[list[str], list[str]]:
    known = [symbol for name, symbol in PARAMETERS.items() if law.is_identified(name) is True]
    return known, [symbol for name, symbol in PARAMETERS.items() if law.is_identified(name) is False]


def _range_sentence(study: StudyOutput, arm: str, points: pl.DataFrame) -> str:
    sizes = [size for size in study.sizes if size in set(points["size"])]
    sentence = (
        f"{len(points)} annealed models of {len(sizes)} sizes ({sizes[0]} to {sizes[-1]}) on "
        f"{compact(points['n_tokens'].min())} to {compact(points['n_tokens'].max())} tokens, "  # type: ignore[arg-type]
        f"{compact(points['flops'].min())} to {compact(points['flops'].max())} FLOPs"  # type: ignore[arg-type]
    )
    scored = points.filter(pl.col("bits_per_base").is_not_null()).sort("bits_per_base")
    if len(scored):
        best, worst = scored.row(0, named=True), scored.row(-1, named=True)
        sentence += (
            f"; bits per base fall from {plus_minus(worst['bits_per_base'], worst['bits_per_base_se'])} to "
            f"{plus_minus(best['bits_per_base'], best['bits_per_base_se'])} (± one standard error)"
            f"{_against_baselines(study, best)}"
        )
    return sentence + "."


def _monotone_sentences(study: StudyOutput, arm: str) -> list[str]:
    """Say at how many steps from one budget, and one size, to the next the held-out loss falls."""
    sentences = []
    for along, over, name in (("n_tokens", "size", "budget"), ("n_params", "n_tokens", "size")):
        steps = steps_along(study, arm, along, over)
        if steps.n:
            kind = "paired standard errors" if steps.is_paired else "standard errors, not paired"
            sentences.append(
                f"From one {name} to the next, held-out bits per base fall at {steps.falls} of "
                f"{_plural(steps.n, 'step')}: at {steps.clear_falls} by more than two {kind}; they rise by as much at "
                f"{steps.clear_rises}."
            )
    return sentences


def _order_sentences(study: StudyOutput, arm: str) -> list[str]:
    """Say what the best model of an arm loses when rows are read in other orders."""
    asked = study.points(arm).drop_nulls("cost_reversed").sort("bits_per_base")
    if asked.is_empty():
        return []
    best = asked.row(0, named=True)
    costs = [
        f"{words} costs {plus_minus(best[f'cost_{name}'], best[f'cost_{name}_se'])}"
        for name, words in ORDERS.items()
        if best[f"cost_{name}"] is not None
    ]
    return [
        f"Does it read order? Of its best model ({best['size']}, {compact(best['n_tokens'])} tokens) "
        f"{', '.join(costs)} bits per base (± paired standard error)."
    ]


def _published_sentences(study: StudyOutput, arm: str) -> list[str]:
    original, law = published(study, arm), study.law(arm)
    if original is None or law is None or not law.has_converged:
        return []
    bounds = law.interval("a") if law.is_usable else None
    sentence = (
        f"The original study printed a = {original.n.slope:.3f} for this arm, without an interval, by its own rule"
    )
    if bounds is not None:
        inside = bounds[0] <= original.n.slope <= bounds[1]
        sentence += f"; that lies {'inside' if inside else 'outside'} the interval found here"
    sentence += ", at far larger models and compute." if is_far(study) else "."
    return [sentence]


def between_arms(study: StudyOutput) -> list[str]:
    """Return one sentence for each pair of arms.

    The mean difference, its interval, and what it allows to say.
    """
    sentences = []
    for d in differences(study):
        better, worse = (d.arm, d.other) if d.mean < 0 else (d.other, d.arm)
        verdict = f"{better} scores better than {worse}" if d.is_clear else "no difference can be told from noise"
        sentences.append(
            f"{d.arm} − {d.other}: {signed(d.mean)} bits per base (95 % interval {signed(d.low)} to {signed(d.high)}; "
            f"{d.n_cells} pairs from {d.n_runs} runs each{_on_clusters(d.n_clusters)}): {verdict}."
        )
    return sentences


def _on_clusters(n: int) -> str:
    return f" on {n} clusters of held-out DNA" if n else ""


def tokenizers_compared(study: StudyOutput) -> list[str]:
    """Return one sentence for each pair of tokenizers and each score: at equal tokens, bases and FLOPs."""
    by_pair: dict[tuple[str, str, str], list[EqualDifference]] = {}
    for d in equal_differences(study):
        by_pair.setdefault((d.arm, d.other, d.score), []).append(d)
    return [
        f"{arm} − {other}, bits per base of {SCORES[score]}: {'; '.join(_at_equal(d) for d in found)}."
        for (arm, other, score), found in by_pair.items()
    ]


def _at_equal(d: EqualDifference) -> str:
    what = f"at equal {EQUAL[d.equal]}"
    if d.mean is None:
        return f"{what} no amount that both reach"
    if d.low is None or d.high is None:
        return f"{what} {signed(d.mean)} (one run, no interval)"
    better = "" if d.low <= 0 <= d.high else f", {d.arm if d.mean < 0 else d.other} better"
    return f"{what} {signed(d.mean)} ({signed(d.low)} to {signed(d.high)}{better})"


def what_was_run(study: StudyOutput) -> list[str]:
    """Describe the study in sentences: genome, held-out DNA, arms, sizes, budgets."""
    genome, ladder = study.study.get("genome", {}), study.study.get("ladder", {})
    sentences = []
    if genome:
        panel = ", ".join(_source(name) for name in genome.get("panel", [])) or "none"
        held = ", ".join(genome.get("holdout", []))
        sentences.append(
            f"Reference: {_source(genome.get('reference', 'unknown'))}. Phased panel: {panel}. "
            f"Held-out DNA, never read by training in any haplotype: {held}."
        )
    if ladder:
        budgets = ", ".join(compact(float(d)) for d in ladder.get("tokens", []))
        sentences.append(
            f"{len(study.arms)} arms × {len(ladder.get('sizes', []))} sizes ({', '.join(ladder.get('sizes', []))}) × "
            f"{len(ladder.get('tokens', []))} budgets of data ({budgets} tokens), "
            f"{_plural(ladder.get('seeds', 1), 'seed')}; all budgets of a size are cooldown branches of one run."
        )
    sentences.append(
        f"{len(study.observations)} annealed models were scored; {len(study.curves)} training logs were read."
    )
    return sentences


def _source(name: str) -> str:
    return (
        "the slice that comes with the package (GRCh37 chr20:1–4 Mb, 1000 Genomes phase 3)"
        if name == "embedded"
        else name
    )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
