"""The log as it is: the events of a stream or prefix by (timestamp, origin, seq), and one event by its dot."""

from typing import Any

from crdt.answer import conflicts
from crdt.dot import Dot
from node.interface.conditions import wait_causal
from node.interface.cursors import decode_cursor, next_link
from node.interface.drafts import spell
from node.interface.moments import format_timestamp
from node.interface.problems import Problem
from node.interface.reply import Reply
from node.interface.request import Request
from replication.errors import Invalid
from replication.event import Entry
from replication.history import BEGINNING, Order, read_entry
from replication.origin import region_of
from replication.queries import prefix_log, stream_log
from replication.snapshot import Snapshot
from replication.stream_name import is_prefix
from replication.tokens import format_token, parse_dot


async def read_events(request: Request) -> Reply:
    """The audit trail of a stream, or of everything below a prefix."""
    await wait_causal(request)
    after = _after(request)
    with request.node.replica.read() as snapshot:
        read = prefix_log if is_prefix(request.name) else stream_log
        events, following = read(snapshot, request.name, after, request.limit)
        lost = {} if is_prefix(request.name) else _lost(snapshot, request.name)
    shown = {"events": [show_event(event, lost.get(event.header.dot)) for event in events]}
    return Reply(shown, headers=next_link(request, following and list(following)))


def _after(request: Request) -> Order:
    position = decode_cursor(request)
    if position is None:
        return BEGINNING
    match position:
        case [int(timestamp), str(origin), int(seq)] if min(timestamp, seq) >= 0:
            return (timestamp, origin, seq)
    raise Invalid("cursor", "is not a cursor that this node gave")


def _lost(snapshot: Snapshot, name: str) -> dict[Dot, list[str]]:
    """The registers whose live write lost to another one, by the event that wrote it (I10)."""
    lost: dict[Dot, list[str]] = {}
    row = snapshot.stream(name)
    for field, writes in conflicts(row.registers).items() if row is not None and not row.opaque else ():
        for write in writes:
            lost.setdefault(write.dot, []).append(field)
    return lost


async def read_dot(request: Request) -> Reply:
    """One event."""
    await wait_causal(request)
    dot = parse_dot(request.name)
    if dot is None:
        raise Invalid("dot", f"{request.name[:100]!r} is not a dot, such as eu-west.5f2c9a10.12")
    with request.node.replica.read() as snapshot:
        row = snapshot.event(dot)
    if row is None:
        raise Problem("unknown-dot", f"event {dot} is not held here")
    return Reply(show_event(read_entry(row)))


def show_event(event: Entry, lost: list[str] | None = None) -> dict[str, Any]:
    """An event as it is answered, by whatever path it is read. Shape: `lost` names registers whose write lost."""
    header, body = event.header, event.body
    shown: dict[str, Any] = {
        "dot": str(header.dot),
        "stream": header.stream,
        "region": region_of(header.origin),
        "timestamp": format_timestamp(header.timestamp),
        "context": format_token(header.stream, header.context),
        "chain": event.chain.hex(),
    }
    if header.count > 1:
        shown["transaction"] = {"index": header.index, "count": header.count}
    if lost:
        shown["lost"] = lost
    if body is None or body.operations is None:
        return shown | {"unknown": True}
    shown |= {"actor": body.actor, **spell(body.operations)}
    if body.request is not None:
        shown["idempotency_key"] = body.request.key
    if body.occurred_at is not None:
        shown["occurred_at"] = body.occurred_at
    if body.source is not None:
        shown["source"] = {"name": body.source.name, "position": body.source.position}
    return shown
