"""The fourth seam, the disk: which store a node opens, and in whose thread its commits happen.

A commit waits for the disk, so in production a thread of its own does it and trio goes on. A simulation commits in
its own virtual time instead; everything above is the same code.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio

from replication.store import Store

log = logging.getLogger("atoll.disk")

HandBack = Callable[[], None]
"""Gives a batch's outcomes to those who wait for them. To be called in trio's thread."""
Step = Callable[[], HandBack | None]
"""Commits the next batch, or says with None that there is nothing to do."""


class Writer(Protocol):
    """Takes step after step, one at a time, as long as there is something to do."""

    def wake(self) -> None:
        """There is something to do. From any thread."""

    async def close(self) -> None:
        """Do what is left, then end."""


class Disk(Protocol):
    """Where a node's store lies."""

    def open_store(self, directory: Path, map_bytes: int) -> Store:
        """Raises: StoreRefused."""

    def start_writer(self, step: Step) -> Writer:
        """Called in trio's thread."""


class LocalDisk:
    """The machine's own disk, and a thread that waits for it."""

    def open_store(self, directory: Path, map_bytes: int) -> Store:
        return Store(directory, map_bytes)

    def start_writer(self, step: Step) -> Writer:
        return _WriterThread(step)


class _WriterThread:
    def __init__(self, step: Step) -> None:
        self._step = step
        self._token = trio.lowlevel.current_trio_token()
        self._wake = threading.Condition()
        self._woken = self._closing = False
        self._thread = threading.Thread(target=self._run, name="atoll-writer", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        with self._wake:
            self._woken = True
            self._wake.notify()

    async def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        await trio.to_thread.run_sync(self._thread.join)

    def _run(self) -> None:
        while True:
            hand_back = self._step()
            if hand_back is not None:
                self._hand_back(hand_back)
            elif not self._more():
                return

    def _more(self) -> bool:
        """Wait until there is something to do; whether there ever will be."""
        with self._wake:
            self._wake.wait_for(lambda: self._woken or self._closing)
            woken, self._woken = self._woken, False
            return woken

    def _hand_back(self, hand_back: HandBack) -> None:
        try:
            self._token.run_sync_soon(hand_back)
        except trio.RunFinishedError:
            log.warning("the node ended before outcomes could be handed back")
