"""An event as bytes: encoded once by its origin, stored and forwarded verbatim (I5).

    header: [format, flags, origin, seq, stream, timestamp, context, previous, body_hash, [index, count], seen]
    body:   [salt, key_id, operations, actor, request, occurred_at, source]

Both are msgpack arrays that only ever grow at the end. Chain hash = BLAKE2b-128(header); `previous` is the chain
hash of the origin's event before it, so that one hash proves a whole log, and a body can be erased while the
chain still verifies (the salt keeps an erased body from being guessed). `seen` names, on the first event of a
transaction, what changed in the writer's whole vector since its previous transaction (I3).

A format, flag or operation that this version does not know is carried along and not folded.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from crdt.dot import Dot
from crdt.event import Event
from crdt.hybrid_clock import TIMESTAMP_MAX
from crdt.operations import Add, Delete, Operation, Remove, Set
from crdt.version_vector import VersionVector
from replication.errors import Invalid, Malformed
from replication.limits import (
    ACTOR_BYTES_MAX,
    ELEMENT_BYTES_MAX,
    EVENT_BYTES_MAX,
    FIELD_BYTES_MAX,
    IDEMPOTENCY_KEY_BYTES_MAX,
    OPERATIONS_MAX,
    ORIGINS_MAX,
    SEQ_MAX,
    SOURCE_NAME_BYTES_MAX,
    TRANSACTION_EVENTS_MAX,
)
from replication.origin import is_origin
from replication.packing import pack, unpack
from replication.stream_name import check_stream
from replication.values import check_text, check_value

FORMAT = 1
FEATURE_LEVEL = 1
"""Rises whenever this version folds what an earlier one could not."""

SET, ADD, REMOVE, DELETE = 1, 2, 3, 4
COUNTER, FLAG, ERASE, RETIRE, FEATURE = 5, 6, 7, 8, 9
"""Reserved operation numbers: carried, not yet folded."""
KNOWN_OPERATIONS = frozenset({SET, ADD, REMOVE, DELETE})

HASH_BYTES = 16
SALT_BYTES = 16
MARK_BYTES = 8
FINGERPRINT_BYTES = 16
OCCURRED_AT_BYTES_MAX = 40


class Seen(NamedTuple):
    """One entry of what a transaction's writer had seen. Shape: `mark` is the start of that event's chain hash."""

    origin: str
    seq: int
    mark: bytes


class Request(NamedTuple):
    """The request that made an event, for answering it again.

    Shape: `held` is the stream's vector before the write where that differs from the event's context.
    """

    key: str
    fingerprint: bytes
    held: VersionVector | None


class Source(NamedTuple):
    """Where an imported event came from."""

    name: str
    position: int | str


@dataclass(frozen=True, slots=True)
class Header:
    """What an event's place in its log, stream and transaction is."""

    format: int
    flags: int
    origin: str
    seq: int
    stream: str
    timestamp: int
    context: VersionVector
    previous: bytes
    body_hash: bytes
    index: int
    count: int
    seen: tuple[Seen, ...]

    @property
    def dot(self) -> Dot:
        return Dot(self.origin, self.seq)


@dataclass(frozen=True, slots=True)
class Body:
    """What an event does, and on whose behalf. Shape: `operations` is None where this version cannot fold them."""

    salt: bytes
    operations: tuple[Operation, ...] | None
    actor: str
    request: Request | None = None
    occurred_at: str | None = None
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """One event's bytes, as they are stored and sent."""

    header: bytes
    body: bytes

    @property
    def chain(self) -> bytes:
        """The chain hash, which names everything this origin wrote up to here."""
        return digest(self.header)

    @property
    def size(self) -> int:
        return len(self.header) + len(self.body)


