"""What a study's design can and cannot show, judged before a second is spent."""

from __future__ import annotations

from kleiber.study.config import Study

__all__ = ["checklist"]


def checklist(study: Study) -> list[dict[str, str]]:
    """Judge a design; one entry a check, with what the study has.

    Returns
    -------
    ``{"check": ..., "status": "pass" | "warn" | "fail", "detail": ...}``. A law in N and D needs several of each; a
    statement about noise needs replicates; one about repeats needs repeats.
    """
    ladder, train = study.ladder, study.train
    sizes, budgets = len(ladder.sizes), len(ladder.tokens)
    reach = ladder.tokens[-1] / ladder.tokens[0]
    whole = all(":" not in region for region in study.genome.holdout)
    return [
        _check("at least 5 sizes under one rule of shape", sizes >= 5, sizes >= 3, f"{sizes} sizes"),
        _check("at least 4 annealed budgets a size", budgets >= 4, budgets >= 3, f"{budgets} budgets"),
        _check("budgets over a factor of 4 or more", reach >= 4, reach >= 2, f"a factor of {reach:.3g}"),
        _check(
            "learning rate by size",
            train.lr_exponent != 0,
            True,
            f"{train.lr:g} at {train.lr_size:g} parameters, times (N / {train.lr_size:g})^{train.lr_exponent:g}",
        ),
        _check("at least 2 seeds", ladder.seeds >= 2, True, f"{ladder.seeds} a run"),
        _check("whole contigs held out", whole, bool(study.genome.holdout), ", ".join(study.genome.holdout)),
        _check(
            "repeats varied on purpose",
            len(ladder.unique) >= 3,
            True,
            f"unique share of the territory: {', '.join(f'{u:g}' for u in ladder.unique)}",
        ),
    ]


def _check(name: str, is_good: bool, is_tolerable: bool, detail: str) -> dict[str, str]:
    return {"check": name, "status": "pass" if is_good else "warn" if is_tolerable else "fail", "detail": detail}
