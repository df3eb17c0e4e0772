"""A stream as views and the directory see it: resolved, together with the fields that were split off it."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from crdt.operations import JSON
from node.limits import SPLITS_FOLLOWED_MAX
from node.views.view import State
from replication.errors import Invalid
from replication.queries import inlined, members_of
from replication.snapshot import Snapshot
from replication.stream_name import check_stream
from replication.tables import StreamRow

MOVED_TO, MOVED_FROM = "moved_to", "moved_from"
"""Registers that tie a stream to those that were split off it: {stream: patterns of fields}; and back, for good."""


class Sets(Mapping[str, tuple[str, ...]]):
    """The sets of some rows, each read when it is asked for: who wants a group's name does not pay for its members.

    Shape: as of `inlined`; of two rows with the same set, the latter's. Whoever asks has the snapshot open.
    """

    def __init__(self, snapshot: Snapshot, rows: Iterable[StreamRow]) -> None:
        self._snapshot = snapshot
        self._rows = {field: row for row in rows for field in inlined(row.sets)}
        self._read: dict[str, tuple[str, ...]] = {}

    def __getitem__(self, field: str) -> tuple[str, ...]:
        if field not in self._read:
            self._read[field] = members_of(self._snapshot, self._rows[field], field)
        return self._read[field]

    def __contains__(self, field: object) -> bool:
        return field in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def state_of(snapshot: Snapshot, name: str) -> State | None:
    """The stream's state; None where it does not exist, or this version cannot fold it."""
    row = snapshot.stream(name)
    if row is None or row.opaque or not row.exists:
        return None
    return state_of_row(snapshot, name, row)


def state_of_row(snapshot: Snapshot, name: str, row: StreamRow) -> State:
    """The same, of a row that is at hand and exists."""
    own = own_state(snapshot, name, row)
    if MOVED_TO not in own.registers:
        return own
    registers, rows = dict(own.registers), [row]
    for part, _ in parts_of(snapshot, name, registers):
        registers |= {field: value for field, value in part.values.items() if field not in (MOVED_FROM, MOVED_TO)}
        rows.append(part)
    return State(name, registers, Sets(snapshot, rows))


def own_state(snapshot: Snapshot, name: str, row: StreamRow) -> State:
    """What stands in the stream itself."""
    return State(name, row.values, Sets(snapshot, [row]) if row.sets else {})


def parts_of(snapshot: Snapshot, name: str, registers: Mapping[str, JSON]) -> Iterator[tuple[StreamRow, str]]:
    """The streams that were split off one, as its registers name them, and that know it; they lie below it."""
    moved = registers.get(MOVED_TO)
    for target in list(moved)[:SPLITS_FOLLOWED_MAX] if isinstance(moved, dict) else ():
        try:
            part = snapshot.stream(check_stream(target)) if target.startswith(f"{name}/") else None
        except Invalid:
            continue
        if part is not None and not part.opaque and part.values.get(MOVED_FROM) == name:
            yield part, target


def wholes_of(snapshot: Snapshot, parts: Iterable[str]) -> list[str]:
    """The streams above these from which something was split off: their state may show what these hold."""
    above: dict[str, None] = {}
    for part in parts:
        whole = part.rpartition("/")[0]
        while whole and whole not in above:
            above[whole] = None
            whole = whole.rpartition("/")[0]
    rows = ((whole, snapshot.stream(whole)) for whole in above)
    return [whole for whole, row in rows if row is not None and MOVED_TO in row.stored]


def moved_to(registers: Mapping[str, JSON], field: str) -> str | None:
    """The stream that a field was split off to; None where it was not."""
    moved = registers.get(MOVED_TO)
    for target, patterns in moved.items() if isinstance(moved, dict) else ():
        if isinstance(patterns, list) and any(fnmatchcase(field, str(pattern)) for pattern in patterns):
            return target
    return None


def strays_of(state: State) -> State | None:
    """What is written in fields of a stream that were split off it; None where nothing is."""
    registers = {
        name: value
        for name, value in state.registers.items()
        if name not in (MOVED_TO, MOVED_FROM) and moved_to(state.registers, name) is not None
    }
    sets = {name: state.sets[name] for name in state.sets if moved_to(state.registers, name) is not None}
    return State(state.stream, registers, sets) if registers or sets else None
