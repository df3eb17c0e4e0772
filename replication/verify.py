"""Checking a store against its own log: chains, gaps, causal order, indexes, and cells against the reference.

The log is the truth (I1); everything else is derived again from it, and compared. Reads one snapshot, so a store
in use can be checked too. The checks share no code with the turn beyond the codecs and the walk back through a
stream's events.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from crdt.dot import Dot
from crdt.event import Event
from crdt.fold import MemoryCells, fold
from crdt.operations import Add, Delete
from crdt.reference import live_additions, resolve
from crdt.register import Register
from crdt.version_vector import covers, includes, join
from replication import tables
from replication.event import MARK_BYTES, Body, Header, digest, genesis, meaning
from replication.event_codec import decode_body, decode_header
from replication.history import in_order
from replication.limits import MILESTONE_EVENTS, PROBLEMS_MAX, REFERENCE_OPERATIONS_MAX
from replication.queries import missing
from replication.snapshot import Snapshot, read
from replication.store import Meta, Store
from replication.stream_name import ROOT, ancestors, is_prefix
from replication.tables import LogRow, StreamRow

Additions = dict[str, dict[str, set[Dot]]]
"""The dots of live additions, by field and element."""

Progress = Callable[[int, int], None]
"""Told how many steps are done, of how many."""


@dataclass(slots=True)
class Report:
    """What was found. A store without problems is what its log says."""

    problems: list[str] = field(default_factory=list)
    events: int = 0
    streams: int = 0
    origins: int = 0

    def wrong(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


def verify(directory: Path, progress: Progress = lambda done, total: None) -> Report:
    """Check the store in `directory`.

    Raises: StoreRefused, where it cannot be opened at all.
    """
    store = Store(directory, readonly=True)
    try:
        with read(store) as snapshot:
            return _Verification(store, snapshot, progress).run()
    finally:
        store.close()


class _Verification:
    def __init__(self, store: Store, snapshot: Snapshot, progress: Progress) -> None:
        self.store = store
        self.snapshot = snapshot
        self.progress = progress
        self.report = Report()
        self.vector: dict[str, int] = {}
        self.streams: dict[str, dict[str, int]] = defaultdict(dict)
        self.prefixes: dict[str, dict[str, int]] = defaultdict(dict)
        self.counts: dict[str, int] = defaultdict(int)
        self.created: dict[str, int] = {}
        self.milestones: dict[str, list[dict[str, int]]] = defaultdict(list)
        self.clock = 0

    def run(self) -> Report:
        meta = self.store.read_meta(self.snapshot.transaction)
        if meta is None:
            self.report.wrong("the store has no description of itself (meta)")
            return self.report
        try:
            self._check(meta)
        except Exception as error:  # noqa: BLE001  # rows that are spoilt can fail to decode in any way
            self.report.wrong(f"a row cannot be read: {type(error).__name__}: {error}")
        return self.report

    def _check(self, meta: Meta) -> None:
        heads = self.snapshot.heads
        self.report.origins = len(heads)
        for origin in heads:
            self._check_chain(meta.cluster, origin)
        self._check_arrivals()
        rows = {key.decode(): row for key, row in self.snapshot.walk("streams") if key != tables.ROOT_KEY}
        self.report.streams = sum(not is_prefix(name) for name in rows)
        for done, name in enumerate(sorted(self.streams)):
            self._check_stream(name)
            self.progress(self.report.events + done, self.report.events + len(self.streams))
        self._check_prefixes(rows)
        self._check_indexes(rows)
        self._check_counters(meta)

    # --- the log

    def _check_chain(self, cluster: str, origin: str) -> None:
        head = self.snapshot.heads[origin]
        previous, seq, position, timestamp, place = genesis(cluster, origin), 0, 0, 0, (0, 1)
        for row in self.snapshot.log_from(origin, 1):
            seq += 1
            header = decode_header(row.encoded.header)
            if header.dot != Dot(origin, seq):
                self.report.wrong(f"{origin}.{seq} is missing: the log goes on with {header.dot}")
                return
            if row.chain != digest(row.encoded.header) or header.previous != previous:
                self.report.wrong(f"{header.dot} breaks the chain")
            if digest(row.encoded.body) != header.body_hash:
                self.report.wrong(f"{header.dot} has a body of another hash")
            starts = place[0] + 1 == place[1]
            if (header.index == 0) != starts or (not starts and header.index != place[0] + 1):
                self.report.wrong(f"{header.dot} is out of place in its transaction")
            if header.timestamp < timestamp or (starts and seq > 1 and header.timestamp == timestamp):
                self.report.wrong(f"{header.dot} has a timestamp that is not above the one before it")
            previous, position, timestamp = row.chain, row.position, header.timestamp
            place = (header.index, header.count)
        if (seq, previous, position, timestamp) != (head.seq, head.chain, head.position, head.timestamp):
            self.report.wrong(f"the head of {origin} says {head.seq}, its log ends at {seq}, or they differ")
        if place[0] + 1 != place[1]:
            self.report.wrong(f"the last transaction of {origin} is not whole")

    def _check_arrivals(self) -> None:
        """Replay the arrival order: every event after what its writer had seen (I3), contexts within streams."""
        total = sum(head.seq for head in self.snapshot.heads.values())
        for row in missing(self.snapshot, {}):
            self.report.events += 1
            if self.report.events % 1000 == 0:
                self.progress(self.report.events, 2 * total)
            header = decode_header(row.encoded.header)
            if row.position != self.report.events:
                self.report.wrong(f"{header.dot} is at position {row.position}, not {self.report.events}")
            self._check_arrival(row, header)
            self._check_pointers(header, decode_body(header, row.encoded.body))

    def _check_arrival(self, row: LogRow, header: Header) -> None:
        dot, stream = header.dot, self.streams[header.stream]
        if dot.seq != self.vector.get(dot.origin, 0) + 1:
            self.report.wrong(f"{dot} arrived out of its origin's order")
        for origin, seq, mark in header.seen:
            seen = self.snapshot.event(Dot(origin, seq))
            if seen is None or seen.chain[:MARK_BYTES] != mark or not covers(self.vector, Dot(origin, seq)):
                self.report.wrong(f"{dot} arrived before {origin}.{seq}, which its writer had seen")
        if not includes(stream, header.context):
            self.report.wrong(f"{dot} has a context beyond its stream")
        if row.earlier != stream.get(dot.origin, 0):
            self.report.wrong(f"{dot} names {row.earlier} as the event before it on its stream")
        self.vector[dot.origin] = stream[dot.origin] = dot.seq
        for prefix in ancestors(header.stream):
            self.prefixes[prefix][dot.origin] = dot.seq
        self.counts[header.stream] += 1
        self.created[header.stream] = min(self.created.get(header.stream, header.timestamp), header.timestamp)
        if self.counts[header.stream] % MILESTONE_EVENTS == 0:
            self.milestones[header.stream].append(dict(stream))
        self.clock = max(self.clock, header.timestamp)

    def _check_pointers(self, header: Header, body: Body | None) -> None:
        if body is None or header.index:
            return
        if body.source is not None and self.snapshot.request(tables.source_key(*body.source)) is None:
            self.report.wrong(f"{header.dot} was imported, and its source is not indexed")

    # --- what is derived

    def _check_stream(self, name: str) -> None:
        row = self.snapshot.stream(name)
        if row is None:
            self.report.wrong(f"stream {name!r} has events and no row")
            return
        if row.vector != self.streams[name]:
            self.report.wrong(f"stream {name!r} is at {row.vector}, its log at {self.streams[name]}")
            return
        if (row.events, row.created) != (self.counts[name], self.created[name]):
            self.report.wrong(f"stream {name!r} does not know how many events it has, or when it was created")
            return
        keys = [tables.milestone_key(row.number, 1 + place) for place in range(len(self.milestones[name]))]
        rows = [self.snapshot.get("milestones", key) for key in keys]
        noted = [data and tables.decode_vector(data, self.snapshot.numbers) for data in rows]
        if noted != self.milestones[name]:
            self.report.wrong(f"the milestones of stream {name!r} are not what its log says")
            return
        history = in_order(self.snapshot, row)
        events = [meaning(entry.header, entry.body) for entry in history if entry.header.stream == name]
        if len(events) != row.events:
            self.report.wrong(f"the history of stream {name!r} is not what its log says")
        known = [event for event in events if event is not None]
        if row.opaque != (len(known) < len(events)):
            self.report.wrong(f"stream {name!r} is marked foldable or not, and is the other")
        if not row.opaque:
            self._check_cells(name, row, *_derive(known))
            self._check_frame(name, row, known)
        for field_name in row.sets:
            self._check_dead(name, row, field_name)

    def _check_cells(self, name: str, row: StreamRow, live: dict[str, Register], additions: Additions) -> None:
        if dict(sorted(row.registers.items())) != live:
            self.report.wrong(f"the registers of stream {name!r} are not what its log says")
        if row.conflicts != sum(len(writes) > 1 for writes in live.values()):
            self.report.wrong(f"stream {name!r} does not count its conflicts")
        stored: Additions = {}
        for field_name in row.sets:
            for element, dots in self.snapshot.members(row, field_name):
                left = {dot for dot in dots if not covers(row.cleared, dot)}
                if left:
                    stored.setdefault(field_name, {})[element] = left
        if stored != additions:
            self.report.wrong(f"the sets of stream {name!r} are not what its log says")
        counts = {field_name: len(members) for field_name, members in additions.items()}
        if {field_name: count for field_name, count in row.sets.items() if count} != counts:
            self.report.wrong(f"the counts of stream {name!r} are not what its log says")

    def _check_frame(self, name: str, row: StreamRow, events: list[Event]) -> None:
        """What a row keeps beside its cells: what deletes saw, joined, and a number for each field ever added to."""
        cleared: dict[str, int] = {}
        fields: set[str] = set()
        for event in events:
            if Delete() in event.operations:
                cleared = join(cleared, event.context)
            fields.update(operation.field for operation in event.operations if isinstance(operation, Add))
        if row.cleared != cleared:
            self.report.wrong(f"stream {name!r} is cleared up to {row.cleared}, its deletes saw {cleared}")
        if row.sets.keys() != fields:
            self.report.wrong(f"the set fields of stream {name!r} are not those its log adds to")

    def _check_dead(self, name: str, row: StreamRow, field_name: str) -> None:
        """Element rows that a delete left dead are allowed only while their purge is due."""
        if self.snapshot.get("purge", tables.number_key(row.number)) is not None:
            return
        for element, additions in self.snapshot.members(row, field_name):
            if not additions or any(covers(row.cleared, dot) for dot in additions):
                self.report.wrong(f"stream {name!r} keeps a dead row of {field_name!r}: {element!r}")

    def _check_prefixes(self, rows: dict[str, bytes]) -> None:
        names = {name for name in rows if is_prefix(name)} | {ROOT} if self.streams else set()
        if names != set(self.prefixes):
            self.report.wrong("the prefixes are not those of the streams")
        for name in names & set(self.prefixes):
            if self.snapshot.prefix(name) != self.prefixes[name]:
                self.report.wrong(f"prefix {name!r} is not at the vector of what lies below it")
        extra = {name for name in rows if not is_prefix(name)} - self.streams.keys()
        if extra:
            self.report.wrong(f"streams without events: {sorted(extra)[:3]}")

    def _check_indexes(self, rows: dict[str, bytes]) -> None:
        names = [name for name in rows if not is_prefix(name)]
        streams = {name: tables.decode_stream(rows[name], self.snapshot.numbers) for name in names}
        conflicted = {name for name, row in streams.items() if row.conflicts}
        if {key.decode() for key, _ in self.snapshot.walk("conflicted")} != conflicted:
            self.report.wrong("the index of conflicts is not that of the streams")
        numbers = {row.number for row in streams.values()}
        if len(numbers) != len(streams):
            self.report.wrong("two streams share a number")
        if sum(1 for _ in self.snapshot.walk("milestones")) != sum(map(len, self.milestones.values())):
            self.report.wrong("there are milestones that no stream has reached")
        for table in ("elements", "purge"):
            if any(tables.split_number_key(key[:8]) not in numbers for key, _ in self.snapshot.walk(table)):
                self.report.wrong(f"the table {table!r} holds rows of no stream")
        for _, data in self.snapshot.walk("requests"):
            request = tables.decode_request(data, self.snapshot.numbers)
            if self.snapshot.event(Dot(request.origin, request.seq + request.events - 1)) is None:
                self.report.wrong(f"a request points at {request.origin}.{request.seq}, which is not held")

    def _check_counters(self, meta: Meta) -> None:
        mirror = self.store.read_mirror(self.snapshot.transaction, meta.origin)
        if mirror.position != self.report.events:
            self.report.wrong(f"the last position is {mirror.position}, and there are {self.report.events} events")
        if mirror.clock < self.clock:
            self.report.wrong("the clock's high mark is below a timestamp of the log")
        if mirror.streams < self.report.streams:
            self.report.wrong("fewer stream numbers were given out than there are streams")


def _derive(events: list[Event]) -> tuple[dict[str, Register], Additions]:
    """The live writes and additions that these events come to."""
    if sum(len(event.operations) for event in events) <= REFERENCE_OPERATIONS_MAX:
        return resolve(events).live, live_additions(events)
    cells = MemoryCells()
    for event in events:
        fold(cells, event)
    return cells.answer().live, cells.live_additions()
