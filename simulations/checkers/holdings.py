"""What every region holds, as those know who saw each event being committed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from simulations.checkers.model import Happened, Resolved, Vector, resolve, token


class Birth(NamedTuple):
    """How an event came to be. Shape: `before` is its stream's vector then, `past` all that its region held."""

    event: Happened
    region: str
    at: float
    before: Vector
    past: Vector


@dataclass(eq=False)
class Holding:
    """What one region holds. Shape: `logs` by origin; `streams` and `vectors` by stream name."""

    logs: dict[str, list[Happened]] = field(default_factory=dict)
    streams: dict[str, list[Happened]] = field(default_factory=dict)
    vectors: dict[str, Vector] = field(default_factory=dict)
    requests: dict[tuple[object, ...], Happened] = field(default_factory=dict)
    newest: int = 0

    def vector(self) -> Vector:
        return {origin: len(log) for origin, log in self.logs.items()}

    def seq(self, origin: str) -> int:
        log = self.logs.get(origin)
        return len(log) if log else 0

    def holds(self, vector: Vector) -> bool:
        return all(self.seq(origin) >= seq for origin, seq in vector.items())

    def event(self, origin: str, seq: int) -> Happened | None:
        log = self.logs.get(origin, [])
        return log[seq - 1] if 0 < seq <= len(log) else None

    def add(self, event: Happened) -> None:
        self.logs.setdefault(event.origin, []).append(event)
        self.streams.setdefault(event.stream, []).append(event)
        self.vectors.setdefault(event.stream, {})[event.origin] = event.seq
        self.newest = max(self.newest, event.timestamp)
        if event.index == 0:
            for name in names(event):
                self.requests.setdefault(name, event)

    def token(self, stream: str) -> str:
        return token(stream, self.vectors.get(stream, {}))

    def all(self) -> Iterable[Happened]:
        return (event for log in self.logs.values() for event in log)

    def cut(self, vector: Vector) -> list[Happened]:
        """Keep only what the vector covers; what is gone."""
        kept, gone = [], []
        for origin in self.logs:
            log, seq = self.logs[origin], vector.get(origin, 0)
            kept += log[:seq]
            gone += log[seq:]
        self.__init__()  # type: ignore[misc]  # it starts again, from what is left
        for event in kept:
            self.add(event)
        return gone


def names(event: Happened) -> list[tuple[object, ...]]:
    """What a repeat of the event's request would be known by."""
    named: list[tuple[object, ...]] = []
    if event.key is not None:
        named.append(("key", event.actor, event.key))
    if event.source is not None:
        named.append(("source", *event.source))
    return named


class Resolutions:
    """Streams resolved by the model, each state once: a token names it, unless one dot means two events."""

    def __init__(self) -> None:
        self.forked = False
        self._known: dict[str, Resolved] = {}

    def of(self, holding: Holding, stream: str) -> Resolved:
        if self.forked:
            return resolve(holding.streams.get(stream, []))
        state = holding.token(stream)
        if state not in self._known:
            self._known[state] = resolve(holding.streams.get(stream, []))
        return self._known[state]
