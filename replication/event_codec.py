"""An event as bytes: encoded once by its origin, read with every field checked, whoever sent it.

    header: [format, flags, origin, seq, stream, timestamp, context, previous, body_hash, [index, count], seen]
    body:   [salt, key_id, operations, actor, request, occurred_at, source]

Both are msgpack arrays that only ever grow at the end. A format, flag or operation that this version does not know is
carried along and not folded.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any

from crdt.hybrid_clock import TIMESTAMP_MAX
from crdt.operations import Add, Delete, Operation, Remove, Set
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
    REMOVE,
    SALT_BYTES,
    SET,
    Body,
    Encoded,
    Header,
    Request,
    Seen,
    Source,
    check_source,
    digest,
)
from replication.limits import (
    ACTOR_BYTES_MAX,
    EVENT_BYTES_MAX,
    HEADER_KEPT_BYTES_MAX,
    HEADERS_KEPT,
    IDEMPOTENCY_KEY_BYTES_MAX,
    ORIGINS_MAX,
    SEQ_MAX,
    TRANSACTION_EVENTS_MAX,
)
from replication.origin import is_origin
from replication.packing import pack, unpack
from replication.stream_name import check_stream
from replication.values import check_operations, check_text, is_count

# --- encoding


def encode_header(header: Header) -> bytes:
    return pack(
        [
            header.format,
            header.flags,
            header.origin,
            header.seq,
            header.stream,
            header.timestamp,
            sorted(header.context.items()),
            header.previous,
            header.body_hash,
            [header.index, header.count],
            sorted(header.seen),
        ]
    )


def encode_body(body: Body) -> bytes:
    assert body.operations is not None
    request = body.request and [
        body.request.key,
        body.request.fingerprint,
        None if body.request.held is None else sorted(body.request.held.items()),
    ]
    return pack(
        [
            body.salt,
            None,
            _encode_operations(body.operations),
            body.actor,
            request,
            body.occurred_at,
            body.source,
        ]
    )


def _encode_operations(operations: Iterable[Operation]) -> list[list[Any]]:
    encoded: list[list[Any]] = []
    members: dict[tuple[int, str], list[str]] = {}
    for operation in operations:
        match operation:
            case Set(field, value):
                encoded.append([SET, field, value])
            case Add(field, element):
                members.setdefault((ADD, field), []).append(element)
            case Remove(field, element):
                members.setdefault((REMOVE, field), []).append(element)
            case Delete():
                encoded.append([DELETE])
    encoded.extend([code, field, sorted(elements)] for (code, field), elements in members.items())
    return sorted(encoded, key=lambda operation: operation[:2])


# --- decoding: everything is checked, whoever sent it


def decode_header(data: bytes) -> Header:
    """Read a header. What comes back may be shared: it is not to be changed.

    Raises: Malformed, saying what is wrong.
    """
    return _decode_header_once(data) if len(data) <= HEADER_KEPT_BYTES_MAX else _decode_header(data)


@lru_cache(maxsize=HEADERS_KEPT)
def _decode_header_once(data: bytes) -> Header:
    """An event that arrives is looked at again for every peer that may lack it."""
    return _decode_header(data)


def _decode_header(data: bytes) -> Header:
    fields = unpack(data)
    if not isinstance(fields, list) or len(fields) < 11:
        raise Malformed("a header is an array of at least 11")
    format_, flags, origin, seq, stream, timestamp, context, previous, body_hash, place, seen = fields[:11]
    _require(is_count(format_, 255) and format_ > 0, "format")
    _require(is_count(flags, 0xFFFF_FFFF), "flags")
    _require(is_origin(origin), "origin")
    _require(is_count(seq, SEQ_MAX) and seq > 0, "seq")
    try:
        check_stream(stream)
    except Invalid as error:
        raise Malformed(f"a header's stream: {error.detail}") from None
    _require(is_count(timestamp, TIMESTAMP_MAX), "timestamp")
    _require(_is_bytes(previous, HASH_BYTES), "previous")
    _require(_is_bytes(body_hash, HASH_BYTES), "body hash")
    _require(isinstance(place, list) and len(place) == 2, "place in its transaction")
    index, count = place
    _require(is_count(count, TRANSACTION_EVENTS_MAX) and is_count(index, count - 1), "place in its transaction")
    return Header(
        format_,
        flags,
        origin,
        seq,
        stream,
        timestamp,
        decode_vector(context),
        previous,
        body_hash,
        index,
        count,
        _decode_seen(seen),
    )


def decode_vector(entries: Any) -> dict[str, int]:
    """Read a vector: pairs of origin and seq, sorted by origin.

    Raises: Malformed.
    """
    _require(isinstance(entries, list) and len(entries) <= ORIGINS_MAX, "vector")
    before = ""
    for entry in entries:
        _require(isinstance(entry, list) and len(entry) == 2, "vector")
        origin, seq = entry
        _require(is_origin(origin) and is_count(seq, SEQ_MAX) and seq > 0 and origin > before, "vector")
        before = origin
    return dict(entries)


def _decode_seen(entries: Any) -> tuple[Seen, ...]:
    _require(isinstance(entries, list) and len(entries) <= ORIGINS_MAX, "seen")
    for entry in entries:
        _require(isinstance(entry, list) and len(entry) == 3, "seen")
        origin, seq, mark = entry
        _require(is_origin(origin) and is_count(seq, SEQ_MAX) and seq > 0 and _is_bytes(mark, MARK_BYTES), "seen")
    _require_sorted([entry[0] for entry in entries], "seen")
    return tuple(Seen(*entry) for entry in entries)


def decode_body(header: Header, data: bytes) -> Body | None:
    """Read the body of an event; None where its format or flags are not known here.

    Raises: Malformed, saying what is wrong.
    """
    if digest(data) != header.body_hash:
        raise Malformed("a body does not have the hash that its header names")
    if header.format != FORMAT or header.flags:
        return None
    fields = unpack(data)
    if not isinstance(fields, list) or len(fields) < 7:
        raise Malformed("a body is an array of at least 7")
    salt, key_id, operations, actor, request, occurred_at, source = fields[:7]
    if key_id is not None:
        return None
    _require(_is_bytes(salt, SALT_BYTES), "salt")
    _require(occurred_at is None or isinstance(occurred_at, str), "occurred_at")
    try:
        check_text(actor, "actor", ACTOR_BYTES_MAX)
        if occurred_at is not None:
            check_text(occurred_at, "occurred_at", OCCURRED_AT_BYTES_MAX)
        decoded = _decode_operations(operations)
        return Body(salt, decoded, actor, _decode_request(request), occurred_at, _decode_source(source))
    except Invalid as error:
        raise Malformed(f"a body's {error}") from None


def _decode_request(request: Any) -> Request | None:
    if request is None:
        return None
    _require(isinstance(request, list) and len(request) == 3, "request")
    key, fingerprint, held = request
    check_text(key, "request key", IDEMPOTENCY_KEY_BYTES_MAX)
    _require(_is_bytes(fingerprint, FINGERPRINT_BYTES), "request fingerprint")
    return Request(key, fingerprint, None if held is None else decode_vector(held))


def _decode_source(source: Any) -> Source | None:
    if source is None:
        return None
    _require(isinstance(source, list) and len(source) == 2, "source")
    return check_source(*source)


def _decode_operations(operations: Any) -> tuple[Operation, ...] | None:
    _require(isinstance(operations, list) and bool(operations), "operations")
    decoded: list[Operation] = []
    for operation in operations:
        _require(isinstance(operation, list) and bool(operation) and is_count(operation[0], 0xFFFF), "operation")
        if operation[0] not in KNOWN_OPERATIONS:
            return None
        decoded.extend(_decode_operation(operation))
    return check_operations(decoded)


def _decode_operation(operation: list[Any]) -> list[Operation]:
    match operation:
        case [code] if code == DELETE:
            return [Delete()]
        case [code, field, value] if code == SET:
            return [Set(field, value)]
        case [code, field, list(elements)] if elements and code in (ADD, REMOVE):
            return [Add(field, element) if code == ADD else Remove(field, element) for element in elements]
    raise Malformed("a body's operations: one of a known number has an unknown shape")


def _is_bytes(value: object, size: int) -> bool:
    return isinstance(value, bytes) and len(value) == size


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Malformed(f"an event's {what} has the wrong shape")


def _require_sorted(origins: list[str], what: str) -> None:
    _require(all(first < second for first, second in pairwise(origins)), what)


def check_size(encoded: Encoded) -> None:
    """Raises: Malformed, where the event is larger than any may be."""
    if encoded.size > EVENT_BYTES_MAX:
        raise Malformed(f"an event has {encoded.size} bytes; at most {EVENT_BYTES_MAX} are allowed")