def digest(data: bytes) -> bytes:
    """BLAKE2b-128."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def genesis(cluster: str, origin: str) -> bytes:
    """What the first event of an origin has for `previous`: chains of two clusters never meet."""
    return digest(pack(["atoll", cluster, origin]))


def meaning(header: Header, body: Body | None) -> Event | None:
    """The event as `crdt` folds it, or None where this version cannot fold it."""
    if body is None or body.operations is None:
        return None
    return Event(header.dot, header.timestamp, header.context, body.operations)


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
    """Read a header.

    Raises: Malformed, saying what is wrong.
    """
    fields = unpack(data)
    if not isinstance(fields, list) or len(fields) < 11:
        raise Malformed("a header is an array of at least 11")
    format_, flags, origin, seq, stream, timestamp, context, previous, body_hash, place, seen = fields[:11]
    _require(_is_count(format_, 255) and format_ > 0, "format")
    _require(_is_count(flags, 0xFFFF_FFFF), "flags")
    _require(is_origin(origin), "origin")
    _require(_is_count(seq, SEQ_MAX) and seq > 0, "seq")
    try:
        check_stream(stream)
    except Invalid as error:
        raise Malformed(f"a header's stream: {error.detail}") from None
    _require(_is_count(timestamp, TIMESTAMP_MAX), "timestamp")
    _require(_is_bytes(previous, HASH_BYTES), "previous")
    _require(_is_bytes(body_hash, HASH_BYTES), "body hash")
    _require(isinstance(place, list) and len(place) == 2, "place in its transaction")
    index, count = place
    _require(_is_count(count, TRANSACTION_EVENTS_MAX) and _is_count(index, count - 1), "place in its transaction")
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
    for entry in entries:
        _require(isinstance(entry, list) and len(entry) == 2, "vector")
        _require(is_origin(entry[0]) and _is_count(entry[1], SEQ_MAX) and entry[1] > 0, "vector")
    _require_sorted([entry[0] for entry in entries], "vector")
    return dict(entries)


def _decode_seen(entries: Any) -> tuple[Seen, ...]:
    _require(isinstance(entries, list) and len(entries) <= ORIGINS_MAX, "seen")
    for entry in entries:
        _require(isinstance(entry, list) and len(entry) == 3, "seen")
        origin, seq, mark = entry
        _require(is_origin(origin) and _is_count(seq, SEQ_MAX) and seq > 0 and _is_bytes(mark, MARK_BYTES), "seen")
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


def check_source(name: object, position: object) -> Source:
    """A source, if it is one.

    Raises: Invalid.
    """
    checked = check_text(name, "source.name", SOURCE_NAME_BYTES_MAX)
    if isinstance(position, int) and _is_count(position, SEQ_MAX):
        return Source(checked, position)
    return Source(checked, check_text(position, "source.position", SOURCE_NAME_BYTES_MAX))


def _decode_operations(operations: Any) -> tuple[Operation, ...] | None:
    _require(isinstance(operations, list) and bool(operations), "operations")
    decoded: list[Operation] = []
    for operation in operations:
        _require(isinstance(operation, list) and bool(operation) and _is_count(operation[0], 0xFFFF), "operation")
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


def check_operations(operations: list[Operation]) -> tuple[Operation, ...]:
    """The operations of one event, if they make one: within bounds, each cell once, a delete alone.

    Raises: Invalid, naming the field.
    """
    if not operations:
        raise Invalid("", "the event is empty: give at least one of set, add, remove, delete")
    if len(operations) > OPERATIONS_MAX:
        raise Invalid("", f"the event touches {len(operations)} cells; at most {OPERATIONS_MAX} are allowed")
    if len(operations) > 1 and any(isinstance(operation, Delete) for operation in operations):
        raise Invalid("delete", "stands alone in its event")
    cells: set[tuple[str, ...]] = set()
    for operation in operations:
        match operation:
            case Set(field, value):
                check_text(field, "set", FIELD_BYTES_MAX)
                check_value(value, f"set.{field}")
                cell: tuple[str, ...] = (field,)
            case Add(field, element) | Remove(field, element):
                kind = "add" if isinstance(operation, Add) else "remove"
                check_text(field, kind, FIELD_BYTES_MAX)
                check_text(element, f"{kind}.{field}", ELEMENT_BYTES_MAX)
                cell = (field, element)
            case Delete():
                cell = ()
        if cell in cells:
            raise Invalid(".".join(cell), "the event touches this cell twice")
        cells.add(cell)
    return tuple(operations)


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


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
