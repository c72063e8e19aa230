"""TOML into a tree of dataclasses, strictly: every key known, nothing coerced, and errors that show key and value.

Rejected: coercion, by which ``"3"`` is a number and ``true`` is 1, so that a slip of the pen runs for a week.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from math import inf, isfinite
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import cattrs

from kleiber.errors import ConfigError, UnknownName

__all__ = ["structured"]

Tree = TypeVar("Tree")


def structured(raw: dict[str, Any], kind: type[Tree], name: str) -> Tree:
    """Return the tree of a parsed TOML file; `name` is what errors call the file.

    Raises
    ------
    ConfigError, UnknownName
        When a value has another type than its key, a key is missing, or one is unknown.
    """
    _check_keys(raw, kind, name, "")
    try:
        return _converter().structure(raw, kind)
    except cattrs.BaseValidationError as error:
        problems = cattrs.transform_error(error, path=name, format_exception=_explain)
        raise ConfigError("\n  ".join(problems)) from None


def _check_keys(raw: Any, kind: Any, name: str, table: str) -> None:
    """Refuse unknown keys anywhere in the tree, before any value is looked at."""
    if not (is_dataclass(kind) and isinstance(raw, dict)):
        return
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    for key, value in raw.items():
        if key not in known:
            raise UnknownName(key, known, f"[{table}] of {name}" if table else name, kind="key" if table else "table")
        inner = hints[key]
        if get_origin(inner) is dict:
            for line, entry in value.items() if isinstance(value, dict) else ():
                _check_keys(entry, get_args(inner)[1], name, f"{key}.{line}")
        else:
            _check_keys(value, inner, name, f"{table}.{key}" if table else key)


def _converter() -> cattrs.Converter:
    """Return a converter that never coerces: ``"3"`` is no number, ``1.5`` no count, ``true`` no 1."""
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)

    def strict(kind: type, wanted: str, accept: Any) -> None:
        def hook(value: Any, _: Any) -> Any:
            if not accept(value):
                raise TypeError(f"must be {wanted}, not {_short(value)}")
            return kind(value)

        converter.register_structure_hook(kind, hook)

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    strict(str, "text in quotes", lambda v: isinstance(v, str))
    strict(bool, "true or false", lambda v: isinstance(v, bool))

    def as_float(value: Any, _: Any) -> float:
        if not is_number(value):
            raise TypeError(f"must be a number, not {_short(value)}")
        try:
            return float(value)  # each key says what it can be: nan and infinities are never in its range
        except OverflowError:
            return inf if value > 0 else -inf

    def as_int(value: Any, _: Any) -> int:
        if not is_number(value) or not isfinite(as_float(value, _)) or value != int(value):
            raise TypeError(f"must be a whole number, not {_short(value)}")
        if abs(value) > 2**63:
            raise TypeError(f"must be a whole number of at most 2^63, not {_short(value)}")
        return int(value)

    converter.register_structure_hook(float, as_float)
    converter.register_structure_hook(int, as_int)

    def is_tuple(kind: Any) -> bool:
        return get_origin(kind) is tuple

    def tuple_hook(kind: Any) -> Any:
        inner = get_args(kind)[0]

        def hook(value: Any, _: Any) -> Any:
            if not isinstance(value, list):
                raise TypeError(f"must be a list in brackets, not {value!r}")
            return tuple(converter.structure(item, inner) for item in value)

        return hook

    converter.register_structure_hook_factory(is_tuple, tuple_hook)
    return converter


def _short(value: Any) -> str:
    """Return a value as TOML has it, cut where it is long; numbers of thousands of digits cannot be printed."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"one of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} …"


def _explain(error: BaseException, kind: Any) -> str:
    """Say in one clause what is wrong with one value."""
    if isinstance(error, KeyError):
        return f"the key {error.args[0]!r} is missing"
    return str(error)
