"""Laws of L(N, D) from a table: fits, frontiers, uncertainty, plans. No torch; every result says whether to believe it.

Reading order: `observations`, `laws`, `fit`, `frontier`, `elasticities`, `uncertainty`, `planner`.
"""

from kleiber.scaling.elasticities import elasticities
from kleiber.scaling.fit import fit
from kleiber.scaling.frontier import LossCurve, envelope, gradient_rule, isoflop
from kleiber.scaling.observations import Observations, read_table
from kleiber.scaling.planner import next_runs, plan_budget
from kleiber.scaling.result import FitResult
from kleiber.scaling.uncertainty import compare, compare_forms, examine, holdout, profile

__all__ = [
    "FitResult",
    "LossCurve",
    "Observations",
    "compare",
    "compare_forms",
    "elasticities",
    "envelope",
    "examine",
    "fit",
    "gradient_rule",
    "holdout",
    "isoflop",
    "next_runs",
    "plan_budget",
    "profile",
    "read_table",
]
