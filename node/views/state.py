"""A stream as views and the directory see it: resolved, together with the fields that were split off it."""

from crdt.operations import JSON
from node.views.view import State
from replication.limits import SET_INLINE_MAX
from replication.queries import live_members
from replication.snapshot import Snapshot
from replication.tables import StreamRow

MOVED_TO, MOVED_FROM = "moved_to", "moved_from"
"""Registers that tie a stream to those that were split off it: {stream: patterns of fields}; and back."""
SPLITS_FOLLOWED = 8


def state_of(snapshot: Snapshot, name: str) -> State | None:
    """The stream's state; None where it does not exist, or this version cannot fold it."""
    row = snapshot.stream(name)
    if row is None or row.opaque or not row.exists:
        return None
    return state_of_row(snapshot, name, row)


def state_of_row(snapshot: Snapshot, name: str, row: StreamRow) -> State:
    """The same, of a row that is at hand and exists."""
    registers = registers_of(row)
    sets = _sets(snapshot, row)
    moved = registers.get(MOVED_TO)
    if isinstance(moved, dict):
        for target in list(moved)[:SPLITS_FOLLOWED]:
            other = snapshot.stream(target)
            if other is not None and not other.opaque and target != name:
                registers |= {field: value for field, value in registers_of(other).items() if field != MOVED_FROM}
                sets |= _sets(snapshot, other)
    return State(name, registers, sets)


def registers_of(row: StreamRow) -> dict[str, JSON]:
    """The values of a row's registers alone."""
    return {name: writes[0][3] for name, writes in row.stored.items() if writes[0][3] is not None}


def _sets(snapshot: Snapshot, row: StreamRow) -> dict[str, tuple[str, ...]]:
    return {
        field: tuple([element for element, live in live_members(snapshot, row, field) if live])
        for field, count in row.sets.items()
        if 0 < count <= SET_INLINE_MAX
    }
