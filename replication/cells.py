"""A stream's cells in the store: registers in its row, elements in rows of their own, both behind `crdt.fold.Cells`.

A delete costs the same for any size of set: it drops registers, raises `cleared`, and leaves the element rows
where they are. An addition within `cleared` is dead wherever it is read, and its row is purged bit by bit later.
What survives a delete are additions concurrent with it; those are found by walking, origin by origin, the
stream's events that the delete's context does not cover, and counted.
"""

from collections.abc import Iterator

from crdt.event import Event
from crdt.fold import fold
from crdt.observed_remove_set import Additions, removed
from crdt.operations import Add
from crdt.version_vector import VersionVector, includes, join
from replication import tables
from replication.batch import Batch
from replication.dots import walk_back
from replication.event import meaning
from replication.event_codec import decode_body, decode_header
from replication.tables import StreamRow


class StoredCells:
    """The cells of one stream, within a turn."""

    __slots__ = ("_batch", "_name", "_row", "concurrent", "put_register")

    def __init__(self, batch: Batch, name: str, row: StreamRow) -> None:
        self._batch = batch
        self._name = name
        self._row = row
        self.concurrent = row.concurrent
        self.put_register = row.put_register

    def additions(self, field: str, element: str) -> Additions:
        number = self._row.field_numbers.get(field)
        if number is None:
            return ()
        key = tables.element_key(self._row.number, number, element)
        return removed(self._batch.additions(key), self._row.cleared)

    def put_additions(self, field: str, element: str, additions: Additions) -> None:
        number = self._row.number_field(field)
        self._row.sets[field] += bool(additions) - bool(self.additions(field, element))
        self._batch.put_additions(tables.element_key(self._row.number, number, element), additions)

    def clear(self, context: VersionVector) -> None:
        row = self._row
        for field in list(row.stored):
            row.put_register(field, row.concurrent(field, context))
        row.cleared = join(row.cleared, context)
        if row.sets:
            self._batch.purge(row.number, self._name)
        row.sets = dict.fromkeys(row.sets, 0)
        for field, element in self._added_beyond(context):
            row.sets[field] += bool(self.additions(field, element))

    def _added_beyond(self, context: VersionVector) -> set[tuple[str, str]]:
        """The elements that events of this stream beyond the context add."""
        if includes(context, self._row.vector):
            return set()
        return {
            (operation.field, operation.element)
            for event in self._events_beyond(context)
            for operation in event.operations
            if isinstance(operation, Add)
        }

    def _events_beyond(self, context: VersionVector) -> Iterator[Event]:
        for row in walk_back(self._batch, self._row.vector, context):
            header = decode_header(row.encoded.header)
            event = meaning(header, decode_body(header, row.encoded.body))
            if event is not None:
                yield event


def fold_into(batch: Batch, name: str, row: StreamRow, event: Event) -> None:
    """Fold one event into its stream's cells."""
    fold(StoredCells(batch, name, row), event)
