"""The fourth seam, the disk: which store a node opens, and in whose thread its commits happen.

A commit waits for the disk, so in production a thread of its own does it and trio goes on. A simulation commits in
its own virtual time instead; everything above is the same code.

A commit begins once nobody adds to it any more. Clients that were answered together ask again together: their next
writes then share the next commit, and while the disk is waited for there is time for what can wait.

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

from node.limits import GATHER_S, QUIET_ROUNDS, QUIET_S
from node.views.index import Index
from replication.store import Store

log = logging.getLogger("atoll.disk")


class Work(Protocol):
    """What is to be committed. In trio's thread, but for the steps of a commit."""

    def work_out(self) -> bool:
        """Work out a piece of what waits, before a commit or while one is on its way; whether there is more."""

    def next_commit(self) -> Generator[None, None, None] | None:
        """The next commit, to be done in one thread: it stops once, when only the disk is to be waited for."""

    def idle(self) -> None:
        """Only the disk is waited for: a good moment for what can wait."""

    def hand_back(self) -> None:
        """Tell those who wait for it that the commit is done."""


class Writer(Protocol):
    """Does commit after commit, one at a time, as long as there are any: from the start, an earlier process may have
    left some to do."""

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
        self._closing = False
        self._called_at = 0.0
        self._woken, self._ended = trio.Event(), trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._go, self._put = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._put.acquire()
        self._thread = threading.Thread(target=self._run_thread, name="atoll-writer", daemon=True)
        self._thread.start()
        trio.lowlevel.spawn_system_task(self._run, name="atoll-writer")

    def wake(self) -> None:
        self._called_at = trio.current_time()
        self._woken.set()

    async def close(self) -> None:
        self._closing = True
        self._woken.set()
        await self._ended.wait()
        self._go.release()
        await trio.to_thread.run_sync(self._thread.join)

    async def _run(self) -> None:
        while True:
            await self._gather()
            self._woken = trio.Event()
            while self._work.work_out():
                await trio.lowlevel.checkpoint()
            self._commit = self._work.next_commit()
            if self._commit is not None:
                await self._see_through()
            elif self._closing:
                self._ended.set()
                return
            else:
                await self._woken.wait()

    async def _gather(self) -> None:
        """Let whoever can run add to the next commit, until for a moment nobody has."""
        latest = trio.current_time() + GATHER_S
        quiet = 0
        while quiet < QUIET_ROUNDS and self._called_at + QUIET_S > (now := trio.current_time()) and now < latest:
            before = self._called_at
            await trio.lowlevel.checkpoint()
            quiet = quiet + 1 if self._called_at == before else 0

    async def _see_through(self) -> None:
        """Do the commit; what comes meanwhile is worked out as it comes, after whoever can run has run."""
        self._go.release()
        self._put.acquire()
        self._work.idle()
        await trio.lowlevel.checkpoint()
        while self._commit is not None:
            self._woken = trio.Event()
            if self._work.work_out():
                await trio.lowlevel.checkpoint()
            else:
                await self._woken.wait()

    def _hand_back(self) -> None:
        self._commit = None
        self._work.hand_back()
        self._woken.set()

    def _run_thread(self) -> None:
        while True:
            self._go.acquire()
            if self._commit is None:
                return
            try:
                next(self._commit, None)
            finally:
                self._put.release()
            next(self._commit, None)
            try:
                self._token.run_sync_soon(self._hand_back)
            except trio.RunFinishedError:
                log.warning("the node ended before outcomes could be handed back")
