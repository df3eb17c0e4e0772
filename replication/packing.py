"""msgpack, strictly: one value and nothing after it, text that is UTF-8, maps whose keys are distinct strings."""

from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no annotations, and there are no stubs

from replication.errors import Malformed


def pack(value: Any) -> bytes:
    """Encode our own value."""
    packed: bytes = msgpack.packb(value)
    return packed


def unpack_own(data: bytes) -> Any:
    """Decode what `pack` wrote into our own store."""
    return msgpack.unpackb(data)


def unpack(data: bytes) -> Any:
    """Decode what somebody else wrote.

    Raises: Malformed, saying what is wrong.
    """
    try:
        return msgpack.unpackb(data, object_pairs_hook=_distinct, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"not msgpack: {error}"[:200]) from None


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    keys = [key for key, _ in pairs]
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("a map has a key that is not a string")
    if len(set(keys)) != len(keys):
        raise ValueError("a map has the same key twice")
    return dict(pairs)
