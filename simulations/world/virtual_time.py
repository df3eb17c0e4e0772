"""Time that passes only while nobody has anything to do, and an order of tasks that follows from the seed.

trio asks its clock how long to sleep when no task can run: that is the moment to jump to the next deadline. Which of
several tasks that are ready at one instant runs first is a coin of (seed, instant), so that it is the same whatever
else ran in between, and another for another seed. The machines' own clocks are wrong in their own ways.
"""

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
import trio._core._run as trio_run

from simulations.draws import uniform

T = TypeVar("T")

EPOCH_MS = 1_767_225_600_000
"""The wall clock at virtual time zero: 2026-01-01."""


class VirtualTime(trio.abc.Clock):
    """Units: seconds since the simulation began."""

    def __init__(self) -> None:
        self.now = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline == float("inf"):  # the world's main task always has one: trio itself is starting or ending
            return 1.0
        self.now = max(self.now, deadline)
        return 0.0


class MachineClock:
    """One machine's wall clock: ahead or behind, fast or slow, and it jumps."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self._rate = 1.0
        self._since = 0.0
        self._gained_ms = 0.0
        self.offset_ms = 0.0
        self.corrections = 0

    def now_ms(self) -> int:
        return EPOCH_MS + int(self._time.now * 1000 + self._drift_ms() + self.offset_ms)

    def run_at(self, rate: float) -> None:
        """Go on `rate` times as fast as time does."""
        self._gained_ms = self._drift_ms()
        self._rate, self._since = rate, self._time.now

    def set_right(self) -> None:
        """Show the true time again."""
        self.corrections += 1
        self.offset_ms = self._gained_ms = 0.0
        self._rate, self._since = 1.0, self._time.now

    def _drift_ms(self) -> float:
        return self._gained_ms + (self._time.now - self._since) * (self._rate - 1.0) * 1000


class InstantRandom(random.Random):
    """A process's entropy: what it draws follows from the instant, not from how often it drew before."""

    def __init__(self, seed: int, time: VirtualTime, *purpose: object) -> None:
        super().__init__(0)
        self._of = purpose
        self._seed = seed
        self._time = time
        self._drawn: tuple[float, int] = (-1.0, 0)

    def random(self) -> float:
        instant, count = self._drawn
        self._drawn = (self._time.now, count + 1 if instant == self._time.now else 0)
        return uniform(self._seed, *self._of, *self._drawn)

    def getrandbits(self, k: int) -> int:
        return sum(int(self.random() * 2**32) << shift for shift in range(0, k, 32)) & ((1 << k) - 1)


class _Order:
    """Stands where trio keeps the generator that orders the tasks of one instant."""

    def __init__(self, seed: int, time: VirtualTime) -> None:
        self._seed = seed
        self._time = time
        self._tossed: tuple[float, bool] = (-1.0, False)

    def shuffle(self, batch: list[Any]) -> None:
        if self._tossed[0] != self._time.now:
            self._tossed = (self._time.now, uniform(self._seed, "order", self._time.now) < 0.5)
        if self._tossed[1]:
            batch.reverse()


@contextmanager
def _scheduling(seed: int, time: VirtualTime) -> Iterator[None]:
    """trio has no public way to this; what is private here is checked to be there."""
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r = _Order(seed, time)  # type: ignore[assignment]
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r = before  # type: ignore[misc]


def run(seed: int, time: VirtualTime, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` in virtual time, in the order of the seed."""
    with _scheduling(seed, time):
        return trio.run(main, clock=time)
