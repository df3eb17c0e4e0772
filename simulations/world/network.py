"""The network between the regions: how long a message takes, and whether it comes at all.

What becomes of a message is drawn from (seed, link, instant) when it is sent; its bytes cost time. Both fidelities
go through here with the same bytes at the same instants, so they meet the same fate. A caller learns of a loss as in
life: at once where there is no route, after a while where an answer never comes.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from node.limits import PEER_ANSWER_S, PEER_CONNECT_S
from node.seams import Unreachable
from simulations.draws import uniform, uniforms
from simulations.history import History, Message
from simulations.world.virtual_time import VirtualTime

if TYPE_CHECKING:
    from simulations.world.machine import Machine

BYTES_A_SECOND = 4_000_000
JITTER = 0.2
REFUSED_S = 0.5


class Watch(Protocol):
    """Who looks on."""

    def message(self, region: str, size: int) -> Mapping[str, int]:
        """A node sends a message; what it holds."""

    def heard(self, region: str, said: Mapping[str, int]) -> None:
        """A node took in a message whole, whose sender held this when it was sent."""


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
        fenced = self.machines[caller].process
        answer: bytes | None = None
        with trio.move_on_after(PEER_ANSWER_S):
            answer = await self._exchange(caller, callee, message)
        outcome = f"{len(answer)} bytes" if answer is not None else "no answer"
        self.history.exchanged(self.time.now, caller, callee, outcome)
        if answer is None or self.machines[caller].process is not fenced:
            raise Unreachable("no answer in time")
        return answer

    async def _exchange(self, caller: str, callee: str, message: bytes) -> bytes | None:
        if self.between(caller, callee).cut:
            await trio.sleep(PEER_CONNECT_S * self._draw(caller, callee, "no route"))
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
        if damage < troubles.damage:
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
