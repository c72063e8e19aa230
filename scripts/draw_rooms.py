"""Draw the rooms of kleiber and who imports whom, from the imports themselves: `docs/figures/rooms.svg`.

    python scripts/draw_rooms.py

A room stands above those that it imports. An arrow that follows from others is left out, and so are those to the
ground floor, on which everything stands. Rejected: a diagram kept by hand, which is wrong after a month, and Graphviz,
a program that not every machine has for ten boxes.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from graphlib import TopologicalSorter
from html import escape
from importlib import import_module
from pathlib import Path

import grimp

SVG = Path(__file__).parents[1] / "docs" / "figures" / "rooms.svg"
GROUND = ("errors", "storage", "counter", "signals")
WIDTH, BOX, HIGH, GAP, EDGE = 900, 216, 60, 48, 14
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #4b5563 }
.name { font-weight: 600; font-size: 14px; fill: #111827 }
rect { fill: #f3f4f6; stroke: #9ca3af; rx: 6px }
path { stroke: #6b7280; fill: none }
"""


def imports() -> dict[str, set[str]]:
    """Return the rooms that each room imports, anywhere in its files."""
    graph = grimp.build_graph("kleiber")
    found: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            importer, imported = room(module), room(other)
            if importer != imported and imported != "kleiber" and not importer.startswith("__"):
                found[importer].add(imported)
    return found


def room(module: str) -> str:
    """Return the room of a module: the package below kleiber, or the file."""
    return [*module.split("."), "kleiber"][1]


def storeys(needs: dict[str, set[str]]) -> list[list[str]]:
    """Return the rooms by storey, the lowest first: each as low as what it imports lets it be."""
    level: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        level[name] = 1 + max((level[other] for other in needs.get(name, ())), default=-1)
    return [sorted(name for name in level if level[name] == at) for at in range(max(level.values()) + 1)]


def direct(needs: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the imports that do not follow from others."""

    def below(name: str) -> set[str]:
        return set().union(*({other} | below(other) for other in needs.get(name, ())))

    pairs = {(name, other) for name, others in needs.items() for other in others}
    return {(name, other) for name, other in pairs if not any(other in below(third) for third in needs[name])}


def draw() -> str:
    """Return the drawing as SVG."""
    needs = {name: others - set(GROUND) for name, others in sorted(imports().items()) if name not in GROUND}
    floors = storeys(needs)
    height = len(floors) * (HIGH + GAP) + HIGH
    place: dict[str, tuple[float, float]] = {}
    arrows = sorted(direct(needs))
    for at in reversed(range(len(floors))):

        def above(name: str) -> float:
            """Return where the rooms stand, on average, that import this one: it comes below them."""
            over = [place[top][0] for top, other in arrows if other == name]
            return sum(over) / max(1, len(over))

        for i, name in enumerate(sorted(floors[at], key=above)):
            x = (i + 1) * WIDTH / (len(floors[at]) + 1)
            place[name] = x, height - HIGH - (at + 1) * (HIGH + GAP) + EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 2 * EDGE}" role="img">',
        "<title>The rooms of kleiber; an arrow goes from a room to one that it imports</title>",
        f"<style>{STYLE}</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8"/></marker>',
    ]
    for name, other in arrows:
        (x, y), (to, end) = place[name], place[other]
        bend = (end - y - HIGH) / 2
        curve = f"M{x:.0f} {y + HIGH:.0f} C{x:.0f} {y + HIGH + bend:.0f} {to:.0f} {end - bend:.0f} {to:.0f} {end:.0f}"
        parts.append(f'<path d="{curve}" marker-end="url(#tip)"/>')
    for name, (x, y) in place.items():
        parts += box(x - BOX / 2, y, BOX, name, (import_module(f"kleiber.{name}").__doc__ or "").partition("\n")[0])
    parts += box(EDGE, height - HIGH + EDGE, WIDTH - 2 * EDGE, " · ".join(GROUND), "Every room may stand on these.")
    return "\n".join([*parts, "</svg>", ""])


def box(x: float, y: float, width: float, name: str, about: str) -> list[str]:
    """Return a box with a name and what it is for."""
    parts = [f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{HIGH}"/>']
    parts.append(f'<text class="name" x="{x + 10:.0f}" y="{y + 19:.0f}">{escape(name)}</text>')
    for k, line in enumerate(textwrap.wrap(about.split(":")[0].rstrip("."), 32)):
        parts.append(f'<text x="{x + 10:.0f}" y="{y + 36 + 14 * k:.0f}">{escape(line)}</text>')
    return parts


if __name__ == "__main__":
    SVG.write_text(draw(), encoding="utf-8")
    print(SVG)
