"""Bodies in and out: JSON and msgpack, read strictly, written canonically.

Read: no key twice, no NaN, no integer beyond 64 bits, no lone surrogate, no nesting without end. Written: keys in
UTF-8 byte order, no blanks, a final newline; so equal states have equal bytes in every region (I4).
"""

import json
from typing import Any

import msgspec

from node.interface.problems import Problem
from node.limits import BODY_DEPTH_MAX
from replication.errors import Malformed
from replication.packing import DECODE_ERRORS, pack, unpack

JSON_TYPE = "application/json"
MERGE_PATCH_TYPE = "application/merge-patch+json"
MSGPACK_TYPE = "application/vnd.msgpack"
PROBLEM_TYPE = "application/problem+json"
NDJSON_TYPE = "application/x-ndjson"
SSE_TYPE = "text/event-stream"
SCIM_TYPE = "application/scim+json"  # scim2-server names it, too, and is loaded only where it is used


DIGITS_MARKED = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))
LONG_NUMBER = b"0" * 20
"""Stands in a body's marked digits where it may hold an integer beyond 64 bits."""
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def dump_json(value: Any) -> bytes:
    """The canonical form."""
    return _encode_sorted(value) + b"\n"


def dump_msgpack(value: Any) -> bytes:
    """The same value as msgpack, keys in the same order."""
    return pack(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value


def parse(data: bytes, media_type: str) -> Any:
    """Read a body.

    Raises: Problem (malformed), saying where.
    """
    value = _parse_msgpack(data) if media_type == MSGPACK_TYPE else _parse_json(data)
    if media_type == MSGPACK_TYPE or data.count(b"{") + data.count(b"[") > BODY_DEPTH_MAX:
        check_depth(value)
    return value


def _parse_msgpack(data: bytes) -> Any:
    try:
        return unpack(data)
    except Malformed as error:
        raise Problem("malformed", f"the body is {error}", {"field": "body"}) from None


def _parse_json(data: bytes) -> Any:
    """Read JSON: fast where nothing is unusual about it, else closely, so as to say what is wrong.

    msgspec drops all but the last of a key that comes twice. Where no quote is escaped, each stands at an end of a
    string, so a key that was dropped shows as quotes that are missing from the value.
    """
    if b"\\" not in data and LONG_NUMBER not in data.translate(DIGITS_MARKED):
        try:
            value = _decode(data)
            if data.count(b'"') == _encode(value).count(b'"'):
                return value
        except DECODE_ERRORS:
            pass  # said better below
    return _parse_json_closely(data)


def _parse_json_closely(data: bytes) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Problem("malformed", f"the body is not UTF-8, at byte {error.start}", {"field": "body"}) from None
    try:
        return json.loads(text, object_pairs_hook=distinct, parse_constant=_refuse_constant, parse_int=_integer)
    except RecursionError:
        raise Problem("malformed", "the body is nested too deep", {"field": "body"}) from None
    except json.JSONDecodeError as error:
        detail = f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Problem("malformed", detail, {"field": "body"}) from None


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of an object as one. Raises: Problem (malformed), where a key comes twice."""
    keys: set[str] = set()
    for key, _ in pairs:
        if key in keys:
            raise Problem("malformed", "an object has the same key twice", {"field": _printable(key)})
        keys.add(key)
    return dict(pairs)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:200]


def _refuse_constant(name: str) -> Any:
    raise Problem("malformed", f"{name} is not JSON", {"field": "body"})


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise Problem("malformed", "an integer is beyond 64 bits", {"field": "body"})
    return int(digits)


def check_depth(value: Any, depth: int = 0) -> Any:
    """The value itself, if it is not nested too deep. Raises: Problem (malformed)."""
    if depth > BODY_DEPTH_MAX:
        raise Problem("malformed", f"the body is nested deeper than {BODY_DEPTH_MAX} levels", {"field": "body"})
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_depth(item, depth + 1)
    return value
