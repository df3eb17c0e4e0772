"""One command against the state that its batch has reached: check everything, then append.

Order of checks: repeat (idempotency key, source), conditions, contexts, operations, sizes, clock. Nothing is put
before all have passed, so a refused command leaves the batch as it was (I8).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from crdt.dot import Dot
from crdt.hybrid_clock import COUNTER_BITS, TIMESTAMP_MAX, milliseconds, next_timestamp
from crdt.operations import JSON, Add, Operation, Set
from crdt.register import Register
from crdt.version_vector import VersionVector, cut, includes
from replication import tables
from replication.batch import Batch
from replication.command import Command, Draft, Written, WrittenEvent
from replication.errors import (
    ClockAhead,
    ConditionFailed,
    ContextAhead,
    RequestMismatch,
    TooLarge,
    Unfoldable,
    UnknownStream,
)
from replication.event import FORMAT, MARK_BYTES, Body, Encoded, Entry, Header, Request, Seen, digest, genesis
from replication.event_codec import decode_body, decode_header, encode_body, encode_header
from replication.limits import (
    EVENT_BYTES_MAX,
    STREAM_ROW_BYTES_MAX,
    TRANSACTION_BYTES_MAX,
)
from replication.log import append
from replication.packing import pack
from replication.stream_name import is_prefix
from replication.tables import RequestRow, StreamRow
from replication.values import check_operations


@dataclass(frozen=True, slots=True)
class Writer:
    """What a write needs beside the batch. Shape: `drift_ms` is how far ahead of the wall clock it may
    stamp; `salt` draws an event body's salt, from origin and seq."""

    cluster: str
    drift_ms: int
    salt: Callable[[str, int], bytes]


class _Plan(msgspec.Struct, frozen=True, gc=False):
    """One event that passed every check but those of size. Shape: `row` is its stream's, where that has one."""

    stream: str
    row: StreamRow | None
    operations: tuple[Operation, ...]
    context: dict[str, int]
    held: dict[str, int]


def write(batch: Batch, command: Command, writer: Writer, now_ms: int) -> Written:
    """Append a command's transaction to the batch.

    Raises: Refused, before anything was put.
    """
    if command.request is not None or command.source is not None:
        repeated = _repeated(batch, command, now_ms)
        if repeated is not None:
            return repeated
    if command.expect or command.absent or command.present:
        _check_conditions(batch, command)
    plans = [_plan(batch, draft) for draft in command.drafts]
    timestamp = _stamp(batch, writer, now_ms)
    events = _encode(batch, command, plans, timestamp, writer)
    written: list[WrittenEvent] = []
    for event in events:
        append(batch, event.entry)
        written.append(_written(event.entry.header, event.held))
    return Written(timestamp, tuple(written))


def _written(header: Header, held: VersionVector) -> WrittenEvent:
    origin, seq = header.origin, header.seq
    vector = {**held, origin: seq}
    context: VersionVector | None = vector
    if header.context is not held:
        exact = held.get(origin, 0) == header.context.get(origin, 0)
        context = {**header.context, origin: seq} if exact else None
    return WrittenEvent(header.stream, Dot(origin, seq), vector, context)


def _repeated(batch: Batch, command: Command, now_ms: int) -> Written | None:
    """The outcome of an earlier command of the same name, read back from the log."""
    if command.request is not None:
        row = batch.request_of(command.actor, command.request[0], now_ms)
        if row is not None:
            return _outcome(batch, row, command, command.request[1])
    if command.source is not None:
        row = batch.request(tables.source_key(*command.source))
        if row is not None:
            return _outcome(batch, row, command, None)
    return None


def _outcome(batch: Batch, row: RequestRow, command: Command, fingerprint: bytes | None) -> Written:
    events: list[WrittenEvent] = []
    timestamp = 0
    for seq in range(row.seq, row.seq + row.events):
        stored = batch.event(Dot(row.origin, seq))
        assert stored is not None, "a request's events are in the log"
        header = decode_header(stored.encoded.header)
        body = decode_body(header, stored.encoded.body)
        timestamp = header.timestamp
        held: VersionVector = header.context
        if body is not None and body.request is not None:
            if fingerprint is not None and body.request.fingerprint != fingerprint:
                raise RequestMismatch("this idempotency key was used for another request")
            held = header.context if body.request.held is None else body.request.held
        events.append(_written(header, held))
    # A request is told by its fingerprint: what it does may depend on the state that it meets.
    if fingerprint is None and [event.stream for event in events] != [draft.stream for draft in command.drafts]:
        raise RequestMismatch("this source was imported as another transaction")
    return Written(timestamp, tuple(events), repeated=True)


def _check_conditions(batch: Batch, command: Command) -> None:
    for name, vectors in command.expect.items():
        held = _state(batch, name)
        if not any(held == vector for vector in vectors):
            raise ConditionFailed(name, held, f"{_kind(name)} {name!r} is not in the expected state")
    for name in command.absent:
        row = batch.stream(name)
        if row is not None and (row.opaque or row.exists):
            raise ConditionFailed(name, dict(row.vector), f"stream {name!r} exists")
    for name in command.present:
        row = batch.stream(name)
        if row is None or not (row.opaque or row.exists):
            raise UnknownStream(name, dict(row.vector) if row else {})


