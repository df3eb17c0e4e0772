"""An event as bytes: encoded once by its origin, read with every field checked, whoever sent it.

    header: [format, flags, origin, seq, stream, timestamp, context, previous, body_hash, [index, count], seen]
    body:   [salt, key_id, operations, actor, request, occurred_at, source]

Both are msgpack arrays that only ever grow at the end. A format, flag or operation that this version does not know is
carried along and not folded.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from crdt.hybrid_clock import TIMESTAMP_MAX
from crdt.operations import Add, Delete, Operation, Remove, Set
from crdt.version_vector import VersionVector
from replication.errors import Invalid, Malformed
from replication.event import (
    ADD,
    DELETE,
    FINGERPRINT_BYTES,
    FORMAT,
    HASH_BYTES,
    KNOWN_OPERATIONS,
    MARK_BYTES,
    OCCURRED_AT_BYTES_MAX,
    OPERATION_NUMBER_MAX,
    REMOVE,
    SALT_BYTES,
    SET,
    Body,
    Header,
    Request,
    Seen,
    check_source,
    digest,
)
from replication.limits import (
    ACTOR_BYTES_MAX,
    IDEMPOTENCY_KEY_BYTES_MAX,
    ORIGINS_MAX,
    SEQ_MAX,
    TRANSACTION_EVENTS_MAX,
)
from replication.origin import is_origin
from replication.packing import DECODE_ERRORS, pack, unpack
from replication.stream_name import check_stream
from replication.values import check_operations, check_text

# --- encoding


def encode_header(header: Header) -> bytes:
    return pack(
        (
            header.format,
            header.flags,
            header.origin,
            header.seq,
            header.stream,
            header.timestamp,
            _pairs(header.context),
            header.previous,
            header.body_hash,
            (header.index, header.count),
            header.seen if len(header.seen) < 2 else sorted(header.seen),
        )
    )


def _pairs(vector: VersionVector) -> list[tuple[str, int]]:
    return list(vector.items()) if len(vector) < 2 else sorted(vector.items())


def encode_body(body: Body) -> bytes:
    assert body.operations is not None
    request = body.request and (
        body.request.key,
        body.request.fingerprint,
        None if body.request.held is None else _pairs(body.request.held),
    )
    operations = _encode_operations(body.operations)
    return pack((body.salt, None, operations, body.actor, request, body.occurred_at, body.source))


def _encode_operations(operations: Iterable[Operation]) -> list[tuple[Any, ...]]:
    encoded: list[tuple[Any, ...]] = []
    members: dict[tuple[int, str], list[str]] = {}
    for operation in operations:
        if isinstance(operation, Set):
            encoded.append((SET, operation.field, operation.value))
        elif isinstance(operation, Delete):
            encoded.append((DELETE,))
        else:
            code = ADD if isinstance(operation, Add) else REMOVE
            members.setdefault((code, operation.field), []).append(operation.element)
    encoded.extend((code, field, sorted(elements)) for (code, field), elements in members.items())
    encoded.sort()  # by code and field, which no two share
    return encoded


# --- decoding: everything is checked, whoever sent it


def decode_header(data: bytes) -> Header:
    """Read a header.

    Raises: Malformed, saying what is wrong.
    """
    try:
        fields = _decode_fields(data)
    except DECODE_ERRORS as error:
        raise Malformed(f"not a header: {error}"[:200]) from None
    if not is_origin(fields.origin):
        raise _wrong("origin")
    try:
        check_stream(fields.stream)
    except Invalid as error:
        raise Malformed(f"a header's stream: {error.detail}") from None
    if fields.timestamp > TIMESTAMP_MAX:
        raise _wrong("timestamp")
    index, count = fields.place
    if index >= count:
        raise _wrong("place in its transaction")
    return Header(
        fields.format,
        fields.flags,
        fields.origin,
        fields.seq,
        fields.stream,
        fields.timestamp,
        _checked_vector(fields.context),
        fields.previous,
        fields.body_hash,
        index,
        count,
        _checked_seen(fields.seen) if fields.seen else (),
    )


Seq = Annotated[int, Meta(ge=1, le=SEQ_MAX)]
Hash = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
Vector = Annotated[list[tuple[str, Seq]], Meta(max_length=ORIGINS_MAX)]
Mark = Annotated[bytes, Meta(min_length=MARK_BYTES, max_length=MARK_BYTES)]


class _HeaderFields(msgspec.Struct, array_like=True, gc=False):
    """A header's shape. What comes after these fields is of a later version, and let be."""

    format: Annotated[int, Meta(ge=1, le=255)]
    flags: Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
    origin: str
    seq: Seq
    stream: str
    timestamp: Annotated[int, Meta(ge=0)]
    context: Vector
    previous: Hash
    body_hash: Hash
    place: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=1, le=TRANSACTION_EVENTS_MAX)]]
    seen: Annotated[list[tuple[str, Seq, Mark]], Meta(max_length=ORIGINS_MAX)]


_decode_fields = msgspec.msgpack.Decoder(_HeaderFields).decode


class Place(msgspec.Struct, array_like=True, gc=False):
    """Where an event stands: in its origin's log, on its stream, in its transaction."""

    format: msgspec.Raw
    flags: msgspec.Raw
    origin: str
    seq: int
    stream: str
    timestamp: msgspec.Raw
    context: msgspec.Raw
    previous: msgspec.Raw
    body_hash: msgspec.Raw
    index_and_count: tuple[int, int]
    seen: list[tuple[str, int, bytes]]

    @property
    def index(self) -> int:
        return self.index_and_count[0]

    @property
    def count(self) -> int:
        return self.index_and_count[1]


decode_place = msgspec.msgpack.Decoder(Place).decode
"""Read so much of a header and no more, at a fraction of the cost. Of this store's log: there it was checked."""


