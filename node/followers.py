"""Those who follow the log: they are told that it has grown a few at a time, and what they are shown is made once.

Hundreds may follow a node, and each commit concerns all of them. Told at once, they would hold up whoever writes by
their number; so a few are told, then everybody else has a turn, then the next few. A round ends before another
begins: the more there is to do, the more commits one telling covers. Those who stand at the same place are shown the
same.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import trio

from node.limits import FOLLOWERS_AT_ONCE, SHARED_PART_BYTES_MAX, SHARED_PARTS_MAX
from replication.replica import Replica


class Part(NamedTuple):
    """What follows a place in the log, as it is sent. Shape: `covered` is the place after it; `more`: not the end."""

    data: bytes
    covered: dict[str, int]
    more: bool


class Followers:
    """Everybody who follows one node's log."""

    def __init__(self, replica: Replica) -> None:
        self.round = 0
        """Changes with every telling. Take it before reading, and wait for another one after."""
        self._replica = replica
        self._waiting: dict[trio.Event, int] = {}
        self._news = trio.Event()
        self._parts: dict[Hashable, Part] = {}
        self._parts_at = -1
        self._turn = trio.Semaphore(1)

    def tell(self) -> None:
        """Have all of them look again, each in its turn."""
        self.round += 1
        if self._waiting:
            self._news.set()

    async def wait(self, since: int) -> None:
        """Until there was something to tell after the round `since`."""
        told = trio.Event()
        self._waiting[told] = since
        if since != self.round:
            self._news.set()
        try:
            await told.wait()
        finally:
            self._waiting.pop(told, None)

    async def run(self) -> None:
        """Tell them, a few at a time, until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            due = [told for told, since in self._waiting.items() if since != self.round]
            for count, told in enumerate(due, 1):
                told.set()
                if count % FOLLOWERS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    async def in_turn(self, place: Hashable, make: Callable[[], Part]) -> Part:
        """The same as `shared` for who may be far behind, so that `make` takes long: one of these at a time."""
        async with self._turn:
            return self.shared(place, make)

    def shared(self, place: Hashable, make: Callable[[], Part]) -> Part:
        """What `make` gives for a place, made once for all who come to it before the log grows."""
        position = self._replica.mirror.position
        if position != self._parts_at:
            self._parts_at = position
            self._parts.clear()
        part = self._parts.get(place) or make()
        if len(part.data) <= SHARED_PART_BYTES_MAX and len(self._parts) < SHARED_PARTS_MAX:
            self._parts[place] = part
        return part
