"""The incremental form of the definition: one event at a time into cells that hold live entries only.

Equal to `reference.resolve` under every causal delivery (I3), because then no event arrives after one that
observed it: an entry is dead from the moment its successor is folded, and can be dropped for good. Causal arrival
and contexts that stay within the stream's own events are what makes that exact; both ends enforce them.

Source: Almeida et al. 2018, section 7.2 (dot stores).
"""

from typing import Protocol

from crdt.answer import Answer
from crdt.dot import Dot
from crdt.event import Event
from crdt.observed_remove_set import Additions, added, removed
from crdt.operations import Add, Delete, Remove, Set
from crdt.register import Register, Write, unobserved, written
from crdt.version_vector import VersionVector


class Cells(Protocol):
    """The unresolved state of one stream. A cell that was never written, or has no live entry, is empty."""

    def register(self, field: str) -> Register: ...
    def put_register(self, field: str, register: Register) -> None: ...
    def additions(self, field: str, element: str) -> Additions: ...
    def put_additions(self, field: str, element: str, additions: Additions) -> None: ...
    def clear(self, context: VersionVector) -> None:
        """Drop every entry that the context covers."""


def fold(cells: Cells, event: Event) -> None:
    """Take in one event. Everything that it observed, and everything that its origin wrote before, came first."""
    for operation in event.operations:
        match operation:
            case Set(field, value):
                write = Write(event.timestamp, event.dot.origin, event.dot.seq, value)
                cells.put_register(field, written(cells.register(field), event.context, write))
            case Add(field, element):
                additions = added(cells.additions(field, element), event.context, event.dot)
                cells.put_additions(field, element, additions)
            case Remove(field, element):
                additions = cells.additions(field, element)
                left = removed(additions, event.context)
                if len(left) != len(additions):
                    cells.put_additions(field, element, left)
            case Delete():
                cells.clear(event.context)


class MemoryCells:
    """Cells in two dictionaries: for time travel, and wherever a stream is resolved away from the store."""

    def __init__(self) -> None:
        self._registers: dict[str, Register] = {}
        self._sets: dict[str, dict[str, Additions]] = {}

    def register(self, field: str) -> Register:
        return self._registers.get(field, ())

    def put_register(self, field: str, register: Register) -> None:
        if register:
            self._registers[field] = register
        else:
            self._registers.pop(field, None)

    def additions(self, field: str, element: str) -> Additions:
        return self._sets.get(field, {}).get(element, ())

    def put_additions(self, field: str, element: str, additions: Additions) -> None:
        members = self._sets.setdefault(field, {})
        if additions:
            members[element] = additions
        else:
            members.pop(element, None)

    def clear(self, context: VersionVector) -> None:
        for field, register in list(self._registers.items()):
            self.put_register(field, unobserved(register, context))
        for field, members in self._sets.items():
            for element, additions in list(members.items()):
                self.put_additions(field, element, removed(additions, context))

    def live_additions(self) -> dict[str, dict[str, set[Dot]]]:
        """The dots of each element's live additions, by field and element."""
        return {
            field: {element: set(additions) for element, additions in members.items()}
            for field, members in self._sets.items()
            if members
        }

    def answer(self) -> Answer:
        """The stream resolved."""
        sets = {field: tuple(sorted(members)) for field, members in sorted(self._sets.items()) if members}
        return Answer(dict(sorted(self._registers.items())), sets)
