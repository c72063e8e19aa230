"""Sentences of a report, made from its numbers: the answer in brief, what arms change, what was run.

No result is written by hand: a study of other DNA, or of half its runs, gets other sentences. Each number stands with
its interval, and an exponent that the data do not determine is no number at all: how sure the rest is, and what cannot
be said, is in `doubts`.
"""

from __future__ import annotations

from kleiber.report.doublings import Gain, gains
from kleiber.report.measures import Difference, differences, strongest_baselines
from kleiber.report.numbers import compact, decimals, plus_minus, signed, span
from kleiber.report.reader import Law, StudyOutput
from kleiber.report.tokenizers import MASKED, SAME_BASES, equal_differences, unmoved

__all__ = ["between_arms", "in_brief", "subject", "what_was_run"]

FEW = 4  # arms that a line can name
WHAT = ("data", "parameters")


def in_brief(study: StudyOutput) -> list[str]:
    """Return what a reader takes home: what compute buys, and what the arms change."""
    if study.observations.is_empty():
        return ["No model of this study has been scored yet: there is nothing to conclude."]
    said = [_law_in_brief(study), _gains_in_brief(study), *_pairs_in_brief(study)]
    said = [text for text in said if text]
    return said if len(said) > 1 else [text for text in (*said, _best(study)) if text]


def _law_in_brief(study: StudyOutput) -> str:
    """Say how compute is best spent by the laws whose exponent is identified; nothing where there is none."""
    laws = [law for arm in study.arms if (law := study.identified(arm)) is not None]
    bounds = [found for law in laws if (found := law.interval("a"))]
    if not bounds:
        return ""
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    if len(laws) == 1:
        return f"{_tenfold(laws[0])} {_balance(low, high)}"
    return (
        f"In {len(laws)} of {len(study.arms)} arms the data determine how compute is best shared: 95 % intervals of a "
        f"in N_opt ∝ C^a span {span(bounds)}. {_balance(low, high)}"
    )


def _tenfold(law: Law) -> str:
    """Say what a means to somebody who is about to spend ten times the compute."""
    a, (low, high) = law.estimate("a"), law.interval("a") or (float("nan"), float("nan"))
    return (
        f"By the law of {law.arm}, ten times the compute is best spent on {10**a:.1f} times the parameters (95 % "  # type: ignore[operator]
        f"interval {10**low:.1f} to {10**high:.1f}) and {10 ** (1 - a):.1f} times the data ({10 ** (1 - high):.1f} to "  # type: ignore[operator]
        f"{10 ** (1 - low):.1f})."
    )


def _balance(low: float, high: float) -> str:
    if low > 0.5:
        return "Within this range, more compute is better spent on parameters than on data."
    if high < 0.5:
        return "Within this range, more compute is better spent on data than on parameters."
    return "Equal growth of parameters and data is within that."


def _gains_in_brief(study: StudyOutput) -> str:
    """Say what twice the data and twice the parameters take off the loss, no law assumed."""
    found = {arm: one for arm in study.arms if any(one := gains(study, arm))}
    if not found:
        return ""
    arm, of_arm = next(iter(found.items()))
    clear = [sum(gain is not None and gain.is_clear for gain in of) for of in zip(*found.values(), strict=True)]
    if clear == [len(found)] * 2:
        lead = "More data and more parameters both lower the loss" + (_where(len(found), len(study.arms)))
    elif len(found) > 1:
        lead = f"More data lower the loss clearly in {clear[0]} of {len(found)} arms, more parameters in {clear[1]}"
    else:
        lead = "; ".join(_whether(what, gain) for what, gain in zip(WHAT, of_arm, strict=True))
    numbers = [f"twice the {what} takes off {_gain(gain)}" for what, gain in zip(WHAT, of_arm, strict=True) if gain]
    return f"{lead[0].upper()}{lead[1:]}: {', '.join(numbers)} bits per base{f' in {arm}' if len(found) > 1 else ''}."


def _where(n: int, of: int) -> str:
    if of == 1:
        return ""
    return " in every arm" if n == of else f" in all {n} arms that vary both"


def _whether(what: str, gain: Gain | None) -> str:
    if gain is None:
        return f"what more {what} do was not asked"
    return f"more {what} lower the loss" if gain.is_clear else f"whether more {what} lower the loss cannot be told"


def _gain(one: Gain) -> str:
    digits = decimals((one.high - one.low) / 2, 4)
    ends = f"{one.low:.{digits}f} to {one.high:.{digits}f}"
    return f"{one.value:.{digits}f} (95 % interval {ends})".replace("-", "−")


