"""A stream's cells in the store: registers in its row, elements in rows of their own, both behind `crdt.fold.Cells`.

A delete costs the same for any size of set: it drops registers, raises `cleared`, and leaves the element rows
where they are. An addition within `cleared` is dead wherever it is read, and its row is purged bit by bit later.
What survives a delete are additions concurrent with it; those are found by walking, origin by origin, the
stream's events that the delete's context does not cover, and counted.
"""

from collections.abc import Iterator
from typing import TypeGuard

import msgspec

from crdt.event import Event
from crdt.fold import fold
from crdt.observed_remove_set import Additions, removed
from crdt.operations import Add, Operation, Set
from crdt.version_vector import VersionVector, includes, join
from replication import tables
from replication.batch import Batch
from replication.event import Header, meaning
from replication.event_codec import decode_body, decode_header
from replication.history import walk_back
from replication.tables import StreamRow


class StoredCells(msgspec.Struct, gc=False):
    """The cells of one stream, within a turn. Those of registers are the row's own."""

    batch: Batch
    name: str
    row: StreamRow

    def write(self, event: Event, operation: Set) -> None:
        self.row.write(event, operation)

    def additions(self, field: str, element: str) -> Additions:
        number = self.row.field_numbers.get(field)
        if number is None:
            return ()
        key = tables.element_key(self.row.number, number, element)
        return removed(self.batch.additions(key), self.row.cleared)

    def put_additions(self, field: str, element: str, additions: Additions) -> None:
        number = self.row.number_field(field)
        self.row.sets[field] += bool(additions) - bool(self.additions(field, element))
        self.batch.put_additions(tables.element_key(self.row.number, number, element), additions)

    def clear(self, context: VersionVector) -> None:
        row = self.row
        row.clear_registers(context)
        row.cleared = join(row.cleared, context)
        if row.sets:
            self.batch.purge(row.number, self.name)
        row.sets = dict.fromkeys(row.sets, 0)
        for field, element in self._added_beyond(context):
            row.sets[field] += bool(self.additions(field, element))

    def _added_beyond(self, context: VersionVector) -> set[tuple[str, str]]:
        """The elements that events of this stream beyond the context add."""
        if includes(context, self.row.vector):
            return set()
        return {
            (operation.field, operation.element)
            for event in self._events_beyond(context)
            for operation in event.operations
            if isinstance(operation, Add)
        }

    def _events_beyond(self, context: VersionVector) -> Iterator[Event]:
        for row in walk_back(self.batch, self.row.vector, context):
            header = decode_header(row.encoded.header)
            event = meaning(header, decode_body(header, row.encoded.body))
            if event is not None:
                yield event


def fold_into(batch: Batch, row: StreamRow, header: Header, operations: tuple[Operation, ...]) -> None:
    """Fold one event into its stream's cells. The row's vector does not have it yet."""
    if includes(header.context, row.vector) and _are_writes(operations):  # as most often: nothing is concurrent
        row.overwrite(header, operations)
    else:
        event = Event(header.dot, header.timestamp, header.context, operations)
        fold(StoredCells(batch, header.stream, row), event)


def _are_writes(operations: tuple[Operation, ...]) -> TypeGuard[tuple[Set, ...]]:
    for operation in operations:  # noqa: SIM110  # every event asks this, and a generator takes thrice as long
        if not isinstance(operation, Set):
            return False
    return True
