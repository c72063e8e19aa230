"""Every public name says what its signature cannot: shapes, units, errors.

Read from the source alone, so that it costs nothing. Public is what a module's ``__all__`` names, and the public
methods and properties of those classes.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from kleiber import errors

SOURCE = Path(errors.__file__).parent
LONGEST = 100  # 72 is the aim, and half of the docstrings are there
KINDS = set(errors.__all__) - {"nearest"}
SHAPE = re.compile(r"\([^()\n]*,[^()\n]*\)|shape")
ARRAY = re.compile(r"^(tuple\[)?(NDArray|Tensor|torch\.Tensor)\b")
VERBS_IN_S = ("ss",)  # pass, process, compress


def public(path: Path) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """Return the public functions, classes and methods of a module by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    found: dict[str, ast.FunctionDef | ast.ClassDef] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and named and node.name in named[0]:
            found[node.name] = node
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    found[f"{node.name}.{inner.name}"] = inner
    return found


PUBLIC = {
    f"{path.relative_to(SOURCE).with_suffix('')}:{name}": node
    for path in sorted(SOURCE.rglob("*.py"))
    for name, node in public(path).items()
}
FUNCTIONS = {name: node for name, node in PUBLIC.items() if isinstance(node, ast.FunctionDef)}


def is_property(node: ast.FunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def lacks(what: dict[str, str]) -> None:
    assert not what, "\n".join(f"{name}: {reason}" for name, reason in what.items())


def test_there_is_something_to_look_at():
    assert len(PUBLIC) > 400


def test_every_public_name_begins_with_a_sentence():
    bad = {}
    for name, node in PUBLIC.items():
        first = (ast.get_docstring(node) or "").partition("\n")[0]
        if not first.endswith((".", ":")) or len(first) > LONGEST:
            bad[name] = f"its docstring begins with {first!r}, {len(first)} characters"
    lacks(bad)


def test_functions_say_what_they_do_in_the_imperative():
    bad = {}
    for name, node in FUNCTIONS.items():
        word = re.split(r"\W", ast.get_docstring(node) or "")[0]
        is_verb = word[:1].isupper() and (not word.endswith("s") or word.endswith(VERBS_IN_S))
        if not is_property(node) and not is_verb:
            bad[name] = f"{word!r} is no imperative"
    lacks(bad)


def test_errors_that_are_raised_are_said():
    """A `KleiberError` that a body raises, or a base of it, stands in the docstring; a verb's exit code 2 is enough."""
    bad = {}
    for name, node in FUNCTIONS.items():
        said = ast.get_docstring(node) or ""
        for kind in raised(node):
            lineage = {base.__name__ for base in getattr(errors, kind).__mro__} & KINDS
            if not any(re.search(rf"\b{base}\b", said) for base in lineage) and not name.startswith("cli/"):
                bad[name] = f"raises {kind} and does not say so"
    lacks(bad)


def raised(node: ast.FunctionDef) -> set[str]:
    calls = (inner.exc for inner in ast.walk(node) if isinstance(inner, ast.Raise))
    return {ast.unparse(call.func) for call in calls if isinstance(call, ast.Call)} & KINDS


def test_arrays_have_shapes():
    """Where an array or tensor goes in or comes out, the docstring has a shape, such as ``(n, length)``."""
    bad = {}
    for name, node in FUNCTIONS.items():
        arguments = [*node.args.args, *node.args.kwonlyargs]
        kinds = [ast.unparse(kind) for kind in (*(a.annotation for a in arguments), node.returns) if kind is not None]
        if any(ARRAY.match(kind) for kind in kinds) and not SHAPE.search(ast.get_docstring(node) or ""):
            bad[name] = "has arrays and says no shape"
    lacks(bad)


def test_modules_say_what_they_are_for():
    for path in SOURCE.rglob("*.py"):
        assert path.read_text().startswith('"""') or not path.read_text(), path
