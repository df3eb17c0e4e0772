"""What a snapshot answers: a stream, a page of its set, its past, streams below a prefix, conflicts, the log.

Every order that shows is by (timestamp, origin, seq) or by UTF-8 bytes, and nothing that only this node knows
(numbers, positions) leaks, so nodes with equal heads give equal answers (I4). `changes` alone is in arrival order.
"""

import heapq
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from itertools import islice

import msgspec

from crdt.answer import Answer
from crdt.dot import Dot
from crdt.fold import MemoryCells, fold
from crdt.observed_remove_set import Additions, removed
from crdt.version_vector import VersionVector, covers
from replication import tables
from replication.errors import TooLarge, Unfoldable, UnknownStream
from replication.event import Entry, meaning
from replication.event_codec import decode_header
from replication.history import Order, held_entry, in_order, order_of, read_entry, walk_back
from replication.limits import (
    ELEMENT_BYTES_MAX,
    GATHER_ROWS_MAX,
    PAGE_BYTES_MAX,
    SCAN_ROWS_MAX,
    SET_INLINE_MAX,
    SETS_INLINE_MAX,
    TIME_TRAVEL_BYTES_MAX,
    TIME_TRAVEL_EVENTS_MAX,
)
from replication.snapshot import Snapshot
from replication.stream_name import ROOT, ancestors, is_prefix
from replication.tables import LogRow, StreamRow


class StreamAnswer(msgspec.Struct, frozen=True):
    """A stream resolved.

    Shape: `row` has its registers, and the vector that it was resolved at. `sets` lists the members of the sets that
    are `inlined`, `large` counts those of the others.
    """

    stream: str
    row: StreamRow
    sets: Mapping[str, tuple[str, ...]] = {}
    large: Mapping[str, int] = {}


def stream_row(snapshot: Snapshot, name: str) -> StreamRow:
    """The row of a stream that had events.

    Raises: UnknownStream; Unfoldable, where this version cannot answer it.
    """
    row = snapshot.stream(name)
    if row is None:
        raise UnknownStream(name, {})
    if row.opaque:
        raise Unfoldable(name)
    return row


def existing_row(snapshot: Snapshot, name: str) -> StreamRow:
    """The row of a stream that exists.

    Raises: UnknownStream; Unfoldable.
    """
    row = stream_row(snapshot, name)
    if not row.exists:
        raise UnknownStream(name, row.vector)
    return row


def resolve_stream(snapshot: Snapshot, name: str) -> StreamAnswer:
    """A stream as it is now.

    Raises: UnknownStream, where it does not exist; Unfoldable.
    """
    row = existing_row(snapshot, name)
    if not row.sets:
        return StreamAnswer(name, row)
    shown = inlined(row.sets)
    sets = {field: members_of(snapshot, row, field) for field in sorted(shown)}
    large = {field: count for field, count in sorted(row.sets.items()) if count and field not in shown}
    return StreamAnswer(name, row, sets, large)


def inlined(counts: Mapping[str, int]) -> Set[str]:
    """The sets, told by how many members they have, that an answer lists: none that is large, and not too many."""
    shown: set[str] = set()
    left = SETS_INLINE_MAX
    for count, field in sorted((count, field) for field, count in counts.items() if count):
        left -= count
        if count > SET_INLINE_MAX or left < 0:
            break
        shown.add(field)
    return shown


def members_of(snapshot: Snapshot, row: StreamRow, field: str) -> tuple[str, ...]:
    """A set's members in UTF-8 order."""
    return tuple([element for element, live in live_members(snapshot, row, field) if live])


def fitting(snapshot: Snapshot, streams: Sequence[str]) -> int:
    """How many of these streams, from the first on, one page may read: until their rows have `PAGE_BYTES_MAX`."""
    size = 0
    for count, name in enumerate(streams, 1):
        size += snapshot.stream_bytes(name)
        if size >= PAGE_BYTES_MAX:
            return count
    return len(streams)


def live_members(snapshot: Snapshot, row: StreamRow, field: str, start: str = "") -> Iterator[tuple[str, bool]]:
    """A set's element rows in UTF-8 order, and whether each is a member; dead rows come until they are purged."""
    number = row.field_numbers.get(field)
    if number is None:
        return
    below = tables.field_key(row.number, number)
    for key, data in snapshot.walk("elements", below + start.encode(), below):
        # A row that no delete can have left dead is live: it is there only as long as it has additions.
        live = not row.cleared or bool(removed(tables.decode_additions(data, snapshot.numbers), row.cleared))
        yield tables.element_from_key(key), live


