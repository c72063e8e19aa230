"""No value of any key of a study file is a traceback; what no run can make sense of is refused, with key and value."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import ConfigError, KleiberError
from kleiber.study.config import Arm, Study, parse_study
from kleiber.study.plan import checklist, plan
from study.test_config import TEXT

HEAD = {
    "study": {"name": "tiny"},
    "genome": {"reference": "embedded", "panel": ["embedded"], "holdout": ["20:3,500,001-4,000,000"]},
    "arms": {"pan": {"sampling": "pangenome", "tokenizer": "6mer"}},
    "ladder": {"sizes": ["0.05M", "0.1M", "0.2M"], "tokens": [1e5, 2e5]},
    "tune": {"sizes": ["0.05M", "0.1M", "0.2M"]},
    "fit": {},
    "train": {"batch": 8},
    "model": {},
}


def leaves() -> list[tuple[str, str, Any]]:
    """Return (table, key, type) of every key of a study file."""
    found = []
    for table in fields(Study):
        kind = get_type_hints(Study)[table.name]
        inner = Arm if get_origin(kind) is dict else kind
        name = "arms.pan" if inner is Arm else table.name
        assert is_dataclass(inner)
        found += [(name, key, hint) for key, hint in get_type_hints(inner).items()]
    return found


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in value) + '"'
    return str(value)


def text_with(table: str, key: str, value: Any) -> str:
    tables = {name: dict(entries) for name, entries in HEAD.items()}
    tables["arms"] = {"pan": dict(HEAD["arms"]["pan"])}
    (tables["arms"]["pan"] if table == "arms.pan" else tables[table])[key] = value
    lines = []
    for name, entries in tables.items():
        lines += [f"[{name}]", *(f"{entry} = {toml(v)}" for entry, v in entries.items())]
    return "\n".join(lines)


def outcome(table: str, key: str, value: Any) -> KleiberError | None:
    """Read a study and plan it; return the error, or nothing. Anything that is no `KleiberError` goes through."""
    try:
        study = parse_study(text_with(table, key, value), "study.toml", Path("/somewhere"))
        planned = plan(study, 4_000_000)
        checklist(study, planned)
        assert planned.flops >= 0
    except KleiberError as error:
        return error
    return None


LEAVES = leaves()
NUMBERS = [(t, k, h) for t, k, h in LEAVES if h in (int, float) or (get_origin(h) is tuple and float in get_args(h))]
ABSURD = [float("inf"), float("-inf"), float("nan"), 1e308, -1e308, 10**400, -(10**400)]


def test_every_table_is_looked_at():
    assert {table for table, _, _ in LEAVES} == {
        "study", "genome", "arms.pan", "ladder", "model", "train", "tune", "fit",
    }  # fmt: skip
    assert {("genome", "min_af"), ("train", "clip"), ("ladder", "unique")} <= {(t, k) for t, k, _ in NUMBERS}
    assert outcome("train", "batch", 8) is None


@pytest.mark.parametrize(("table", "key", "hint"), NUMBERS, ids=lambda x: str(x))
def test_no_number_is_infinite_or_absurd(table, key, hint):
    for value in ABSURD:
        given_ = [value] if get_origin(hint) is tuple else value
        error = outcome(table, key, given_)
        assert error is not None, (table, key, value)
        assert key in str(error), str(error)
        assert "must be" in str(error) or "cannot be" in str(error), str(error)


NEGATIVE = {("train", "lr_exponent")}


@pytest.mark.parametrize(("table", "key", "hint"), NUMBERS, ids=lambda x: str(x))
def test_what_is_counted_or_shared_is_not_negative(table, key, hint):
    if (table, key) not in NEGATIVE:
        for value in (-1, -0.5):
            error = outcome(table, key, [value] if get_origin(hint) is tuple else value)
            assert error is not None, (table, key, value)
            assert key in str(error), str(error)


VALUES = st.recursive(
    st.one_of(
        st.sampled_from([*ABSURD, 0, -1, 1, 2**31, 2**63, 2**64, 1e-320, 5e-324, 0.1, True, False, "", "x", "0.1M"]),
        st.floats(),
        st.integers(),
        st.text(max_size=8),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "size"]), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from(LEAVES), VALUES)
def test_no_value_of_any_key_is_a_traceback(leaf, value):
    table, key, _ = leaf
    outcome(table, key, value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("min_af = 50", r"\[genome\] min_af of study.toml must be a share from 0 to below 1, not 50.0"),
        ("min_af = nan", "min_af"),
        ('policy = "nearest"', r"\[genome\] policy of study.toml can be bcftools or edits, not 'nearest'"),
        ('populations = ["GBR"]', "need a table that says who is of which: add sample_table"),
        ("unrelated = true", "add sample_table"),
        ('samples = ["A", "A"]', "must name each once"),
        ('sample_table = "t"\npopulations = ["A", "B"]\nshares = [0.5]', "must be one for each of 2 populations"),
        ('sample_table = "t"\npopulations = ["A", "B"]\nshares = [0.5, 0.6]', r"add up to 1, not .* \(sum 1.1\)"),
        ('include = [" "]', "names an empty contig"),
    ],
)
def test_what_a_genome_cannot_be(line, message):
    with pytest.raises(ConfigError, match=message):
        parse_study(TEXT.replace("[arms]", f"{line}\n[arms]"), "study.toml", Path("/somewhere"))


def test_defaults_are_what_the_file_may_leave_out():
    required = [(t, k) for t, k, _ in LEAVES if t == "genome" and _default(k) is MISSING]
    assert required == [("genome", "holdout")]


def _default(key: str) -> Any:
    return next(f.default for f in fields(get_type_hints(Study)["genome"]) if f.name == key)
