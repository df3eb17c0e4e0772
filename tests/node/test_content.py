"""Bodies: the fast way in reads what the close one reads, and what goes out is canonical."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.interface.content import JSON_TYPE, _parse_json_closely, dump_json, parse
from node.interface.problems import Problem


class Pairs(tuple[Any, ...]):
    """An object as it is written: a key may come twice."""


KEYS = st.text(st.sampled_from('ab"\\né:{,'), max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from('ab"\\né:{},[]\x7f\u2028'), max_size=6)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(KEYS, inner), max_size=4).map(Pairs),
    max_leaves=12,
)


def text_of(value: Any, ascii_only: bool, blanks: str) -> str:
    if isinstance(value, Pairs):
        members = (
            f"{json.dumps(key, ensure_ascii=ascii_only)}:{blanks}{text_of(one, ascii_only, blanks)}"
            for key, one in value
        )
        return "{" + f",{blanks}".join(members) + "}"
    if isinstance(value, list):
        return "[" + f",{blanks}".join(text_of(one, ascii_only, blanks) for one in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def outcome(read: Any, data: bytes) -> tuple[str, Any]:
    try:
        return "read", read(data)
    except Problem as problem:
        return problem.type, problem.detail


@given(VALUES, st.booleans(), st.sampled_from(["", " ", "\n\t"]))
def test_the_fast_way_reads_what_the_close_one_reads(value: Any, ascii_only: bool, blanks: str) -> None:
    data = text_of(value, ascii_only, blanks).encode()
    kind, read = outcome(lambda data: parse(data, JSON_TYPE), data)
    close = outcome(_parse_json_closely, data)
    assert (kind, read) == close
    if kind == "read":
        assert repr(read) == repr(close[1]), "1, 1.0 and true are not the same"


@given(st.binary(max_size=30))
@example(b'{"a":1,"a":2}')
@example(b'{"a":{"b":1,"b":1}}')
@example(b"[1e999]")
@example(b"NaN")
@example(b'"\x01"')
@example(b"\xff")
@example(b"123456789012345678901")
@example(b"[" * 5000)
@example(b"{} {}")
@example(b"")
def test_what_is_no_json_is_refused_by_both_alike(data: bytes) -> None:
    assert outcome(lambda data: parse(data, JSON_TYPE), data)[0] == outcome(_parse_json_closely, data)[0]


@pytest.mark.parametrize(
    "value", [{"b": 1, "a": {"é": 1, "z": 2, "\U0001f600": 3, "\uffff": 4}}, [], "x\n", 1.5, None]
)
def test_what_goes_out_is_sorted_by_utf8_bytes_and_ends_a_line(value: Any) -> None:
    data = dump_json(value)
    assert json.loads(data) == value
    assert data.endswith(b"\n")
    if isinstance(value, dict):
        assert [key.encode() for key in json.loads(data)["a"]] == sorted(key.encode() for key in value["a"])
