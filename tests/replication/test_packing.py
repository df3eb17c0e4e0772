"""Two codecs, one format: what msgspec packs is what msgpack packs, and each reads the other's."""

from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no annotations, and there are no stubs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import Malformed
from replication.packing import pack, unpack, unpack_own

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=40,
)


@given(VALUES)
def test_both_codecs_write_the_same_bytes(value: Any) -> None:
    data = pack(value)
    assert data == msgpack.packb(value)
    assert unpack_own(data) == msgpack.unpackb(data) == unpack(data) == value


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x81\xa1a", b"\x82\xa1a\x01\xa1a\x02", b"\x81\x01\x02", b"\x01\x02", b"\xa1\xff"]
)
def test_what_somebody_else_wrote_is_read_closely(data: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(data)
