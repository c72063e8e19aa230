"""How numbers are printed: never more digits than their interval supports, never a number without its doubt."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["compact", "count", "decimals", "interval", "plus_minus", "signed", "span"]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decimals(error: float, most: int = 6) -> int:
    """Return how many decimals show two significant digits of an error."""
    if not math.isfinite(error) or error <= 0:
        return 3
    return min(most, max(0, 1 - math.floor(math.log10(error))))


def plus_minus(value: float | None, error: float | None) -> str:
    """Print ``1.868 ± 0.003``, or the bare number with three decimals where no error is known."""
    if value is None or not math.isfinite(value):
        return "–"
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.3f}"
    digits = decimals(error, 4)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def interval(value: float | None, bounds: tuple[float, float] | None, level: str = "95 % interval ") -> str:
    """Print ``0.52 (95 % interval 0.41 to 0.66)``, or say that there is no interval."""
    if value is None or not math.isfinite(value):
        return "–"
    if bounds is None:
        return f"{value:.3g} (no interval)"
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{value:.3g} ({level}{_end(low)} to {_end(high)})"
    half = (high - low) / 2
    if half == 0 or abs(value) >= 1e5 or (abs(value) > 30 * half and abs(value) >= 1e3):
        return f"{value:.4g} ({level}{low:.4g} to {high:.4g})"
    digits = decimals(half, 4)
    if half >= 100:
        return f"{value:.3g} ({level}{low:.3g} to {high:.3g})"
    return f"{value:.{digits}f} ({level}{low:.{digits}f} to {high:.{digits}f})".replace("-", "−")


def span(bounds: Iterable[tuple[float, float] | None]) -> str:
    """Print what several intervals cover together: ``0.41 to 0.58``."""
    known = [one for one in bounds if one is not None]
    return f"{min(low for low, _ in known):.2f} to {max(high for _, high in known):.2f}" if known else "–"


def signed(value: float, digits: int = 4) -> str:
    """Print a difference with its sign, a true minus included."""
    return f"{value:+.{digits}f}".replace("-", "−")


def count(value: float | None) -> str:
    """Print a count in full with thin spaces: ``14 963 712``."""
    return "–" if value is None else f"{round(value):,}".replace(",", "\u202f")


def compact(value: float | None) -> str:
    """Print a large number briefly: ``2.0M``, ``3.1 × 10¹³``."""
    if value is None or not math.isfinite(value):
        return "–"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if limit <= abs(value) < 1000 * limit and abs(value) < 1e11:
            return f"{value / limit:.3g}{letter}"
    if abs(value) < 1e3:
        return f"{value:.3g}"
    power = math.floor(math.log10(abs(value)))
    return f"{value / 10**power:.1f} × 10{str(power).translate(_SUPERSCRIPT)}"


def _end(value: float) -> str:
    if math.isfinite(value):
        return f"{value:.3g}"
    return "∞" if value > 0 else "−∞"
