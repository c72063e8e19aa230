"""The directive ``verbs``: every verb of the command line, from the application and the docstrings of its functions.

``cyclopts.ext.sphinx`` (5.4) was tried: its sections below a group of verbs are errors in docutils, and a description
loses its literals.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter, signature
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from cyclopts import App
from docstring_parser import parse
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

WORDS = {Path: "PATH", str: "TEXT", int: "INT", float: "NUMBER"}


def verbs(node: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Yield every verb below a node as its words and its application, groups before what is in them."""
    for name in node:
        if not name.startswith("-"):
            yield (*path, name), node[name]
            yield from verbs(node[name], (*path, name))


def options(verb: App) -> Iterator[tuple[str, str, str]]:
    """Yield each option of a verb: how it is written, its default, and its help.

    Raises
    ------
    KeyError
        When the docstrings do not say what an option is for.
    """
    arguments = verb.assemble_argument_collection()
    own = signature(verb.default_command).parameters
    documented = [verb.default_command, *(argument.hint for argument in arguments if not argument.show)]
    helps = {
        (entry.args[-1] if entry.args else entry.arg_name): entry.description
        for thing in documented
        for entry in parse(thing.__doc__ or "").params
    }
    for argument in arguments:
        if argument.show:
            name = argument.name.lstrip("-").replace("-", "_").lower()
            told = "required" if argument.required else _shown(argument.field_info.default)
            written = f"{argument.name} {_value(argument.hint)}".strip()
            if name in own and own[name].kind is Parameter.POSITIONAL_OR_KEYWORD:
                written = f"{name.upper()}, {written}"
            shared = argument.parameter.help  # of an option that several verbs have
            yield written, told, shared or helps.get(name) or helps[argument.field_info.names[0]] or ""


def _value(hint: Any) -> str:
    """Say what follows an option."""
    if hint is bool:
        return ""
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (tuple, list):
        return f"{_value(get_args(hint)[0])}..."
    if isinstance(hint, UnionType):
        return _value(next(kind for kind in get_args(hint) if kind is not type(None)))
    return WORDS[hint]


def _shown(default: Any) -> str:
    """Say what is taken when an option is not given; nothing when that is nothing."""
    if default in (None, (), "", False):
        return ""
    values = default if isinstance(default, tuple) else (default,)
    return "default: " + " ".join(f"``{f'{v:g}' if isinstance(v, float) else v}``" for v in values)


class Verbs(SphinxDirective):
    """``.. verbs::``: a section for each verb of `kleiber.cli.app`."""

    def run(self) -> list[nodes.Node]:
        from kleiber.cli import app

        lines: list[str] = []
        for words, verb in verbs(app):
            title = f"``kleiber {' '.join(words)}``"
            lines += [f".. _{'-'.join(('kleiber', *words))}:", "", title, "=" * len(title), ""]
            if verb.default_command is None:
                lines += [verb.help, ""]
                continue
            about = parse(verb.default_command.__doc__)
            lines += [about.short_description, "", *(about.long_description or "").splitlines(), ""]
            lines += [f".. program:: kleiber {' '.join(words)}", ""]
            for written, told, text in options(verb):
                lines += [
                    f".. option:: {written}",
                    "",
                    f"   {' '.join(text.split())}{f' ({told})' if told else ''}",
                    "",
                ]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("verbs", Verbs)
    return {"parallel_read_safe": True}
