"""What happened in a run: for the trace, the checkers and the report.

The trace is a hash over everything that could differ: virtual time, node, committed events, outcomes of exchanges,
answers. Equal traces mean equal runs. What happens at one instant has no order: there it is sorted.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from simulations.checkers.model import Happened
from simulations.world.virtual_time import VirtualTime

TRACE_BYTES = 16


class Commit(NamedTuple):
    """One node committed these events at once."""

    at: float
    region: str
    events: tuple[Happened, ...]


class Message(NamedTuple):
    """One message of one node to another. Shape: `arrived` is None where it was lost."""

    sent: float
    arrived: float | None
    caller: str
    callee: str
    bytes: int
    kind: str


class Band(NamedTuple):
    """A fault while it lasted. Shape: `until` is None while it does."""

    began: float
    until: float
    kind: str
    regions: tuple[str, ...]
    detail: str


class Answer(NamedTuple):
    """What a client was told. Shape: status 0 where no answer came."""

    asked: float
    at: float
    client: int
    region: str
    what: str
    status: int


@dataclass(eq=False)
class History:
    """One run's record. Shape: `lines` are the trace's own, where they are kept."""

    time: VirtualTime
    commits: list[Commit] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    lines: list[str] | None = None
    exchanges: int = 0

    def __post_init__(self) -> None:
        self._trace = blake2b(digest_size=TRACE_BYTES)
        self._instant = 0.0
        self._now: list[str] = []

    @property
    def trace(self) -> str:
        """The hash of everything so far."""
        self._close_instant()
        return self._trace.hexdigest()

    def commit(self, at: float, region: str, events: tuple[Happened, ...]) -> None:
        self.commits.append(Commit(at, region, events))
        self._note(at, region, "commit", *(f"{event.dot}={event.chain.hex()}" for event in events))

    def message(self, message: Message) -> None:
        self.messages.append(message)
        self._note(message.sent, message.caller, message.kind, message.callee, message.arrived, message.bytes)

    def exchanged(self, at: float, caller: str, callee: str, outcome: str) -> None:
        """One message and its answer came to an end."""
        self.exchanges += 1
        self._note(at, caller, "exchange", callee, outcome)

    def answer(self, answer: Answer, body: bytes) -> None:
        """A client was told this, or nothing. Shape: `body` with the tag before it."""
        self.answers.append(answer)
        self._note(answer.at, answer.region, "answer", *answer, blake2b(body, digest_size=8).hexdigest())

    def band(self, band: Band) -> None:
        self.bands.append(band)
        self._note(*band)

    def started(self, at: float, region: str, origin: str) -> None:
        self._note(at, region, "started", origin)

    def _note(self, *parts: object) -> None:
        if self.time.now != self._instant:
            self._close_instant()
        self._now.append(" ".join(map(str, parts)))

    def _close_instant(self) -> None:
        lines = sorted(self._now)
        if self.lines is not None:
            self.lines += lines
        self._trace.update("".join(f"{line}\n" for line in lines).encode())
        self._instant, self._now = self.time.now, []
