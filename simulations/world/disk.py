"""The disk of a simulated machine: real LMDB environments, with faults at the instant of the commit.

A commit can die before it, in it or after it. With the power, the disk keeps what was synced: LMDB syncs every page
of a commit before it writes the meta page that makes the commit count, so losing the power in between leaves any
part of those pages, whole or torn, and the old meta page; afterwards, all of them.

A machine that died is fenced: whatever of it still runs can commit nothing.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import lmdb
import trio

from node.disk import Work
from node.views.index import Index
from replication.store import Store
from simulations.plans.plan import Point

PAGE_BYTES = 4096
META_PAGES = 2
COMMIT_S = 0.0005
"""The mean time of a commit on a disk that is well."""
MAP_BYTES = 64 * 1024 * 1024
DATA_FILE = "data.mdb"


class Crash(BaseException):
    """The machine died in the middle of a commit."""


@dataclass(eq=False)
class Condition:
    """How one machine's disk is.

    Shape: `doomed` is the point of the next commit at which the machine dies; `full` and `failing` count faults.
    """

    doomed: Point = ""
    full: int = 0
    failing: int = 0
    slowness: float = 1.0
    torn: bytes | None = None


class SimulatedStore(Store):
    """A store whose commits go through the machine's disk."""

    def __init__(self, directory: Path, map_bytes: int, disk: "SimulatedDisk") -> None:
        self._disk = disk
        super().__init__(directory, map_bytes)

    def _commit(self, transaction: lmdb.Transaction) -> None:
        self._disk.commit(transaction, self.directory / DATA_FILE)


class SimulatedIndex(Index):
    """Views whose commits are a machine's: one that died keeps none."""

    def __init__(self, directory: Path, disk: "SimulatedDisk") -> None:
        self._disk = disk
        super().__init__(directory)

    def commit(self) -> None:
        if self._disk.fenced:
            self.roll_back()
        else:
            super().commit()


class SimulatedDisk:
    """One process's way to its machine's disk.

    Shape: `commits` counts them; `after_commit` is told of each, with the most that the wall clock showed when its
    turn was worked out.
    """

    def __init__(
        self,
        condition: Condition,
        draw: Callable[..., float],
        nursery: trio.Nursery,
        clock_ms: Callable[[], int],
        after_commit: Callable[[int], None],
        crashed: Callable[[], None],
    ) -> None:
        self.fenced = False
        self.commits = 0
        self._condition = condition
        self._draw = draw
        self._nursery = nursery
        self._clock_ms = clock_ms
        self._after_commit = after_commit
        self._crashed = crashed

    def open_store(self, directory: Path, map_bytes: int) -> Store:
        return SimulatedStore(directory, map_bytes, self)

    def open_index(self, directory: Path) -> Index:
        return SimulatedIndex(directory, self)

    def commit(self, transaction: lmdb.Transaction, file: Path) -> None:
        """Commit, or meet the machine's fate."""
        condition = self._condition
        if self.fenced:
            raise Crash
        if condition.full:
            raise lmdb.MapFullError("simulated")
        if condition.failing:
            raise lmdb.DiskError("simulated")
        self.commits += 1
        point, condition.doomed = condition.doomed, ""
        if point == "before":
            self._die()
        before = file.read_bytes() if point == "during" else b""
        transaction.commit()
        if point == "during":
            condition.torn = tear(before, file.read_bytes(), self._draw)
        if point:
            self._die()

    def _die(self) -> None:
        self.fenced = True
        raise Crash

    def start_writer(self, work: Work) -> "InlineWriter":
        writer = InlineWriter(work, self._delay, self._clock_ms, self._after_commit, self._crashed)
        self._nursery.start_soon(writer.run)
        return writer

    def _delay(self) -> float:
        return COMMIT_S * self._condition.slowness * (0.5 + self._draw("commit"))


def tear(before: bytes, after: bytes, draw: Callable[..., float]) -> bytes:
    """A file of which the pages of one commit were written in part, and its meta page not yet."""
    image = bytearray(before.ljust(len(after), b"\0"))
    for start in range(META_PAGES * PAGE_BYTES, len(after), PAGE_BYTES):
        page = after[start : start + PAGE_BYTES]
        if before[start : start + PAGE_BYTES] == page:
            continue
        fate = draw("page", start)
        kept = PAGE_BYTES if fate < 0.4 else 0 if fate < 0.7 else int(draw("torn", start) * PAGE_BYTES)
        image[start : start + kept] = page[:kept]
    return bytes(image)


class InlineWriter:
    """Commits in the simulation's own thread and time: while the disk is waited for, everything else goes on."""

    def __init__(
        self,
        work: Work,
        delay: Callable[[], float],
        clock_ms: Callable[[], int],
        after_commit: Callable[[int], None],
        crashed: Callable[[], None],
    ) -> None:
        self._work = work
        self._delay = delay
        self._clock_ms = clock_ms
        self._after_commit = after_commit
        self._crashed = crashed
        self._worked_out_ms = 0  # the most that the clock showed when the next turn was worked out
        self._woken = trio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def close(self) -> None:
        """A machine of a simulation never stops in good order: it dies, or the run is over."""

    async def run(self) -> None:
        try:
            while True:
                while (commit := await self._next_commit()) is not None:
                    worked_out_ms, self._worked_out_ms = max(self._worked_out_ms, self._clock_ms()), 0
                    with closing(commit):
                        next(commit, None)
                        self._work.idle()
                        await self._wait_for_the_disk()
                        next(commit, None)
                    self._after_commit(worked_out_ms)
                    self._work.hand_back()
                await self._woken.wait()
                self._woken = trio.Event()
        except Crash:
            self._crashed()

    async def _next_commit(self) -> Generator[None, None, None] | None:
        await self._work_out()
        return self._work.next_commit()

    async def _wait_for_the_disk(self) -> None:
        with trio.move_on_after(self._delay()):
            while True:
                await self._woken.wait()
                self._woken = trio.Event()
                await self._work_out()
                self._worked_out_ms = max(self._worked_out_ms, self._clock_ms())

    async def _work_out(self) -> None:
        """Work out what waits, while others have a turn between its pieces."""
        while self._work.work_out():
            await trio.lowlevel.checkpoint()
