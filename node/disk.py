"""The fourth seam, the disk: which store a node opens, and in whose thread its commits happen.

A commit waits for the disk, so in production a thread of its own does it and trio goes on. A simulation commits in
its own virtual time instead; everything above is the same code.

Python runs one thread at a time, and LMDB lets go of that turn at every row it reads or writes. Were trio's thread
busy meanwhile, each row would wait until that lets go too: a batch of a millisecond takes hundreds. So trio's thread
stands still while rows are put, which costs it nothing, since only one of the two can run; and it runs on while the
disk is waited for, which needs no Python: then the next turn is worked out.
"""

import logging
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import trio

from node.views.index import Index
from replication.store import Store

log = logging.getLogger("atoll.disk")


class Work(Protocol):
    """What is to be committed. In trio's thread, but for the steps of a commit."""

    def work_out(self) -> None:
        """Work out what waits, while a commit is on its way."""

    def next_commit(self) -> Generator[None, None, None] | None:
        """The next commit, to be done in one thread: it stops once, when only the disk is to be waited for."""

    def hand_back(self) -> None:
        """Tell those who wait for it that the commit is done."""


class Writer(Protocol):
    """Does commit after commit, one at a time, as long as there are any."""

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

    def start_writer(self, work: Work) -> Writer:
        """Called in trio's thread."""


class LocalDisk:
    """The machine's own disk, and a thread that waits for it."""

    def open_store(self, directory: Path, map_bytes: int) -> Store:
        return Store(directory, map_bytes)

    def open_index(self, directory: Path) -> Index:
        return Index(directory)

    def start_writer(self, work: Work) -> Writer:
        return _WriterThread(work)


class _WriterThread:
    """Trio's thread starts each commit and stands still until all is put; the commit's end is handed back to it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._commit: Generator[None, None, None] | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._due = self._ended = False
        self._idle = trio.Event()
        self._idle.set()
        self._go, self._put = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._put.acquire()
        self._thread = threading.Thread(target=self._run, name="atoll-writer", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Go on soon: after whoever can run now, and may have more to write, has run."""
        if not self._due:
            self._due = True
            self._token.run_sync_soon(self._begin)

    async def close(self) -> None:
        while self._due or self._commit is not None:
            await self._idle.wait()
        self._ended = True
        self._go.release()
        await trio.to_thread.run_sync(self._thread.join)

    def _begin(self) -> None:
        self._due = False
        if self._commit is not None:
            self._work.work_out()
        else:
            self._idle = trio.Event()
            self._go_on()

    def _go_on(self) -> None:
        self._commit = self._work.next_commit()
        if self._commit is None:
            self._idle.set()
        else:
            self._go.release()
            self._put.acquire()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._ended:
                return
            assert self._commit is not None
            try:
                next(self._commit, None)
            finally:
                self._put.release()
            next(self._commit, None)
            try:
                self._token.run_sync_soon(self._done)
            except trio.RunFinishedError:
                log.warning("the node ended before outcomes could be handed back")

    def _done(self) -> None:
        self._work.hand_back()
        self._go_on()
