"""How options are written that verbs of several rooms have."""

from __future__ import annotations

from cyclopts import Parameter

__all__ = ["Flag", "Several"]

Flag = Parameter(negative="")
"""Said or not said; there is no `--no-`."""
Several = Parameter(consume_multiple=True, negative="")
"""Values one behind the other."""
