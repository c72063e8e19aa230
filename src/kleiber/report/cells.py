"""What a table of a report is: cells of text, each with a value to sort by."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cell", "Table"]


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, and the number it sorts by (its text when there is none)."""

    text: str
    value: float | None = None

    @property
    def kind(self) -> str:
        """How the cell may break: at blanks when it is long, anywhere when it is one long word."""
        if max(map(len, self.text.split()), default=0) > 24:
            return "token"
        return "long" if len(self.text) > 40 else ""


@dataclass(frozen=True)
class Table:
    """One sortable table."""

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
