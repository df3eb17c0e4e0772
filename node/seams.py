"""The seams between the node and the world: clock, entropy, transport. (The fourth, the disk, is the store.)

Nothing else in the product reads a wall clock, draws a random number or calls a peer, so a simulation that puts
its own in these places decides everything that happens.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Protocol


class Clock(Protocol):
    """The wall clock of one node."""

    def now_ms(self) -> int:
        """Unix milliseconds."""


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000  # noqa: TID251  # this is the seam


def system_entropy() -> random.Random:
    """The machine's own entropy."""
    return random.SystemRandom()


class Transport(Protocol):
    """How a message reaches a peer, and its answer comes back."""

    async def call(self, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        """Send one message; the peer's answer. `sent` is told as soon as the message is on its way.

        Raises: Unreachable, where none came.
        """

    async def ask(self, url: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Post to a peer's interface; the status and body of its answer. Headers are as a request of ours has them.

        Raises: Unreachable, where none came.
        """


class Unreachable(Exception):
    """A peer that did not answer, and why."""
