"""The blocks of the README and of docs/**/*.md that a reader would run, with what stands right before each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("console", "python", "toml", "diff")
MARKER = re.compile(r"<!--\s*(not run|into|as):?\s+(.+?)\s*-->")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, its line in the page, and its marker as (``"not run"``, reason).

    The markers ``as FILE`` and ``into FILE`` of code say what a reader does to the sources.
    """

    kind: str
    text: str
    line: int
    marker: tuple[str, str] = ("", "")

    @property
    def is_run(self) -> bool:
        """Whether it is run as it stands; what changes the sources is not."""
        return self.marker[0] not in ("not run", "as") and self.kind != "diff"

    def commands(self) -> list[str]:
        """Return the commands of a console block; a line that ends in a backslash goes on in the next."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def pages() -> list[str]:
    """Return every page as its path from the root."""
    found = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
    return [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *found)]


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page in order."""
    return list(_blocks((ROOT / page).read_text(encoding="utf-8")))


def _blocks(text: str) -> Iterator[Block]:
    before = ""
    for token in MarkdownIt().parse(text):
        if token.type == "fence" and token.info in KINDS:
            found = MARKER.fullmatch(before)
            assert token.map is not None
            yield Block(token.info, token.content, token.map[0] + 1, (found[1], found[2]) if found else ("", ""))
        before = token.content.strip() if token.type == "html_block" else ""