def _kind(name: str) -> str:
    return "prefix" if is_prefix(name) else "stream"


def _state(batch: Batch, name: str) -> dict[str, int]:
    if is_prefix(name):
        return dict(batch.prefix(name))
    row = batch.stream(name)
    return dict(row.vector) if row else {}


def _plan(batch: Batch, draft: Draft) -> _Plan:
    row = batch.stream(draft.stream)
    if row is not None and row.opaque:
        raise Unfoldable(draft.stream)
    held = row.vector.copy() if row else {}
    context = held
    if draft.context is not None:
        if not includes(batch.mirror.vector, draft.context):
            missing = {o: s for o, s in draft.context.items() if s > batch.mirror.vector.get(o, 0)}
            raise ContextAhead(missing)
        context = cut(draft.context, held)
    operations = draft.operations
    if draft.merge is not None:
        merged = _merged(row.registers if row else {}, draft.merge)
        operations = check_operations([*operations, *merged])
    return _Plan(draft.stream, row, operations, context, held)


def _merged(registers: Mapping[str, Register], patch: Mapping[str, JSON]) -> list[Set]:
    values = {field: writes[0].value for field, writes in registers.items()}
    return [Set(field, merge_patch(values.get(field), change)) for field, change in patch.items()]


def merge_patch(target: JSON, patch: JSON) -> JSON:
    """The target after a merge-patch. Source: RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _stamp(batch: Batch, writer: Writer, now_ms: int) -> int:
    timestamp = next_timestamp(batch.mirror.clock, now_ms)
    if timestamp >= now_ms + writer.drift_ms + 1 << COUNTER_BITS or timestamp > TIMESTAMP_MAX:
        raise ClockAhead(milliseconds(timestamp) - now_ms, writer.drift_ms)
    return timestamp


class _New(msgspec.Struct, frozen=True, gc=False):
    """One event that may be appended. Shape: `held` is its stream's vector before it."""

    entry: Entry
    held: dict[str, int]


def _encode(batch: Batch, command: Command, plans: list[_Plan], timestamp: int, writer: Writer) -> list[_New]:
    origin = batch.mirror.origin
    head = batch.heads.get(origin)
    if head is None:
        batch.check_room_for(origin)
    seq = head.seq if head else 0
    previous = head.chain if head else genesis(writer.cluster, origin)
    seen = () if head and head.position == batch.mirror.position else _seen(batch, origin)
    events: list[_New] = []
    size = 0
    for plan in plans:
        seq += 1
        body = Body(
            writer.salt(origin, seq),
            plan.operations,
            command.actor,
            None if command.request is None else _request(command.request, plan),
            command.occurred_at,
            command.source,
        )
        body_bytes = encode_body(body)
        header = Header(
            FORMAT, 0, origin, seq, plan.stream, timestamp, plan.context, previous,
            digest(body_bytes), len(events), len(plans), () if events else seen,
        )  # fmt: skip
        header_bytes = encode_header(header)
        previous = digest(header_bytes)
        size += _checked_size(len(header_bytes) + len(body_bytes), plan, body)
        events.append(_New(Entry(header, previous, Encoded(header_bytes, body_bytes), body), plan.held))
    if size > TRANSACTION_BYTES_MAX:
        raise TooLarge(f"the transaction has {size} bytes; at most {TRANSACTION_BYTES_MAX} are allowed")
    return events


def _request(request: tuple[str, bytes], plan: _Plan) -> Request:
    key, fingerprint = request
    return Request(key, fingerprint, None if plan.held == plan.context else plan.held)


def _seen(batch: Batch, origin: str) -> tuple[Seen, ...]:
    """What changed in this node's vector since the origin's last transaction: what arrived after it."""
    own = batch.heads.get(origin)
    since = own.position if own else 0
    return tuple(
        Seen(other, head.seq, head.chain[:MARK_BYTES])
        for other, head in batch.heads.items()
        if other != origin and head.position > since
    )


def _checked_size(size: int, plan: _Plan, body: Body) -> int:
    if size > EVENT_BYTES_MAX:
        raise TooLarge(f"the event has {size} bytes; at most {EVENT_BYTES_MAX} are allowed")
    if plan.row is not None and plan.row.size + size > STREAM_ROW_BYTES_MAX:
        _check_row(plan.stream, plan.row, body)
    return size


def _check_row(stream: str, row: StreamRow, body: Body) -> None:
    """The row's size is only bounded from above while events are added to it: measure it, and what this one adds."""
    row.size = len(tables.encode_stream(row))
    added = [
        [operation.field, operation.value] if isinstance(operation, Set) else [operation.field]
        for operation in body.operations or ()
        if isinstance(operation, Set) or (isinstance(operation, Add) and operation.field not in row.sets)
    ]
    if row.size + len(pack(added)) > STREAM_ROW_BYTES_MAX:
        raise TooLarge(
            f"the registers and set fields of stream {stream!r} would take more than {STREAM_ROW_BYTES_MAX} bytes"
        )
