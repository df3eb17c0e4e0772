"""Appending one event: log, milestones, vectors, request and cells move together, or not at all (I2)."""

from crdt.hybrid_clock import milliseconds
from replication import tables
from replication.batch import Batch
from replication.cells import fold_into
from replication.event import Body, Entry, Header
from replication.limits import MILESTONE_EVENTS
from replication.tables import RequestRow


def append(batch: Batch, entry: Entry) -> None:
    """Append an event whose predecessors, in its origin and its context, are held. Everything was checked."""
    header, body = entry.header, entry.body
    row = batch.stream_to_change(header.stream)
    batch.put_event(entry, row)
    if body is None or body.operations is None:
        row.opaque = True
    elif not row.opaque:
        fold_into(batch, row, header, body.operations)
    row.vector[header.origin] = header.seq
    row.events += 1
    if header.timestamp < row.created or not row.created:
        row.created = header.timestamp
    if row.events % MILESTONE_EVENTS == 0:
        batch.put_milestone(row)
    row.size += entry.encoded.size
    if body is not None and (body.request is not None or body.source is not None) and header.index == 0:
        _note_request(batch, header, body)


def _note_request(batch: Batch, header: Header, body: Body) -> None:
    if body.request is not None:
        at_ms = milliseconds(header.timestamp)
        row = RequestRow(header.origin, header.seq, header.count, at_ms)
        batch.put_request(tables.request_key(body.actor, body.request.key), row)
    if body.source is not None:
        row = RequestRow(header.origin, header.seq, header.count, 0)
        batch.put_request(tables.source_key(*body.source), row)
