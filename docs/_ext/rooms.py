"""The directive ``room``: every module of a package, each after those of the package that it imports.

``sphinx.ext.autosummary`` was rejected: it lists by the alphabet, and a package here is read from its ground up.
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


def modules(name: str) -> list[str]:
    """Return the modules of a package in reading order; a module that is no package is its own."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None, f"{name} is no package with a file"
    if spec.submodule_search_locations is None:
        return [name]
    folder = Path(spec.origin).parent
    found = sorted(f"{name}.{module.name}" for module in iter_modules([str(folder)]))
    needs = {module: _imports(folder / f"{module.rpartition('.')[2]}.py") & set(found) for module in found}
    head = [name] if ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) else []
    return head + list(TopologicalSorter(needs).static_order())


def _imports(path: Path) -> set[str]:
    """Return the modules that a file imports at its top."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


class Room(SphinxDirective):
    """``.. room:: NAME…``: a section for each module, made by automodule."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        lines = []
        for module in (module for name in self.arguments[0].split() for module in modules(name)):
            title = f"``{module}``"
            own = [] if len(modules(module)) == 1 else ["   :no-members:"]  # a package's names are its modules'
            lines += [title, "=" * len(title), "", f".. automodule:: {module}", *own, ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("room", Room)
    return {"parallel_read_safe": True}
