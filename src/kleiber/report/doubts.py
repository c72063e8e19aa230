"""Sentences of doubt, made from the study's own numbers: how sure its results are, and what it cannot say.

An exponent that is not identified is said once for all arms, with the reasons in plain words and the runs that would
identify it; its numbers are nowhere. Rejected: the verdict of every arm in its own words, which says one thing as often
as there are arms.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from kleiber.report.numbers import compact, interval, span
from kleiber.report.reader import Law, StudyOutput

__all__ = ["Verdict", "basis", "limits", "sureness", "verdict"]

EPOCHS = 4  # up to which repeated data are worth about as much as new (Muennighoff et al. 2023; found for text)
ERRORS = 3  # paired ones that reversal has to cost of a model that is said to read order
TOLD = 2  # arms whose exponents are told one by one
SHOWN = 2  # proposals of further runs, those that most arms ask for
REASONS = {  # what a witness against a means, by its name
    "design": "the grid is too small",
    "parametric": "the fit leaves the exponents open",
    "other counts": "a depends on how parameters are counted",
    "choices": "a depends on choices of the fit",
    "IsoFLOP": "IsoFLOP valleys give another a",
    "pattern": "the losses lie off the law in a pattern",
    "second seeds": "the losses lie further off the law than second seeds do from each other",
    "sizes": "some sizes lie off the law",
    "cuts": "a moves when an edge of the grid is left out",
    "hold-outs": "the law fails to predict points left out",
    "forms": "another form of the law fits much better",
    "repeats": "data were read too often",
    "schedule": "no model was annealed",
}
LARGER = "more sizes and amounts of data, over a factor of 100 and 40"


@dataclass(frozen=True)
class Verdict:
    """Whether the exponent a is identified, and why.

    Attributes
    ----------
    badge, kind
        Two or three words, and ``pass``, ``warn`` or ``fail``.
    says
        One sentence; with the interval of every exponent that is identified.
    reasons
        What speaks against the others, said once for the arms that share it.
    settles
        Which runs would identify them; empty where nothing is open.
    """

    badge: str
    kind: str
    says: str
    reasons: tuple[str, ...] = ()
    settles: str = ""


def verdict(study: StudyOutput) -> Verdict:
    """Judge the exponent a of N_opt ∝ C^a in all arms together, but for those only to be compared."""
    what = "How best to share compute between parameters and data (a in N_opt ∝ C^a)"
    if not study.laws:
        return Verdict("not fitted", "fail", f"{what} is not known: no law was fitted.")
    known = {arm: law for arm in study.arms if (law := study.identified(arm)) is not None}
    judged = [arm for arm in study.arms if arm in known or not study.is_beside(arm)] or list(study.arms)
    open_arms = [arm for arm in judged if arm not in known]
    reasons, settles = _against(study, open_arms)
    if not known:
        where = (
            "in any arm" if len(judged) > 1 else "by this study" if judged == list(study.arms) else f"in {judged[0]}"
        )
        return Verdict("not identified", "fail", f"{what} is not identified {where}.", reasons, settles)
    numbers = [f"{interval(law.estimate('a'), law.interval('a'))} for {arm}" for arm, law in known.items()]
    if len(known) > TOLD:
        numbers = [f"{span([law.interval('a') for law in known.values()])} (all 95 % intervals together)"]
    says = f"{what}: a = {'; '.join(numbers)}. No witness speaks against {'it' if len(known) == 1 else 'them'}."
    if not open_arms:
        return Verdict("identified", "pass", says)
    badge = f"identified in {len(known)} of {len(judged)} arms"
    return Verdict(badge, "warn", f"{says} It is not identified for {_named(open_arms)}.", reasons, settles)


def _against(study: StudyOutput, arms: list[str]) -> tuple[tuple[str, ...], str]:
    """Return the reasons against the exponents of `arms`, each once, and what would settle most of them."""
    found: dict[str, dict[str, str]] = {}  # a reason: the arms that have it, each with its facts
    asked: dict[str, int] = {}
    for arm in arms:
        for reason, facts, settles in _reasons(study.law(arm)):
            found.setdefault(reason, {})[arm] = facts
            if settles:
                asked[settles] = asked.get(settles, 0) + 1
    said = []
    for reason, facts_of in sorted(found.items(), key=lambda one: -len(one[1])):
        known = set(facts_of.values())
        where = f" ({_named(list(facts_of))})" if len(facts_of) < len(arms) else ""
        said.append(reason + (f": {known.pop()}" if len(known) == 1 and "" not in known else "") + where)
    return tuple(said), "; ".join(sorted(asked, key=lambda one: -asked[one])[:SHOWN])


def _named(arms: list[str]) -> str:
    return ", ".join(arms) if len(arms) < 3 else f"{len(arms)} arms"


def _reasons(law: Law | None) -> list[tuple[str, str, str]]:
    """Return what speaks against one law's exponent: in plain words, the facts behind it, and what would settle it."""
    if law is None:
        return [("no parametric law was fitted", "", LARGER)]
    if law.status == "REFUSED":
        return [("no law could be fitted", law.warnings[-1].rstrip(".") if law.warnings else "", LARGER)]
    against = [one for one in law.witnesses if one["agrees"] is False]
    if against:  # facts of the table only: those of a fit are numbers of the exponent that is refused
        is_told = ("design", "repeats")
        return [
            (REASONS.get(one["name"], one["name"]), one["says"] if one["name"] in is_told else "", one["settles"])
            for one in against
        ]
    if not law.has_converged:
        return [(f"the fit did not converge ({law.status})", "", LARGER)]
    return [(law.verdict.removeprefix("a is not usable: ").rstrip(".") or "its witnesses were not asked", "", LARGER)]