class _DotFields(msgspec.Struct, array_like=True, gc=False):
    """The start of a header, up to its event's dot."""

    format: msgspec.Raw
    flags: msgspec.Raw
    origin: str
    seq: int


decode_dot = msgspec.msgpack.Decoder(_DotFields).decode
"""Read which event a header is of, and check no more. Raises: one of `DECODE_ERRORS`."""


def decode_vector(entries: Any) -> dict[str, int]:
    """Read a vector: pairs of origin and seq, sorted by origin.

    Raises: Malformed.
    """
    try:
        return _checked_vector(msgspec.convert(entries, Vector))
    except msgspec.ValidationError as error:
        raise Malformed(f"not a vector: {error}") from None


def _checked_vector(entries: list[tuple[str, int]]) -> dict[str, int]:
    vector: dict[str, int] = {}
    before = ""
    for origin, seq in entries:
        if origin <= before or not is_origin(origin):
            raise _wrong("vector")
        vector[origin] = seq
        before = origin
    return vector


def _checked_seen(entries: list[tuple[str, int, bytes]]) -> tuple[Seen, ...]:
    before = ""
    for origin, _, _ in entries:
        if not is_origin(origin) or origin <= before:
            raise _wrong("seen")
        before = origin
    return tuple(Seen(*entry) for entry in entries)


class _RequestFields(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    key: str
    fingerprint: Annotated[bytes, Meta(min_length=FINGERPRINT_BYTES, max_length=FINGERPRINT_BYTES)]
    held: Vector | None


class _SetFields(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=SET, gc=False):
    field: str
    value: Any


class _ElementsFields(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    field: str
    elements: Annotated[list[str], Meta(min_length=1)]


class _AddFields(_ElementsFields, tag=ADD): ...


class _RemoveFields(_ElementsFields, tag=REMOVE): ...


class _DeleteFields(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=DELETE, gc=False): ...


_OperationFields = _SetFields | _AddFields | _RemoveFields | _DeleteFields
_AnyOperation = TypeVar("_AnyOperation")


class _BodyFields(msgspec.Struct, Generic[_AnyOperation], array_like=True, gc=False):
    """A body's shape. What comes after these fields is of a later version, and let be."""

    salt: Annotated[bytes, Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    key_id: None
    operations: Annotated[list[_AnyOperation], Meta(min_length=1)]
    actor: str
    request: _RequestFields | None
    occurred_at: str | None
    source: tuple[str, int | str] | None


_decode_body_fields = msgspec.msgpack.Decoder(_BodyFields[_OperationFields]).decode
_decode_later_body_fields = msgspec.msgpack.Decoder(_BodyFields[list[Any]]).decode


def decode_body(header: Header, data: bytes) -> Body | None:
    """Read the body of an event; None where its format, flags, key or operations are not known here.

    Raises: Malformed, saying what is wrong.
    """
    if digest(data) != header.body_hash:
        raise Malformed("a body does not have the hash that its header names")
    if header.format != FORMAT or header.flags:
        return None
    fields: _BodyFields[_OperationFields] | _BodyFields[list[Any]]
    operations: tuple[Operation, ...] | None = None
    try:
        try:
            fields = _decode_body_fields(data)
        except DECODE_ERRORS as error:
            if _is_under_a_key(data):
                return None
            fields = _decode_later_body(data, str(error))
        else:
            operations = _checked_operations(fields.operations, data)
        check_text(fields.actor, "actor", ACTOR_BYTES_MAX)
        if fields.occurred_at is not None:
            check_text(fields.occurred_at, "occurred_at", OCCURRED_AT_BYTES_MAX)
        return Body(
            fields.salt,
            operations,
            fields.actor,
            None if fields.request is None else _checked_request(fields.request),
            fields.occurred_at,
            None if fields.source is None else check_source(*fields.source),
        )
    except Invalid as error:
        raise Malformed(f"a body's {error}") from None


def _is_under_a_key(data: bytes) -> bool:
    """Whether the body is one that a later version has encrypted."""
    fields = unpack(data)
    return isinstance(fields, list) and len(fields) >= 7 and fields[1] is not None


def _checked_request(fields: _RequestFields) -> Request:
    check_text(fields.key, "request key", IDEMPOTENCY_KEY_BYTES_MAX)
    return Request(fields.key, fields.fingerprint, None if fields.held is None else _checked_vector(fields.held))


def _decode_later_body(data: bytes, why_not: str) -> _BodyFields[list[Any]]:
    """Read a body with an operation that this version does not know.

    Raises: Malformed, where it has none: then `why_not` says what is wrong with it.
    """
    with suppress(*DECODE_ERRORS):
        fields = _decode_later_body_fields(data)
        for operation in fields.operations:
            code = operation[0] if operation else None
            if type(code) is not int or not 0 <= code <= OPERATION_NUMBER_MAX:
                raise Malformed("a body's operations: one has no number")
            if code not in KNOWN_OPERATIONS:
                return fields
    raise Malformed(f"not a body: {why_not}"[:200])


def _checked_operations(fields: list[_OperationFields], data: bytes) -> tuple[Operation, ...]:
    operations: list[Operation] = []
    nested = False
    for one in fields:
        if isinstance(one, _SetFields):
            operations.append(Set(one.field, one.value))
            if type(one.value) is dict or type(one.value) is list:
                nested = True
        elif isinstance(one, _DeleteFields):
            operations.append(Delete())
        else:
            kind = Add if isinstance(one, _AddFields) else Remove
            operations.extend([kind(one.field, element) for element in one.elements])
    if nested:
        unpack(data)  # a value that holds a key twice is no value
    return check_operations(operations)


def _wrong(what: str) -> Malformed:
    return Malformed(f"an event's {what} has the wrong shape")
