"""Folding again, from its log, a stream that an older version could not fold.

An event of an unknown format or operation is stored and forwarded; its stream is opaque until a version that
knows it opens the store. Order by (timestamp, origin, seq) is an order of causes before effects, so the history
can be folded straight through.
"""

from collections.abc import Iterator

from crdt.dot import Dot
from crdt.event import Event
from replication import tables
from replication.batch import Batch
from replication.cells import fold_into
from replication.event import meaning
from replication.history import in_order
from replication.snapshot import Snapshot
from replication.tables import StreamRow


def events_of(snapshot: Snapshot, row: StreamRow) -> Iterator[tuple[int, Dot, Event | None]]:
    """A stream's events by timestamp, causes first; None for one that this version cannot fold."""
    for entry in in_order(snapshot, row):
        yield entry.header.timestamp, entry.header.dot, meaning(entry.header, entry.body)


def refold_opaque(batch: Batch) -> None:
    """Fold every opaque stream whose events are all known by now."""
    names = [key.decode() for key, _ in batch.walk("streams") if not key.endswith(b"/")]
    for name in names:
        row = batch.stream(name)
        assert row is not None
        if row.opaque and all(event is not None for _, _, event in events_of(batch, row)):
            _refold(batch, name)


def _refold(batch: Batch, name: str) -> None:
    row = batch.stream_to_change(name)
    entries = list(in_order(batch, row))  # while its vector says where they are
    for key, _ in batch.walk("elements", tables.number_key(row.number), tables.number_key(row.number)):
        batch.put_additions(key, ())
    row.opaque = False
    row.stored, row.conflicts, row.cleared = {}, 0, {}
    row.sets = dict.fromkeys(row.sets, 0)
    vector, row.vector = row.vector, {}
    for entry in entries:
        assert entry.body is not None
        assert entry.body.operations is not None
        fold_into(batch, row, entry.header, entry.body.operations)
        row.vector[entry.header.origin] = entry.header.seq
    row.vector = vector
