"""The fourth seam, the disk: which store a node opens, and in whose thread its commits happen.

A commit waits for the disk, so in production a thread of its own does it and trio goes on. A simulation commits in
its own virtual time instead; everything above is the same code.

Python runs one thread at a time, and LMDB lets go of that turn at every row it reads or writes. Were trio's thread
busy meanwhile, each row would wait until that lets go too: a batch of a millisecond takes hundreds. So trio's thread
stands still while a turn computes, which costs it nothing, since only one of the two can run; and it runs on while
the turn syncs, which needs no Python.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import lmdb
import trio

from node.views.index import Index
from replication.store import Store

log = logging.getLogger("atoll.disk")

HandBack = Callable[[], bool]
"""Gives a batch's outcomes to those who wait for them; whether there is more to do. To be called in trio's thread."""
Step = Callable[[], HandBack | None]
"""Commits the next batch, or says with None that there is nothing to do."""


class Writer(Protocol):
    """Takes step after step, one at a time, as long as there is something to do."""

    def wake(self) -> None:
        """There is something to do. In trio's thread."""

    async def close(self) -> None:
        """Do what is left, then end."""


class Disk(Protocol):
    """Where a node's store lies."""

    def open_store(self, directory: Path, map_bytes: int) -> Store:
        """Raises: StoreRefused."""

    def open_index(self, directory: Path) -> Index:
        """The views' index."""

    def start_writer(self, step: Step) -> Writer:
        """Called in trio's thread."""


class LocalDisk:
    """The machine's own disk, and a thread that waits for it."""

    def __init__(self) -> None:
        self._writer: _WriterThread | None = None

    def open_store(self, directory: Path, map_bytes: int) -> Store:
        return _LocalStore(directory, map_bytes, self._computed)

    def open_index(self, directory: Path) -> Index:
        return Index(directory)

    def start_writer(self, step: Step) -> Writer:
        self._writer = _WriterThread(step)
        return self._writer

    def _computed(self) -> None:
        if self._writer is not None:
            self._writer.computed()


class _LocalStore(Store):
    """A store that says when a turn has computed, and only the disk is waited for."""

    def __init__(self, directory: Path, map_bytes: int, computed: Callable[[], None]) -> None:
        self._computed = computed
        super().__init__(directory, map_bytes)

    def _commit(self, transaction: lmdb.Transaction) -> None:
        self._computed()
        super()._commit(transaction)


class _WriterThread:
    """Trio's thread starts each step and stands still until it has computed; the step's end is handed back to it."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._token = trio.lowlevel.current_trio_token()
        self._due = self._busy = self._computing = self._ended = False
        self._idle = trio.Event()
        self._idle.set()
        self._go, self._standing = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._standing.acquire()
        self._thread = threading.Thread(target=self._run, name="atoll-writer", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Take a step soon: after whoever can run now, and may have more to write, has run."""
        if not self._due:
            self._due = True
            self._token.run_sync_soon(self._begin)

    def computed(self) -> None:
        """Let trio's thread go on. In the writer's thread."""
        if self._computing:
            self._computing = False
            self._standing.release()

    async def close(self) -> None:
        while self._due or self._busy:
            await self._idle.wait()
        self._ended = True
        self._go.release()
        await trio.to_thread.run_sync(self._thread.join)

    def _begin(self) -> None:
        self._due = False
        if not self._busy:
            self._busy = True
            self._idle = trio.Event()
            self._stand_still()

    def _stand_still(self) -> None:
        self._computing = True
        self._go.release()
        self._standing.acquire()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._ended:
                return
            try:
                hand_back = self._step()
            finally:
                self.computed()
            try:
                self._token.run_sync_soon(self._done, hand_back)
            except trio.RunFinishedError:
                log.warning("the node ended before outcomes could be handed back")

    def _done(self, hand_back: HandBack | None) -> None:
        if hand_back is not None and hand_back():
            self._stand_still()
        else:
            self._busy = False
            self._idle.set()
