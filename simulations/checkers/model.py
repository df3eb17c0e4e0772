"""What the checkers know of events: their own reading of the bytes, and their own reading of the definition.

Nothing of the product is used here, neither its codec nor its fold: events are read as the design describes them
(section 4), a stream is resolved as the design defines it (section 3), each cell by comparing every event that
touches it with every other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]  # it ships no annotations, and there are no stubs

SET, ADD, REMOVE, DELETE = 1, 2, 3, 4
HASH_BYTES = 16
SCOPE_BYTES = 4

Vector = dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Happened:
    """One event, as read from its bytes. Shape: `seen` as (origin, seq, mark); `key`, `source` if any."""

    origin: str
    seq: int
    stream: str
    timestamp: int
    context: Mapping[str, int]
    previous: bytes
    index: int
    count: int
    seen: tuple[tuple[str, int, bytes], ...]
    operations: tuple[tuple[Any, ...], ...]
    actor: str
    key: str | None
    source: tuple[Any, ...] | None
    chain: bytes

    @property
    def dot(self) -> str:
        return f"{self.origin}.{self.seq}"

    @property
    def order(self) -> tuple[int, str, int]:
        return (self.timestamp, self.origin, self.seq)

    def observed(self, other: "Happened") -> bool:
        return int(self.context.get(other.origin, 0)) >= other.seq

    def __str__(self) -> str:
        shown = " ".join(_show(operation) for operation in self.operations)
        return f"{self.dot} on {self.stream}: {shown}"


def _show(operation: tuple[Any, ...]) -> str:
    code, *rest = operation
    return {SET: "set {}={}", ADD: "add {} {}", REMOVE: "remove {} {}", DELETE: "delete"}[code].format(*rest)


def read(header: bytes, body: bytes) -> Happened:
    """An event from its bytes."""
    _, _, origin, seq, stream, timestamp, context, previous, _, (index, count), seen = msgpack.unpackb(header)
    _, _, operations, actor, request, _, source = msgpack.unpackb(body)
    return Happened(
        origin,
        seq,
        stream,
        timestamp,
        dict(context),
        previous,
        index,
        count,
        tuple((of, number, mark) for of, number, mark in seen),
        tuple(tuple(operation) for operation in operations),
        actor,
        request and request[0],
        source and tuple(source),
        blake2b(header, digest_size=HASH_BYTES).digest(),
    )


class Resolved(NamedTuple):
    """A stream's answer. Shape: `losers` are the other live writes of a register, greatest first."""

    registers: dict[str, Any]
    sets: dict[str, list[str]]
    losers: dict[str, list[tuple[Any, str]]]


@dataclass(slots=True)
class _Cell:
    candidates: list[tuple[Happened, Any]] = field(default_factory=list)
    touching: list[Happened] = field(default_factory=list)


def resolve(events: Iterable[Happened]) -> Resolved:
    """The definition, over any events of one stream."""
    registers: dict[str, _Cell] = {}
    elements: dict[tuple[str, str], _Cell] = {}
    deletes: list[Happened] = []
    for event in events:
        for code, *rest in event.operations:
            if code == DELETE:
                deletes.append(event)
            elif code == SET:
                cell = registers.setdefault(rest[0], _Cell())
                cell.candidates.append((event, rest[1]))
                cell.touching.append(event)
            else:
                for element in rest[1]:
                    cell = elements.setdefault((rest[0], element), _Cell())
                    cell.touching.append(event)
                    if code == ADD:
                        cell.candidates.append((event, element))
    shown: dict[str, Any] = {}
    losers: dict[str, list[tuple[Any, str]]] = {}
    for name in sorted(registers):
        live = sorted(_live(registers[name], deletes), key=lambda one: one[0].order, reverse=True)
        if live and live[0][1] is not None:
            shown[name] = live[0][1]
        if len(live) > 1:
            losers[name] = [(value, event.dot) for event, value in live[1:]]
    sets: dict[str, list[str]] = {}
    for name, element in sorted(elements):
        if _live(elements[name, element], deletes):
            sets.setdefault(name, []).append(element)
    return Resolved(shown, sets, losers)


def additions(events: Iterable[Happened], name: str) -> dict[str, list[Happened]]:
    """The events that keep each element in a set."""
    held = list(events)
    elements = {element for event in held for code, *rest in event.operations if code == ADD for element in rest[1]
                if rest[0] == name}  # fmt: skip
    kept: dict[str, list[Happened]] = {}
    for element in sorted(elements):
        cell = _Cell()
        for event in held:
            for code, *rest in event.operations:
                if code == DELETE or (code in (ADD, REMOVE) and rest[0] == name and element in rest[1]):
                    cell.touching.append(event)
                    if code == ADD:
                        cell.candidates.append((event, element))
        live = [event for event, _ in _live(cell, [])]
        if live:
            kept[element] = live
    return kept


def _live(cell: _Cell, deletes: list[Happened]) -> list[tuple[Happened, Any]]:
    against = cell.touching + deletes
    return [
        (event, value)
        for event, value in cell.candidates
        if not any(other is not event and other.observed(event) for other in against)
    ]


def token(stream: str, vector: Mapping[str, int]) -> str:
    """A stream's version as the design writes it (section 7)."""
    scope = blake2b(stream.encode(), digest_size=SCOPE_BYTES).hexdigest()
    return f"{scope}~" + "_".join(f"{origin}.{seq}" for origin, seq in sorted(vector.items()))


def vector_of(text: str) -> Vector:
    """The version vector of a token."""
    entries = text.partition("~")[2].split("_")
    return {origin: int(seq) for origin, _, seq in (entry.rpartition(".") for entry in entries if entry)}


def milliseconds(timestamp: int) -> int:
    """The wall-clock part of a hybrid timestamp: its upper 48 bits."""
    return timestamp >> 16


def includes(vector: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return all(vector.get(origin, 0) >= seq for origin, seq in other.items())


def joined(vectors: Iterable[Mapping[str, int]]) -> Vector:
    out: Vector = {}
    for vector in vectors:
        for origin, seq in vector.items():
            out[origin] = max(out.get(origin, 0), seq)
    return out
