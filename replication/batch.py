"""One turn's working state: what the store holds, overlaid with what this turn has changed so far.

Rows are read once a piece of the turn, changed in memory, encoded again while they are warm in the processor's
caches, and put at the end: one sorted multi-put a table. Nothing here is visible to a reader, or to the memory of the
replica, before the commit (I2).

While the commit before is on its way to the disk, what the store is about to hold is what it holds, overlaid with
the rows of that commit: so a turn can be worked out meanwhile, and if that commit fails, nobody has seen it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import cast

import lmdb

from crdt.observed_remove_set import Additions, removed
from replication import tables
from replication.errors import TooManyOrigins
from replication.event import Entry
from replication.limits import (
    MILESTONE_EVENTS,
    ORIGINS_MAX,
    PURGE_ROWS_MAX,
    REQUEST_KEPT_MS,
    REQUESTS_PURGED_PER_TURN,
    SETTLED_ROW_BYTES_MAX,
)
from replication.snapshot import Snapshot
from replication.store import Mirror, Store
from replication.stream_name import ancestors, parent_of
from replication.tables import Head, RequestRow, StreamRow

Rows = dict[str, dict[bytes, bytes | None]]
"""What a commit puts into tables, by key; None where it takes out a row."""
READ_BY_TURNS = ("streams", "elements", "log", "milestones", "requests")
"""Those of which a batch may ask for a row; milestones, where a stream is folded again."""


class Batch(Snapshot):
    """The store as this turn has made it so far.

    Shape: `mirror` is this turn's own copy. `below` has the rows of a commit that `transaction` may not see yet;
    `written` those that this turn has changed: all of them, once it is flushed.
    """

    def __init__(
        self, store: Store, transaction: lmdb.Transaction, mirror: Mirror, below: Rows | None = None
    ) -> None:
        super().__init__(store, transaction)
        self.mirror = mirror.copy()
        self.written: Rows = {table: {} for table in READ_BY_TURNS}
        self._below: Rows = below or self.written
        self._numbers = self.mirror.numbers
        self._changed_heads: set[str] = set()
        self._rows: dict[str, StreamRow | None] = {}
        self._changed_rows: set[str] = set()
        self._prefixes: dict[str, dict[str, int]] = {}
        self._changed_prefixes: set[str] = set()
        self._above: dict[str, list[dict[str, int]]] = {}
        self._additions: dict[bytes, Additions] = {}
        self._changed_additions: set[bytes] = set()
        self._conflicted: dict[str, bool] = {}
        self._requests: dict[bytes, RequestRow] = {}
        self._purges: dict[int, str] = {}

    # --- reading through the overlay

    @property
    def heads(self) -> dict[str, Head]:
        return self.mirror.heads

    def prefetch(self, streams: Iterable[str]) -> dict[str, StreamRow]:
        """Read the rows of many streams with one multi-get; those that have sets."""
        with_sets: dict[str, StreamRow] = {}
        rows, numbers = self._rows, self.numbers
        wanted = {tables.stream_key(name): name for name in sorted(streams) if name not in rows}
        rows |= dict.fromkeys(wanted.values())
        for key, data in self._multi_get("streams", wanted):
            name = wanted[key]
            row = rows[name] = tables.decode_stream(data, numbers)
            if row.sets:
                with_sets[name] = row
        return with_sets

    def prefetch_additions(self, keys: Iterable[bytes]) -> None:
        """Read many element rows with one multi-get."""
        wanted = set(keys) - self._additions.keys()
        self._additions |= dict.fromkeys(wanted, ())
        for key, row in self._multi_get("elements", sorted(wanted)):
            self._additions[key] = tables.decode_additions(row, self.numbers)

    def get(self, table: str, key: bytes) -> bytes | None:
        for rows in (self.written[table], self._below[table]):
            if key in rows:
                return rows[key]
        return super().get(table, key)

    def _multi_get(self, table: str, keys: Collection[bytes]) -> list[tuple[bytes, bytes]]:
        """The rows that there are of these keys. In order, they are found where the last one was, or near it."""
        written, below = self.written[table], self._below[table]
        left = [key for key in keys if key not in written and key not in below]
        found = cast(list[tuple[bytes, bytes]], self.transaction.cursor(db=self.store.dbs[table]).getmulti(left))
        if len(left) < len(keys):
            held = [(key, written[key] if key in written else below.get(key)) for key in keys]
            found += [(key, row) for key, row in held if row is not None]
        return found

    def stream(self, name: str) -> StreamRow | None:
        try:
            return self._rows[name]
        except KeyError:
            row = self._rows[name] = super().stream(name)
            return row

    def prefix(self, name: str) -> dict[str, int]:
        if name not in self._prefixes:
            self._prefixes[name] = super().prefix(name)
        return self._prefixes[name]

    def additions(self, key: bytes) -> Additions:
        if key not in self._additions:
            self._additions[key] = super().additions(key)
        return self._additions[key]

    def request(self, key: bytes) -> RequestRow | None:
        return self._requests.get(key) or super().request(key)

    # --- changing

    def stream_to_change(self, name: str) -> StreamRow:
        """The stream's row, made now if it had none. Whoever asks changes it."""
        row = self._rows.get(name) or self.stream(name)
        if row is None:
            self.mirror.streams += 1
            row = self._rows[name] = StreamRow(self.mirror.streams, self.numbers)
        self._changed_rows.add(name)
        return row

    def check_room_for(self, origin: str) -> None:
        """Raises: TooManyOrigins, where the store cannot take a new origin's first event."""
        if len(self.heads) >= ORIGINS_MAX:
            raise TooManyOrigins(f"the store knows {ORIGINS_MAX} origins and can take no event of {origin}")

    def put_event(self, entry: Entry, stream: StreamRow) -> None:
        """Append one event to the log; move its origin's head, and the vectors of everything above its stream."""
        header, chain, mirror = entry.header, entry.chain, self.mirror
        origin, seq, timestamp = header.origin, header.seq, header.timestamp
        head = mirror.heads.get(origin)
        number = head.number if head else len(mirror.heads)
        mirror.position = position = mirror.position + 1
        earlier = stream.vector.get(origin, 0)
        if head is None:
            self.numbers.add(number, origin)
        self.written["log"][tables.log_key(number, seq)] = tables.encode_log(position, earlier, chain, entry.encoded)
        mirror.heads[origin] = Head(number, seq, chain, position, timestamp)
        self._changed_heads.add(origin)
        if timestamp > mirror.clock:
            mirror.clock = timestamp
        parent = parent_of(header.stream)
        for vector in self._above.get(parent) or self._vectors_above(parent):
            vector[origin] = seq

    def _vectors_above(self, parent: str) -> list[dict[str, int]]:
        """The vectors of a prefix and of those above it. Whoever asks changes them."""
        above = ancestors(parent)
        self._changed_prefixes.update(above)
        vectors = self._above[parent] = [self.prefix(prefix) for prefix in above]
        return vectors

    def put_milestone(self, row: StreamRow) -> None:
        """Note the stream's vector as it is now: where a walk back through its events may begin."""
        key = tables.milestone_key(row.number, row.events // MILESTONE_EVENTS)
        self.written["milestones"][key] = tables.encode_vector(row.vector, self.numbers)

    def put_additions(self, key: bytes, additions: Additions) -> None:
        self._additions[key] = additions
        self._changed_additions.add(key)

    def put_request(self, key: bytes, row: RequestRow) -> None:
        """Note where a request's events stand; the first one to arrive is kept."""
        if self.request(key) is None or self._expired(key, row.at_ms):
            self._requests[key] = row

    def _expired(self, key: bytes, now_ms: int) -> bool:
        row = self.request(key)
        return row is not None and 0 < row.at_ms <= now_ms - REQUEST_KEPT_MS

    def purge(self, number: int, name: str) -> None:
        """Have the stream's dead element rows cleared away, in this turn and later ones."""
        self._purges[number] = name
        self.mirror.purging = True

    # --- writing it all

    def settle(self) -> None:
        """Encode the streams' rows that were changed, and keep no row, once a piece of the turn is done.

        A large one stays as it is, and one that changes often: for the next piece it would be decoded again.
        """
        rows = self._rows
        kept = {name for name in self._changed_rows if (row := rows[name]) and row.size > SETTLED_ROW_BYTES_MAX}
        self._encode_rows(self._changed_rows - kept)
        self._rows, self._changed_rows = {name: rows[name] for name in kept}, kept

    def _encode_rows(self, names: Iterable[str]) -> None:
        written = self.written["streams"]
        for name in sorted(names):  # as their keys are, and texts are sorted in less time
            row = self._rows[name]
            assert row is not None
            written[tables.stream_key(name)] = tables.encode_stream(row)
            if (row.conflicts > 0) != row.was_conflicted:
                self._conflicted[name] = row.conflicts > 0

    def flush(self, transaction: lmdb.Transaction, now_ms: int) -> None:
        """Write every change, one sorted multi-put a table, and clear away some of what is dead.

        What the turn was worked out on is what the write transaction holds.
        """
        self.transaction, self._below = transaction, self.written
        self._encode_all()
        for table, rows in self.written.items():
            self._put(table, rows)
        self._put("origins", {tables.origin_key(self.heads[origin].number):
                              tables.encode_origin(origin, self.heads[origin])
                              for origin in self._changed_heads})  # fmt: skip
        for name, conflicted in self._conflicted.items():
            self._mark_conflicted(name, conflicted)
        if self._changed_heads:
            self.store.write_counters(self.transaction, self.mirror)
        if self._requests:
            self._expire_requests(now_ms)
        if self.mirror.purging:
            self._purge_some()

    def _encode_all(self) -> None:
        written, numbers = self.written, self.numbers
        self._encode_rows(self._changed_rows)
        for name in self._changed_prefixes:
            written["streams"][tables.stream_key(name)] = tables.encode_vector(self._prefixes[name], numbers)
        for key in self._changed_additions:
            additions = self._additions[key]
            written["elements"][key] = tables.encode_additions(additions, numbers) if additions else None
        for key, request in self._requests.items():
            written["requests"][key] = tables.encode_request(request, numbers)

    def _mark_conflicted(self, name: str, conflicted: bool) -> None:
        if conflicted:
            self.transaction.put(name.encode(), b"", db=self.store.dbs["conflicted"])
        else:
            self.transaction.delete(name.encode(), db=self.store.dbs["conflicted"])

    def _put(self, table: str, rows: Mapping[bytes, bytes | None]) -> None:
        kept: list[tuple[bytes, bytes]] = []
        for key in sorted(rows):
            if (row := rows[key]) is None:
                self.transaction.delete(key, db=self.store.dbs[table])
            else:
                kept.append((key, row))
        if kept:
            self.transaction.cursor(db=self.store.dbs[table]).putmulti(kept)

    def _change(self, table: str, key: bytes, row: bytes | None) -> None:
        """Put one row, or take it out, when all else is put."""
        self._put(table, {key: row})
        self.written[table][key] = row

    def _expire_requests(self, now_ms: int) -> None:
        """Look at a few rows beside one just written: keys are hashes, so over time that is every row."""
        for key, data in list(self._first("requests", next(iter(self._requests)), REQUESTS_PURGED_PER_TURN)):
            if 0 < tables.decode_request(data, self.numbers).at_ms <= now_ms - REQUEST_KEPT_MS:
                self._change("requests", key, None)

    def _first(self, table: str, start: bytes, count: int) -> Iterator[tuple[bytes, bytes]]:
        for _, row in zip(range(count), self.walk(table, start), strict=False):
            yield row

    def _purge_some(self) -> None:
        for number, name in self._purges.items():
            row = tables.encode_purge(name, tables.number_key(number))
            self.transaction.put(tables.number_key(number), row, db=self.store.dbs["purge"])
        waiting = list(self._first("purge", b"", 1))
        if waiting:
            key, row = waiting[0]
            self._purge_stream(key, *tables.decode_purge(row))
        self.mirror.purging = self.transaction.cursor(db=self.store.dbs["purge"]).first()

    def _purge_stream(self, number: bytes, name: str, resume: bytes) -> None:
        stream = self.stream(name)
        assert stream is not None
        last = b""
        rows = [pair for pair in self._first("elements", resume, PURGE_ROWS_MAX) if pair[0].startswith(number)]
        for last, data in rows:
            additions = tables.decode_additions(data, self.numbers)
            left = removed(additions, stream.cleared)
            if not left:
                self._change("elements", last, None)
            elif len(left) != len(additions):
                self._change("elements", last, tables.encode_additions(left, self.numbers))
        if len(rows) < PURGE_ROWS_MAX:
            self.transaction.delete(number, db=self.store.dbs["purge"])
        else:
            row = tables.encode_purge(name, last + b"\0")
            self.transaction.put(number, row, db=self.store.dbs["purge"])
