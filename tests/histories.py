"""Random histories of one stream, as events and what each writer had seen; and causal orders to deliver them in."""

import random
from dataclasses import dataclass, field

from crdt.dot import Dot
from crdt.event import Event
from crdt.hybrid_clock import next_timestamp
from crdt.operations import JSON, Add, Delete, Operation, Remove, Set
from crdt.version_vector import cut, includes, join

FIELDS = ("name", "mail")
ELEMENTS = ("a", "b", "é")


@dataclass
class Written:
    """An event, and everything that its writer's node held then."""

    event: Event
    seen: dict[str, int]


@dataclass
class Writer:
    """One node of a history, with a clock that is wrong by some."""

    origin: str
    skew_ms: int
    held: dict[str, int] = field(default_factory=dict)
    clock: int = 0


def random_operations(rng: random.Random) -> tuple[Operation, ...]:
    """The operations of one event: a delete, or a few cells, each once."""
    if rng.random() < 0.12:
        return (Delete(),)
    operations: dict[tuple[str, ...], Operation] = {}
    for _ in range(rng.randint(1, 3)):
        name, element = rng.choice(FIELDS), rng.choice(ELEMENTS)
        values: list[JSON] = [None, 1, "x", [1], {"k": 2}]
        choices: list[Operation] = [Set(name, rng.choice(values)), Add(name, element), Remove(name, element)]
        operation = rng.choice(choices)
        key = (name,) if isinstance(operation, Set) else (name, element)
        operations.setdefault(key, operation)
    return tuple(operations.values())


def random_history(rng: random.Random, size: int) -> list[Written]:
    """Events by up to five origins: causal, concurrent, and with stale contexts."""
    writers = [Writer(f"r{place}.0000000{place}", rng.randint(-50, 50)) for place in range(rng.randint(1, 5))]
    history: list[Written] = []
    for step in range(size):
        writer = rng.choice(writers)
        if rng.random() < 0.5:
            other = rng.choice(writers)
            writer.held, writer.clock = join(writer.held, other.held), max(writer.clock, other.clock)
        seq = writer.held.get(writer.origin, 0) + 1
        seen = dict(writer.held)
        context = seen
        if rng.random() < 0.3:
            context = cut(seen, {origin: rng.randint(0, top) for origin, top in seen.items()})
            context = {origin: top for origin, top in context.items() if top}
        writer.clock = next_timestamp(writer.clock, 1_000 + step * 10 + writer.skew_ms)
        event = Event(Dot(writer.origin, seq), writer.clock, context, random_operations(rng))
        history.append(Written(event, seen))
        writer.held = join(writer.held, {writer.origin: seq})
    return history


def causal_order(rng: random.Random, history: list[Written]) -> list[Event]:
    """Some order in which every event comes after all that its writer's node held."""
    waiting = list(history)
    rng.shuffle(waiting)
    order: list[Event] = []
    held: dict[str, int] = {}
    while waiting:
        ready = [one for one in waiting if includes(held, one.seen)]
        one = rng.choice(ready)
        waiting.remove(one)
        order.append(one.event)
        held = join(held, {one.event.dot.origin: one.event.dot.seq})
    return order