def basis(study: StudyOutput) -> str:
    """Say over what the intervals are taken, and how many models are not known to read order."""
    seeds = study.observations.group_by("arm", "size", "n_tokens").agg(pl.col("seed").n_unique())["seed"]
    if not len(seeds):
        return ""
    runs = study.observations.select("arm", "size", "seed").n_unique()
    clusters = study.clusters.select("contig", "start").n_unique()
    text = f"Intervals are over {runs} runs ({'one seed each' if seeds.max() == 1 else 'some with second seeds'})"
    text += f" and {clusters} clusters of held-out DNA." if clusters else "."
    n_blind, n_asked = (len(part) for part in _blind(study))
    return f"{text} {n_blind} of {n_asked} models cannot be shown to read order." if n_blind else text


def sureness(study: StudyOutput) -> list[str]:
    """Say what else bears on the numbers: what fits say against themselves, hold-outs, order."""
    laws = [law for arm in study.arms if (law := study.law(arm)) is not None]
    warned: dict[str, list[str]] = {}
    for law in laws:
        for warning in law.warnings:
            if not _is_said_above(warning):
                warned.setdefault(warning.rstrip("."), []).append(law.arm)
    sentences = [f"{', '.join(arms)}: {warning}." for warning, arms in warned.items()]
    if laws and not any(law.raw.get("holdouts") for law in laws):
        sentences.append("No hold-out was made: how well the laws predict models that they have not seen is not known.")
    return sentences + _blind_to_order(study)


def _is_said_above(warning: str) -> bool:
    return warning.startswith(("a is not usable", "what would settle it")) or warning.endswith("is not identified")


def _blind(study: StudyOutput) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the models to which the order of tokens makes no difference that can be told, and all that were asked."""
    asked = study.observations.drop_nulls("cost_reversed")
    is_told = (pl.col("cost_reversed") > ERRORS * pl.col("cost_reversed_se").fill_nan(None)).fill_null(False)
    return asked.filter(~is_told), asked


def _blind_to_order(study: StudyOutput) -> list[str]:
    """Warn of those models by name."""
    blind, asked = _blind(study)
    if blind.is_empty():
        return []
    names = blind.group_by("arm", maintain_order=True).agg(pl.col("size").unique(maintain_order=True))
    listed = "; ".join(f"{arm}: {', '.join(sizes)}" for arm, sizes in names.iter_rows())
    return [
        f"Warning: {len(blind)} of {len(asked)} models lose less than {ERRORS:g} paired standard errors when rows are "
        f"read backwards ({listed}): they have learned which tokens stand near, but not their order, as far as can be "
        "told."
    ]


def limits(study: StudyOutput) -> list[str]:
    """Return what the study cannot say, with its own numbers; what matters most first."""
    table = study.observations
    sentences = []
    if len(table):
        largest, most = compact(table["n_params_non_embedding"].max()), compact(table["flops"].max())  # type: ignore[arg-type]
        sentences.append(
            f"What larger models do: the largest here has {largest} parameters beside its embeddings, and the most "
            f"compute is {most} FLOPs."
        )
    if any(study.sampling(arm) == "variant" for arm in study.arms):
        sentences.append("How well variants are predicted: all are scored on the reference.")
    epochs = max([0.0, *(float(study.fitted(arm)["epochs"].max() or 0) for arm in study.arms)])  # type: ignore[arg-type]
    if epochs > EPOCHS:
        sentences.append(
            f"What new data would do: DNA was read up to {epochs:.2g} times, beyond about {EPOCHS} times it is "
            "worth less than new DNA (Muennighoff et al. 2023), and D counts both alike."
        )
    return [
        *sentences,
        "How it compares with compressors: a masked loss is a pseudo-likelihood, no code length.",
        "Whether a bend is that of the law or of the rule for learning rates.",
    ]
