"""The network between the regions: how long a message takes, and whether it comes at all.

What becomes of a message is drawn from (seed, link, instant) when it is sent; its bytes cost time. Both fidelities
go through here with the same bytes at the same instants, so they meet the same fate. A caller learns of a loss as in
life: at once where there is no route, after a while where an answer never comes.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from node.limits import PEER_ANSWER_S, PEER_CONNECT_S
from node.seams import Unreachable
from simulations.draws import uniform, uniforms
from simulations.history import History, Message
from simulations.world.fidelity import Asked, Told
from simulations.world.virtual_time import VirtualTime

if TYPE_CHECKING:
    from simulations.world.machine import Machine

BYTES_A_SECOND = 4_000_000
JITTER = 0.2
REFUSED_S = 0.5

T = TypeVar("T")


class Watch(Protocol):
    """Who looks on."""

    def message(self, region: str, size: int) -> Mapping[str, int]:
        """A node sends a message; what it holds."""

    def heard(self, region: str, said: Mapping[str, int]) -> None:
        """A node took in a message whole, whose sender held this when it was sent."""

    def answered(self, region: str, asked: Asked, told: Told) -> None:
        """A node answered, in this instant."""


class ConnectionLost(Exception):
    """The machine at the other end stopped before it answered."""


@dataclass(eq=False)
class Troubles:
    """What is wrong with one direction of one link, as counts and sums of the faults in force."""

    cut: int = 0
    loss: float = 0.0
    duplicates: float = 0.0
    reordering_s: float = 0.0
    damage: float = 0.0
    slowness: float = 1.0


@dataclass(eq=False)
class Network:
    """Every link of one cluster. Shape: `delays` in seconds by unordered pair, `troubles` by direction."""

    seed: int
    time: VirtualTime
    history: History
    delays: dict[frozenset[str], float]
    nursery: trio.Nursery
    watch: Watch
    machines: dict[str, "Machine"] = field(default_factory=dict)
    troubles: defaultdict[tuple[str, str], Troubles] = field(default_factory=lambda: defaultdict(Troubles))
    seen: Counter[str] = field(default_factory=Counter)

    def between(self, caller: str, callee: str) -> Troubles:
        return self.troubles[caller, callee]

    def links(self) -> list[tuple[str, str]]:
        """Every direction of every link, in order."""
        pairs = sorted(sorted(pair) for pair in self.delays)
        return [pair for left, right in pairs for pair in ((left, right), (right, left))]

    async def exchange(self, caller: str, callee: str, message: bytes) -> bytes:
        """Carry a message to a peer, and its answer back. Raises: Unreachable."""
        answer = await self._in_time(caller, self._exchange(caller, callee, message))
        outcome = f"{len(answer)} bytes" if answer is not None else "no answer"
        self.history.exchanged(self.time.now, caller, callee, outcome)
        if answer is None:
            raise Unreachable("no answer in time")
        return answer

    async def ask(self, caller: str, callee: str, asked: Asked) -> Told:
        """Carry a request of a node's to a peer's interface, and its answer back. Raises: Unreachable."""
        told = await self._in_time(caller, self._ask(caller, callee, asked))
        self.history.exchanged(self.time.now, caller, callee, str(told.status) if told is not None else "no answer")
        if told is None:
            raise Unreachable("no answer in time")
        return told

    async def _in_time(self, caller: str, carrying: Awaitable[T | None]) -> T | None:
        """What comes back while the caller waits for it, and lives."""
        process, answer = self.machines[caller].process, None
        with trio.move_on_after(PEER_ANSWER_S):
            answer = await carrying
        return answer if self.machines[caller].process is process else None

    async def _ask(self, caller: str, callee: str, asked: Asked) -> Told | None:
        """As of a message, but that TCP mends what is damaged and takes away what comes twice."""
        if await self._no_route(caller, callee):
            return None
        if await self._transit(caller, callee, asked.body, "request") is None:
            await self._give_up(caller, callee)
            return None
        try:
            told = await self.machines[callee].ask(asked, partial(self.watch.answered, callee, asked))
        except ConnectionLost:
            await trio.sleep(REFUSED_S * self._draw(caller, callee, "refused"))
            return None
        if await self._transit(callee, caller, told.body, "reply") is None:
            self.seen["a home's answer was lost"] += 1
            await self._give_up(caller, callee)
            return None
        self.seen["a name was given by its home, for another region"] += told.status == 201
        return told

    async def _no_route(self, caller: str, callee: str) -> bool:
        if not self.between(caller, callee).cut:
            return False
        await trio.sleep(PEER_CONNECT_S * self._draw(caller, callee, "no route"))
        return True

    async def _exchange(self, caller: str, callee: str, message: bytes) -> bytes | None:
        if await self._no_route(caller, callee):
            return None
        said = self.watch.message(caller, len(message))
        data = await self._transit(caller, callee, message, "message")
        if data is None:
            await self._give_up(caller, callee)
            return None
        try:
            answer = await self.machines[callee].answer(data)
        except ConnectionLost:
            await trio.sleep(REFUSED_S * self._draw(caller, callee, "refused"))
            return None
        if data == message:
            self.watch.heard(callee, said)
        said = self.watch.message(callee, len(answer))
        back = await self._transit(callee, caller, answer, "answer")
        if back is None:
            self.seen["an answer was lost after its message had been taken"] += 1
            await self._give_up(caller, callee)
        elif back == answer:
            self.watch.heard(caller, said)
        return back

    async def _deliver_late(self, caller: str, callee: str, late: float, data: bytes) -> None:
        """A copy of a message, whose answer nobody waits for."""
        sent = self.time.now
        await trio.sleep(late)
        self.history.message(Message(sent, self.time.now, caller, callee, len(data), "copy"))
        with suppress(ConnectionLost):
            await self.machines[callee].answer(data)

    async def _give_up(self, caller: str, callee: str) -> None:
        await trio.sleep(PEER_ANSWER_S * self._draw(caller, callee, "silence"))

    async def _transit(self, caller: str, callee: str, data: bytes, kind: str) -> bytes | None:
        """One way. What arrives, or None."""
        troubles, sent = self.between(caller, callee), self.time.now
        loss, damage, place, twice, late, jitter, overtaking, _ = uniforms(self.seed, caller, callee, kind, sent)
        delay = self.delays[frozenset((caller, callee))] * troubles.slowness * (1 + JITTER * jitter)
        delay += troubles.reordering_s * overtaking + len(data) / BYTES_A_SECOND * troubles.slowness
        lost = bool(troubles.cut) or loss < troubles.loss
        if damage < troubles.damage and kind in ("message", "answer"):
            data = self._damaged(data, int(place * len(data)))
        if kind == "message" and twice < troubles.duplicates:
            self.nursery.start_soon(self._deliver_late, caller, callee, delay * (1 + 20 * late), data)
            self.seen["a message arrived twice"] += 1
        if not lost:
            await trio.sleep(delay)
            lost = bool(troubles.cut)
        self.history.message(Message(sent, None if lost else self.time.now, caller, callee, len(data), kind))
        return None if lost else data

    def _damaged(self, data: bytes, place: int) -> bytes:
        self.seen["a message was damaged on the way"] += 1
        return data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]

    def _draw(self, *purpose: str) -> float:
        return uniform(self.seed, *purpose, self.time.now)
