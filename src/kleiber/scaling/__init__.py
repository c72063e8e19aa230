"""Laws of L(N, D) from a table: fits, frontiers, uncertainty, plans. No torch; every result says whether to believe it.

Reading order: `observations`, `laws`, `fit`, `valleys`, `frontier`, `elasticities`, `uncertainty`, `misfit`, `cuts`,
`witnesses`, `planner`.
"""

from kleiber.scaling.elasticities import elasticities
from kleiber.scaling.exclusions import leave_out
from kleiber.scaling.fit import fit
from kleiber.scaling.frontier import LossCurve, envelope, gradient_rule, isoflop
from kleiber.scaling.holdouts import compare_forms, holdout
from kleiber.scaling.observations import Observations, read_table
from kleiber.scaling.planner import next_runs, plan_budget
from kleiber.scaling.result import FitResult
from kleiber.scaling.uncertainty import compare, profile
from kleiber.scaling.witnesses import agree, examine

__all__ = [
    "FitResult",
    "LossCurve",
    "Observations",
    "agree",
    "compare",
    "compare_forms",
    "elasticities",
    "envelope",
    "examine",
    "fit",
    "gradient_rule",
    "holdout",
    "isoflop",
    "leave_out",
    "next_runs",
    "plan_budget",
    "profile",
    "read_table",
]
