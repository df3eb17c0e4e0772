"""Checked at every commit of every node: order, causes, wholeness, clocks, contexts, and dots that are used once.

For each event that is new to a region the checkers know, from having watched it being written, everything that its
writer's node held then. All of that must be there already, whatever the event itself says was seen (I2, I3).
"""

from collections.abc import Callable, Sequence

from replication.limits import MAX_DRIFT_MS
from simulations.checkers.holdings import Birth, Holding, names
from simulations.checkers.model import ADD, DELETE, REMOVE, SET, Happened, includes, milliseconds

MARK_BYTES = 8

Say = Callable[..., None]
"""say(checker, region, detail, *events): a promise was broken."""
Note = Callable[[str], None]
"""Counts a rare situation."""


class Arrivals:
    """Shape: `births` by chain hash, `dots` the chain hashes that were ever used for a dot.

    `written` are told of each transaction that a region wrote, with all that the region held then.
    """

    def __init__(self, say: Say, note: Note) -> None:
        self.births: dict[bytes, Birth] = {}
        self.dots: dict[str, bytes] = {}
        self.written: list[Callable[[str, Holding, Sequence[Happened]], None]] = []
        self._say = say
        self._note = note

    def commit(
        self, region: str, holding: Holding, events: Sequence[Happened], at: float, clock_ms: int | None
    ) -> list[Happened]:
        """Take in one commit; the events that reuse a dot.

        Shape: `clock_ms` is the most that the node's clock showed when they were worked out; None where nobody knows.
        """
        reused: list[Happened] = []
        written = 0
        for place, event in enumerate(events):
            self._check_whole(region, events, place)
            born = event.chain not in self.births  # what a roll-back lost comes again, and is not written again
            if not born:
                self._check_arrival(region, holding, event, clock_ms)
            elif event.origin.startswith(f"{region}."):
                written += event.index == 0
                if self._check_birth(region, holding, event, at, clock_ms):
                    reused.append(event)
            else:
                self._say("origin", region, "an event arrived that its origin never committed", event)
            self._check_stream(region, holding, event)
            holding.add(event)
            if born and event.index == event.count - 1:
                for tell in self.written:
                    tell(region, holding, events[place + 1 - event.count : place + 1])
        if written > 1:
            self._note("several writes shared one commit")
        return reused

    def _check_whole(self, region: str, events: Sequence[Happened], place: int) -> None:
        event = events[place]
        rest = events[place : place + event.count - event.index]
        if [one.index for one in rest] != list(range(event.index, event.count)):
            self._say("whole", region, "a transaction was committed in part", event)
        if event.index and (not place or events[place - 1].index != event.index - 1):
            self._say("whole", region, "a transaction was committed without its beginning", event)

    def _check_stream(self, region: str, holding: Holding, event: Happened) -> None:
        """Next of its origin, with a context that its stream has, stamped above what its origin wrote before."""
        before = holding.event(event.origin, event.seq - 1)
        if event.seq != holding.seq(event.origin) + 1:
            self._say("gaps", region, f"follows {event.origin}.{holding.seq(event.origin)}", event)
        if before is not None and before.timestamp >= event.timestamp + (event.index > 0):
            self._say("clock", region, "is not stamped above its origin's event before it", before, event)
        if not includes(holding.vectors.get(event.stream, {}), event.context):
            self._say("causal", region, "its context names what its stream does not have here", event)

    # --- born here

    def _check_birth(self, region: str, holding: Holding, event: Happened, at: float, clock_ms: int | None) -> bool:
        """Whether it reuses a dot."""
        before = dict(holding.vectors.get(event.stream, {}))
        self.births[event.chain] = Birth(event, region, at, before, holding.vector())
        if event.index == 0:
            if event.timestamp <= holding.newest:
                self._say("clock", region, "is not stamped above everything that its node held", event)
            if clock_ms is not None and milliseconds(event.timestamp) - clock_ms > MAX_DRIFT_MS // 2:
                self._say(
                    "clock", region, "was accepted though its stamp is too far ahead of the node's clock", event
                )
            for name in names(event):
                first = holding.requests.get(name)
                if first is not None:
                    self._say("idempotency", region, f"{name} was written twice", first, event)
        reused = self.dots.setdefault(event.dot, event.chain) != event.chain
        if reused:
            self._note("a dot was used again after a roll-back that nobody could tell of")
        return reused

    # --- born elsewhere

    def _check_arrival(self, region: str, holding: Holding, event: Happened, clock_ms: int | None) -> None:
        birth = self.births[event.chain]
        if event.index == 0:
            missing = {origin: seq for origin, seq in birth.past.items() if holding.seq(origin) < seq}
            if missing:
                dots = " ".join(f"{origin}.{seq}" for origin, seq in missing.items())
                causes = [self.births[self.dots[f"{of}.{seq}"]].event for of, seq in missing.items()]
                self._say("causal", region, f"arrived before what its writer had: {dots}", *causes, event)
            for origin, seq, mark in event.seen:
                held = holding.event(origin, seq)
                if held is None or held.chain[:MARK_BYTES] != mark:
                    self._say("causal", region, f"arrived without the {origin}.{seq} that it names", event)
            if clock_ms is not None and milliseconds(event.timestamp) - clock_ms > MAX_DRIFT_MS:
                self._say("clock", region, "was accepted though it is stamped too far ahead", event)
            if event.count > 1:
                self._note("a transaction of several streams arrived")
        self._note_concurrency(holding, event)

    def _note_concurrency(self, holding: Holding, event: Happened) -> None:
        concurrent = [one for one in holding.streams.get(event.stream, ()) if not event.observed(one)]
        if not concurrent:
            return
        codes = {operation[0] for operation in event.operations}
        others = {operation[0] for one in concurrent for operation in one.operations}
        if REMOVE in codes and ADD in others:
            self._note("a remove arrived with a concurrent add")
        if DELETE in codes and others & {SET, ADD}:
            self._note("a delete arrived with a concurrent write")
        if SET in codes and any(one.timestamp == event.timestamp for one in concurrent):
            self._note("two writes had the same timestamp")
