"""What a panel keeps of its records: the choices that a build and a study file offer.

Apart from the code that follows them, so that reading a study file loads no compiler.
"""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.errors import ConfigError

__all__ = ["POLICIES", "UNPHASED", "PanelRules", "RecordRules"]

POLICIES = ("bcftools", "edits")
UNPHASED = ("error", "skip", "as-is", "random")


@dataclass(frozen=True)
class RecordRules:
    """What a study says of a panel's records: the keys that `PanelRules` and ``[genome]`` share.

    Attributes
    ----------
    policy
        Which of two conflicting edits of a haplotype wins, ``"bcftools"`` or ``"edits"`` (see `kleiber.genome.edits`).
    min_af, min_ac
        ALT alleles rarer than this among the panel's own haplotypes are dropped.
    only_pass
        Drop records whose FILTER is neither PASS nor missing.
    unphased
        Heterozygotes written with ``/``: ``"error"``, ``"skip"``, ``"as-is"``, or ``"random"``: in an order that
        a seed, the sample and the record decide.
    ref_mismatch
        Records whose REF is not the reference's: ``"error"`` or ``"skip"``.
    sv
        ``"skip"`` drops symbolic alleles; ``"del"`` takes ``<DEL>`` as the deletion that it is.
    """

    policy: str = "bcftools"
    min_af: float = 0.0
    min_ac: int = 0
    only_pass: bool = False
    unphased: str = "error"
    ref_mismatch: str = "error"
    sv: str = "skip"


@dataclass(frozen=True)
class PanelRules(RecordRules):
    """What a panel keeps of its records.

    Attributes
    ----------
    seed
        Decides what `unphased` leaves to chance.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "policy": POLICIES,
            "unphased": UNPHASED,
            "ref_mismatch": ("error", "skip"),
            "sv": ("skip", "del"),
        }
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f"{key} = {getattr(self, key)!r} cannot be; choose one of {', '.join(allowed)}.")
        if not 0 <= self.min_af < 1 or self.min_ac < 0:
            raise ConfigError(f"min_af = {self.min_af} and min_ac = {self.min_ac} cannot be: a share and a count.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed = {self.seed} cannot be: it lies in 0 … 2^63 - 1.")
