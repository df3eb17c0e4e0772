"""A stream's own events, out of a log that is ordered by origin: newest first, or in order from any place on.

Each row of the log names the same origin's event before it on the same stream, and the stream's vector names the
last of each origin: lists to walk back. A row by stream for each event would be simpler to read; but what an event
costs is the pages that its commit touches, and such rows lie as far from each other as their streams do.

So a stream leaves a row only at every `MILESTONE_EVENTS`th event, with its vector as it was then. Between two
milestones are that many events, whoever wrote them. To begin anywhere in a long history, bisect the milestones for
each origin, then walk back from the one beyond the place: a skip list of one level (Pugh 1990).
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterator

from crdt.dot import Dot
from crdt.version_vector import VersionVector
from replication.event import Entry
from replication.event_codec import decode_body, decode_header
from replication.limits import MILESTONE_EVENTS
from replication.snapshot import Snapshot
from replication.tables import LogRow, StreamRow

Order = tuple[int, str, int]
"""(timestamp, origin, seq)."""

BEGINNING: Order = (0, "", 0)


def read_entry(row: LogRow) -> Entry:
    """A row of the log, read."""
    header = decode_header(row.encoded.header)
    return Entry(header, row.chain, row.encoded, decode_body(header, row.encoded.body))


def order_of(event: Entry) -> Order:
    """Where an event stands in every order that shows."""
    return (event.header.timestamp, event.header.origin, event.header.seq)


def walk_back(snapshot: Snapshot, stream: VersionVector, covered: VersionVector) -> Iterator[LogRow]:
    """The rows of a stream with this vector, of events that `covered` does not cover, newest first within each
    origin, at a cost of just those.
    """
    for origin, newest in stream.items():
        for _, row in _back(snapshot, origin, newest, covered.get(origin, 0)):
            yield row


def held_entry(snapshot: Snapshot, origin: str, seq: int) -> Entry:
    """An event that the log holds."""
    return read_entry(_held(snapshot, origin, seq))


def _back(snapshot: Snapshot, origin: str, newest: int, covered: int) -> Iterator[tuple[int, LogRow]]:
    seq = newest
    while seq > covered:
        row = _held(snapshot, origin, seq)
        yield seq, row
        assert row.earlier < seq, f"{origin}.{seq} names {row.earlier} as the event before it"
        seq = row.earlier


def _held(snapshot: Snapshot, origin: str, seq: int) -> LogRow:
    row = snapshot.event(Dot(origin, seq))
    assert row is not None, f"{origin}.{seq} is below a head or in a vector, and not in the log"
    return row


def in_order(snapshot: Snapshot, row: StreamRow, after: Order = BEGINNING) -> Iterator[Entry]:
    """The stream's events by (timestamp, origin, seq), beyond `after`: causes before effects."""
    return heapq.merge(*(_of_origin(snapshot, row, origin, after) for origin in row.vector), key=order_of)


def _of_origin(snapshot: Snapshot, row: StreamRow, origin: str, after: Order) -> Iterator[Entry]:
    """One origin's part, a stretch between two milestones at a time. Its stamps grow with its seqs."""
    milestones = range(row.events // MILESTONE_EVENTS + 1)  # at the first, 0, there was nothing

    def reached(milestone: int) -> int:
        if milestone == len(milestones):
            return row.vector[origin]
        return snapshot.milestone(row.number, milestone).get(origin, 0) if milestone else 0

    def order_reached(milestone: int) -> Order:
        newest = reached(milestone)
        return order_of(held_entry(snapshot, origin, newest)) if newest else BEGINNING

    milestone = bisect_right(milestones, after, key=order_reached)
    low = reached(milestone - 1)
    while low < row.vector[origin]:
        milestone = bisect_right(milestones, low, lo=milestone, key=reached)
        high = reached(milestone)
        # Their seqs alone: a stretch of large events, one of each origin, would be much to hold.
        stretch = [seq for seq, _ in _back(snapshot, origin, high, low)]
        low = high
        for seq in reversed(stretch):
            event = held_entry(snapshot, origin, seq)
            if order_of(event) > after:
                yield event
