"""msgpack: our own values fast, others' strictly.

What we write ourselves is packed and unpacked by msgspec, which makes the bytes that msgpack makes, in less time.
What somebody else wrote is read by msgpack with every pair of a map in sight: one value and nothing after it, text
that is UTF-8, maps whose keys are distinct strings.
"""

from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no annotations, and there are no stubs
import msgspec

from replication.errors import Malformed

pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
"""Encode our own value."""

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what it was to read, in every form that it reads."""

unpack_own: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode
"""Decode what `pack` wrote into our own store."""


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