def page_set(snapshot: Snapshot, row: StreamRow, field: str, start: str, limit: int) -> tuple[list[str], str | None]:
    """Up to `limit` members from `start` on, and where the next page starts; short where many rows are dead."""
    page: list[str] = []
    for looked_at, (element, live) in enumerate(live_members(snapshot, row, field, start)):
        if len(page) == limit or looked_at == SCAN_ROWS_MAX:
            return page, element
        if live:
            page.append(element)
    return page, None


def contains(snapshot: Snapshot, row: StreamRow, field: str, element: str) -> bool:
    """Whether the element is in the set."""
    return bool(live_additions(snapshot, row, field, element))


def live_additions(snapshot: Snapshot, row: StreamRow, field: str, element: str) -> Additions:
    """The additions that keep an element in the set."""
    number = row.field_numbers.get(field)
    if number is None or len(element.encode()) > ELEMENT_BYTES_MAX:
        return ()
    return removed(snapshot.additions(tables.element_key(row.number, number, element)), row.cleared)


def resolve_past(
    snapshot: Snapshot, name: str, *, vector: VersionVector | None = None, timestamp: int | None = None
) -> tuple[VersionVector, Answer]:
    """A stream as it was when exactly the events of `vector`, or those stamped up to `timestamp`, were held.

    The answer names the vector it was resolved at. Raises: UnknownStream, where it had no events by then; Unfoldable;
    TooLarge, where too many events would have to be looked at.
    """
    row = snapshot.stream(name)
    if row is None:
        raise UnknownStream(name, {})
    latest = _latest(snapshot, vector) if timestamp is None else timestamp
    cells = MemoryCells()
    reached: dict[str, int] = {}
    size = 0
    for looked_at, entry in enumerate(in_order(snapshot, row)):
        if entry.header.timestamp > latest:
            break
        size += entry.encoded.size
        if looked_at == TIME_TRAVEL_EVENTS_MAX or size > TIME_TRAVEL_BYTES_MAX:
            bounds = f"{TIME_TRAVEL_EVENTS_MAX} events, or {TIME_TRAVEL_BYTES_MAX} bytes of them"
            raise TooLarge(f"time travel would look at more than {bounds}")
        dot, event = entry.header.dot, meaning(entry.header, entry.body)
        if vector is None or covers(vector, dot):
            if event is None:
                raise Unfoldable(name)
            fold(cells, event)
            reached[dot.origin] = dot.seq
    answer = cells.answer()
    if not answer.exists:
        raise UnknownStream(name, reached)
    return reached, answer


def _latest(snapshot: Snapshot, vector: VersionVector | None) -> int:
    """The greatest timestamp of what a vector covers: each origin's grow, so those of its newest dots decide."""
    rows = (snapshot.event(Dot(origin, seq)) for origin, seq in (vector or {}).items())
    return max((decode_header(row.encoded.header).timestamp for row in rows if row is not None), default=0)


def list_streams(
    snapshot: Snapshot, prefix: str, start: str, limit: int
) -> tuple[list[tuple[str, VersionVector]], str | None]:
    """Up to `limit` existing streams below a prefix, by name, from `start` on; and where the next page starts.

    A stream that this version cannot fold is listed: it holds something.
    """
    page: list[tuple[str, VersionVector]] = []
    below, size = prefix.encode(), 0
    for looked_at, (key, data) in enumerate(snapshot.walk("streams", start.encode() or below, below)):
        name = key.decode()
        if len(page) == limit or looked_at == SCAN_ROWS_MAX or size >= PAGE_BYTES_MAX:
            return page, name
        size += len(data)
        if not is_prefix(name):
            row = tables.decode_stream(data, snapshot.numbers)
            if row.opaque or row.exists:
                page.append((name, row.vector))
    return page, None


