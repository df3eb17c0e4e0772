"""The definition: what a set of events on one stream means, whatever their order. Obviously correct, and slow.

- A register write is live unless another event that writes that register, or deletes, observed it.
- An addition is live unless another event that adds, removes or deletes that element observed it.
- f observed by e: f's dot lies within e's context.

Everything else in Atoll is a faster way to this answer, and is tested against it.
"""

from collections.abc import Callable, Iterable

from crdt.answer import Answer
from crdt.dot import Dot
from crdt.event import Event
from crdt.operations import Add, Delete, Operation, Remove, Set
from crdt.register import Register, Write, ordered
from crdt.version_vector import covers


def resolve(events: Iterable[Event]) -> Answer:
    """The answer of a stream that holds exactly these events. A repeated event counts once."""
    held = list({event.dot: event for event in events}.values())
    sets = live_additions(held)
    # Code points sort as their UTF-8 bytes do.
    return Answer(_registers(held), {field: tuple(sorted(members)) for field, members in sorted(sets.items())})


def _registers(events: list[Event]) -> dict[str, Register]:
    live: dict[str, list[Write]] = {}
    for event in events:
        for operation in event.operations:
            if isinstance(operation, Set) and not _superseded(event, events, _writes(operation.field)):
                write = Write(event.timestamp, event.dot.origin, event.dot.seq, operation.value)
                live.setdefault(operation.field, []).append(write)
    return {field: ordered(tuple(writes)) for field, writes in sorted(live.items())}


def live_additions(events: list[Event]) -> dict[str, dict[str, set[Dot]]]:
    """The dots of each element's live additions, by field and element."""
    live: dict[str, dict[str, set[Dot]]] = {}
    for event in events:
        for operation in event.operations:
            if isinstance(operation, Add) and not _superseded(event, events, _changes(operation)):
                live.setdefault(operation.field, {}).setdefault(operation.element, set()).add(event.dot)
    return live


def _superseded(event: Event, events: list[Event], touches: Callable[[Operation], bool]) -> bool:
    return any(
        covers(other.context, event.dot) and any(touches(operation) for operation in other.operations)
        for other in events
        if other.dot != event.dot
    )


def _writes(field: str) -> Callable[[Operation], bool]:
    return lambda operation: (
        isinstance(operation, Delete) or (isinstance(operation, Set) and operation.field == field)
    )


def _changes(addition: Add) -> Callable[[Operation], bool]:
    return lambda operation: (
        isinstance(operation, Delete)
        or (
            isinstance(operation, Add | Remove)
            and (operation.field, operation.element) == (addition.field, addition.element)
        )
    )