def _pairs_in_brief(study: StudyOutput) -> list[str]:
    """Say what the corpora and the tokenizers change, each in one sentence."""
    alike = [
        d
        for d in differences(study)
        if study.tokenizer(d.arm) == study.tokenizer(d.other) and study.sampling(d.arm) != study.sampling(d.other)
    ]
    corpora = [_extreme("corpora", "at equal size and tokens", alike)] if alike else []
    return [*corpora, _tokenizers_in_brief(study)]


def _tokenizers_in_brief(study: StudyOutput) -> str:
    """Say what tokenizers change on the same bases, or on masked tokens where those show nothing of what is learned."""
    pairs: dict[str, list[Difference]] = {MASKED: [], SAME_BASES: []}
    for d in equal_differences(study):
        if d.equal == "flops" and d.mean is not None and d.low is not None and d.high is not None:
            one = Difference(d.arm, d.other, d.mean, d.low, d.high, d.n_points, d.n_runs)
            pairs[d.score].append(one)
    still = {one.arm: one for one in unmoved(study)}
    fair = [d for d in pairs[SAME_BASES] if not {d.arm, d.other} & still.keys()]
    if fair:
        return _extreme("tokenizers", "on the same bases, at equal size and compute", fair)
    if not pairs[SAME_BASES]:
        return ""
    masked = _extreme("tokenizers", "on masked tokens, at equal size and compute", pairs[MASKED])
    return (
        f"{masked} A part of that is what the cuts between tokens give away, and how much cannot be told: the score on "
        f"the same bases for all has none of it, but {next(iter(still.values())).words}."
    )


def _extreme(name: str, how: str, pairs: list[Difference]) -> str:
    clear = sorted((d for d in pairs if d.is_clear), key=lambda d: -abs(d.mean))
    if not clear:
        reach = max(max(-d.low, d.high) for d in pairs)
        said = f"Between {name} nothing differs beyond noise {how}"
        return f"{said}: every interval lies within ±\u202f{reach:.4f} bits per base."
    d = clear[0]
    better, worse = (d.arm, d.other) if d.mean < 0 else (d.other, d.arm)
    low, high = sorted((abs(d.low), abs(d.high)))
    which = f"{len(clear)} of {len(pairs)} pairs differ {how}, most " if len(pairs) > 1 else f"{how}, "
    return (
        f"Between {name}, {which}{better} below {worse} by {abs(d.mean):.4f} bits per base ({low:.4f} to {high:.4f})."
    )


def _best(study: StudyOutput) -> str:
    """Say how well the best network does, beside the best that needs none."""
    scored = study.observations.drop_nulls("bits_per_base").sort("bits_per_base")
    if scored.is_empty():
        return ""
    best = scored.row(0, named=True)
    text = (
        f"The best network ({best['size']}, {compact(best['n_tokens'])} tokens) scores "
        f"{plus_minus(best['bits_per_base'], best['bits_per_base_se'])} bits per base"
    )
    opponents = strongest_baselines(study, str(best["arm"]))
    if not opponents:
        return text + "."
    name = min(opponents, key=lambda one: opponents[one][0])
    return f"{text}; the best without a network ({name}) {plus_minus(*opponents[name])} (± one standard error)."


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


def subject(study: StudyOutput) -> str:
    """Say in a line what was studied: arms with corpus and tokenizer, sizes and budgets."""
    ladder = study.study.get("ladder", {})
    arms = ", ".join(f"{arm} ({study.sampling(arm)}, {study.tokenizer(arm)})" for arm in study.arms[:FEW])
    more = f" and {len(study.arms) - FEW} more" if len(study.arms) > FEW else ""
    sizes = f"; {len(study.sizes)} sizes, {study.sizes[0]}–{study.sizes[-1]}" if study.sizes else ""
    tokens = [float(d) for d in ladder.get("tokens", [])] or study.observations["n_tokens"].unique().to_list()
    read = f"; {compact(min(tokens))}–{compact(max(tokens))} tokens" if tokens else ""
    return f"Arms: {arms}{more}{sizes}{read}"


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
        beside = ", ".join(arm for arm in study.arms if study.is_beside(arm))
        some = f", of which {beside} have some" if beside else ""
        sentences.append(
            f"{len(study.arms)} arms × {len(ladder.get('sizes', []))} sizes ({', '.join(ladder.get('sizes', []))}) × "
            f"{len(ladder.get('tokens', []))} budgets of data ({budgets} tokens){some}, "
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