def list_conflicts(snapshot: Snapshot, prefix: str, start: str, limit: int) -> tuple[list[str], str | None]:
    """Up to `limit` streams below a prefix that have live conflicts, by name; and where the next page starts."""
    page: list[str] = []
    below = prefix.encode()
    for key, _ in snapshot.walk("conflicted", start.encode() or below, below):
        if len(page) == limit:
            return page, key.decode()
        page.append(key.decode())
    return page, None


# --- the log


def stream_log(snapshot: Snapshot, name: str, after: Order, limit: int) -> tuple[list[Entry], Order | None]:
    """Up to `limit` events of a stream by (timestamp, origin, seq), beyond `after`; and where the next page goes on.

    Raises: UnknownStream, where the stream never had events.
    """
    row = snapshot.stream(name)
    if row is None:
        raise UnknownStream(name, {})
    page: list[Entry] = []
    size = 0
    for event in in_order(snapshot, row, after):
        if len(page) == limit or size >= PAGE_BYTES_MAX:
            return page, order_of(page[-1])
        page.append(event)
        size += event.encoded.size
    return page, None


def prefix_log(snapshot: Snapshot, prefix: str, after: Order, limit: int) -> tuple[list[Entry], Order | None]:
    """As `stream_log`, for everything below a prefix. A transaction is never split between pages.

    Each origin's log is ordered by timestamp, so the logs are merged, each from a place found by bisection.
    """
    page: list[Entry] = []
    merged = heapq.merge(*(_from_order(snapshot, origin, after) for origin in snapshot.heads), key=order_of)
    reached, size = after, 0
    for looked_at, event in enumerate(merged):
        full = len(page) >= limit or looked_at >= SCAN_ROWS_MAX or size >= PAGE_BYTES_MAX
        if full and event.header.index == 0:
            return page, reached
        reached = order_of(event)
        if event.header.stream.startswith(prefix):
            page.append(event)
            size += event.encoded.size
    return page, None


def _from_order(snapshot: Snapshot, origin: str, after: Order) -> Iterator[Entry]:
    seqs = range(1, snapshot.heads[origin].seq + 1)
    place = bisect_right(seqs, after, key=lambda seq: order_of(held_entry(snapshot, origin, seq)))
    for row in snapshot.log_from(origin, place + 1):
        yield read_entry(row)


def changes(snapshot: Snapshot, name: str, after: VersionVector) -> Iterator[tuple[Entry, bool]]:
    """The events that `after` does not cover, in this node's arrival order; and whether each is of stream or prefix.

    Whoever reads on may remember all that passed as covered, and once it ends, everything held.
    """
    few = None if is_prefix(name) else _few_beyond(snapshot, name, after)
    for stored in missing(snapshot, after) if few is None else few:
        event = read_entry(stored)
        stream = event.header.stream
        yield event, name in (ROOT, stream) or name in ancestors(stream)


def _few_beyond(snapshot: Snapshot, name: str, after: VersionVector) -> list[LogRow] | None:
    """The events of one stream that `after` does not cover; None where they are too many to gather.

    A stream that was quiet while others were not is answered from its own list, not by reading the whole log.
    """
    row = snapshot.stream(name)
    beyond = walk_back(snapshot, row.vector, after) if row else iter(())
    gathered = list(islice(beyond, GATHER_ROWS_MAX + 1))
    return sorted(gathered, key=lambda row: row.position) if len(gathered) <= GATHER_ROWS_MAX else None


def missing(snapshot: Snapshot, held: VersionVector, blocked: Collection[str] = ()) -> Iterator[LogRow]:
    """The rows of the log that a vector does not cover, in arrival order: each origin from its first missing seq,
    merged by position. Cost grows with what is missing, never with the log.

    Origins in `blocked` are left out; whoever reads may add to it, and that origin's rows come no more.
    """
    logs = {
        origin: snapshot.log_from(origin, held.get(origin, 0) + 1)
        for origin, head in snapshot.heads.items()
        if head.seq > held.get(origin, 0) and origin not in blocked
    }
    waiting = [(row.position, origin, row) for origin, log in logs.items() for row in islice(log, 1)]
    heapq.heapify(waiting)
    while waiting:
        _, origin, row = waiting[0]
        if origin not in blocked:
            yield row
        following = next(logs[origin], None) if origin not in blocked else None
        if following is None:
            heapq.heappop(waiting)
        else:
            heapq.heapreplace(waiting, (following.position, origin, following))
