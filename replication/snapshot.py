"""Reading one committed state: rows decoded, ranges walked, nothing cached beyond the names of origins."""

from collections.abc import Iterator
from typing import Self, cast

import lmdb

from crdt.dot import Dot
from crdt.observed_remove_set import Additions
from replication import tables
from replication.limits import REQUEST_KEPT_MS
from replication.store import Mirror, Store
from replication.tables import Head, LogRow, OriginNumbers, RequestRow, StreamRow


class Snapshot:
    """The store as one transaction sees it. With `with`, until the block ends."""

    def __init__(self, store: Store, transaction: lmdb.Transaction, mirror: Mirror | None = None) -> None:
        """`mirror` is what memory keeps of just this state."""
        self.store = store
        self.transaction = transaction
        self._heads = mirror.heads if mirror else None
        self._numbers = mirror.numbers if mirror else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.transaction.abort()

    @property
    def heads(self) -> dict[str, Head]:
        """Each origin's newest event."""
        if self._heads is None:
            self._heads = dict(tables.decode_origin(key, row) for key, row in self.walk("origins"))
        return self._heads

    @property
    def vector(self) -> dict[str, int]:
        """Everything held."""
        return {origin: head.seq for origin, head in self.heads.items()}

    @property
    def numbers(self) -> OriginNumbers:
        """Origins by number and back."""
        if self._numbers is None:
            self._numbers = OriginNumbers(self.heads)
        return self._numbers

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.store.get(self.transaction, table, key)

    def walk(self, table: str, start: bytes = b"", below: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The rows from `start` on, in key order; with `below`, only those whose keys begin with it."""
        cursor = self.transaction.cursor(db=self.store.dbs[table])
        found = cursor.set_range(start) if start else cursor.first()
        if not found:
            return
        rows = cast("Iterator[tuple[bytes, bytes]]", cursor.iternext())  # buffers=False: never views
        for key, row in rows:
            if below is not None and not key.startswith(below):
                return
            yield key, row

    def stream(self, name: str) -> StreamRow | None:
        """A stream's row, or None where it never had events."""
        row = self.get("streams", tables.stream_key(name))
        return None if row is None else tables.decode_stream(row, self.numbers)

    def stream_bytes(self, name: str) -> int:
        """How large a stream's row is, without reading it."""
        return len(self.get("streams", tables.stream_key(name)) or b"")

    def prefix(self, name: str) -> dict[str, int]:
        """The vector of everything below a prefix."""
        row = self.get("streams", tables.stream_key(name))
        return {} if row is None else tables.decode_vector(row, self.numbers)

    def event(self, dot: Dot) -> LogRow | None:
        """An event's row of the log, or None where this node does not hold it."""
        head = self.heads.get(dot.origin)
        if head is None or not 1 <= dot.seq <= head.seq:
            return None
        row = self.get("log", tables.log_key(head.number, dot.seq))
        return None if row is None else tables.decode_log(row)

    def log_from(self, origin: str, seq: int) -> Iterator[LogRow]:
        """One origin's events from `seq` on."""
        head = self.heads.get(origin)
        if head is not None:
            start = tables.log_key(head.number, seq)
            for _, row in self.walk("log", start, tables.origin_key(head.number)):
                yield tables.decode_log(row)

    def milestone(self, stream: int, number: int) -> dict[str, int]:
        """The vector of a stream when it had so many times `MILESTONE_EVENTS` events."""
        row = self.get("milestones", tables.milestone_key(stream, number))
        assert row is not None, f"stream number {stream} has no milestone {number}"
        return tables.decode_vector(row, self.numbers)

    def additions(self, key: bytes) -> Additions:
        """An element's additions, dead ones among them."""
        row = self.get("elements", key)
        return () if row is None else tables.decode_additions(row, self.numbers)

    def members(self, row: StreamRow, field: str, start: str = "") -> Iterator[tuple[str, Additions]]:
        """A set's element rows in UTF-8 order, dead ones among them, from the element `start` on."""
        number = row.field_numbers.get(field)
        if number is not None:
            below = tables.field_key(row.number, number)
            for key, additions in self.walk("elements", below + start.encode(), below):
                yield tables.element_from_key(key), tables.decode_additions(additions, self.numbers)

    def request(self, key: bytes) -> RequestRow | None:
        """Where the events of a request stand."""
        row = self.get("requests", key)
        return None if row is None else tables.decode_request(row, self.numbers)

    def request_of(self, actor: str, key: str, now_ms: int) -> RequestRow | None:
        """Where the events of a client's request stand; None where it was asked so long ago that it is asked anew."""
        row = self.request(tables.request_key(actor, key))
        return row if row is not None and row.at_ms > now_ms - REQUEST_KEPT_MS else None


def read(store: Store, mirror: Mirror | None = None) -> Snapshot:
    """A snapshot of what is committed now; its heads are the mirror's, where that is of the same commit."""
    transaction = store.reading()
    return Snapshot(store, transaction, mirror if mirror and mirror.transaction == transaction.id() else None)
