"""Group commit: jobs that wait together share one turn, one LMDB transaction and one sync of the disk.

The writer (`node.disk`) asks for step after step: each takes everything that waits, runs the turn, and hands the
outcomes back to trio. While a commit syncs, the next batch gathers; so the batch adapts to the load and no job waits
for a timer. Between jobs the steps clear away what deletes left behind.

A step is taken while trio's thread stands still, so the queue needs no lock.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import trio
from outcome import Value

from node.disk import Disk, HandBack
from node.limits import WAITING_MAX
from node.seams import Clock
from replication.errors import Refused
from replication.limits import BATCH_BYTES_MAX, BATCH_COMMANDS_MAX
from replication.replica import Job, Outcome, Replica

log = logging.getLogger("atoll.committer")


class Overloaded(Refused):
    """More jobs wait than may."""


class TurnFailed(Refused):
    """A turn that our own mistake ended. It was rolled back whole."""


Done = Callable[[list[Outcome]], None]
"""Is told what became of the jobs, in trio's thread. Must not raise."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """Jobs, and who is to be told; nobody any more where whoever asked was cancelled."""

    jobs: Sequence[Job]
    size: int
    done: Done | None


class Committer:
    """The one writer of a replica. `on_commit` is called in trio's thread after every turn that appended events.

    Not after one that left everything out: two nodes that cannot take each other's events would wake each other
    for ever.
    """

    def __init__(self, replica: Replica, clock: Clock, disk: Disk, on_commit: Callable[[], None]) -> None:
        self._replica = replica
        self._clock = clock
        self._on_commit = on_commit
        self._queue: deque[_Waiting] = deque()
        self._closing = False
        self._committing = False
        self._stuck = False  # the last turn came to nothing, so clearing away would too: the store is full, or failed
        self._writer = disk.start_writer(self._step)
        if self._has_more:  # an earlier process had not cleared everything away
            self._writer.wake()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether more is being committed, or waits to be."""
        return self._committing or bool(self._queue)

    async def submit(self, jobs: Sequence[Job], size: int = 0) -> list[Outcome]:
        """Do the jobs in one turn to come; what became of each. Units: `size` is about their bytes.

        A caller that is cancelled while it waits has not undone them.
        Raises: Overloaded.
        """
        task = trio.lowlevel.current_task()
        waiting = self.enqueue(jobs, size, lambda outcomes: trio.lowlevel.reschedule(task, Value(outcomes)))

        def give_up(_: object) -> trio.lowlevel.Abort:
            waiting.done = None
            return trio.lowlevel.Abort.SUCCEEDED

        outcomes: list[Outcome] = await trio.lowlevel.wait_task_rescheduled(give_up)
        return outcomes

    def enqueue(self, jobs: Sequence[Job], size: int, done: Done) -> _Waiting:
        """The same for who does not wait: jobs are done, and told of, in the order in which they came.

        Raises: Overloaded.
        """
        if self._closing or len(self._queue) >= WAITING_MAX:
            raise Overloaded("this node is shutting down" if self._closing else "too many writes wait")
        waiting = _Waiting(jobs, size, done)
        self._queue.append(waiting)
        self._writer.wake()
        return waiting

    async def close(self) -> None:
        """Do what waits, then end the writer."""
        self._closing = True
        with trio.CancelScope(shield=True):
            await self._writer.close()

    def _step(self) -> HandBack | None:
        """Commit the next batch; None where there is nothing to do. Called by the writer, one at a time."""
        batch = self._take()
        if batch is None:
            return None
        self._committing = True
        before = self._replica.mirror
        jobs = [job for waiting in batch for job in waiting.jobs]
        try:
            outcomes = self._replica.turn(jobs, self._clock.now_ms())
        except Exception:  # our own mistake: rolled back and logged, and the node lives on
            log.exception("a turn failed, and was rolled back")
            outcomes = [TurnFailed("this node made a mistake; nothing was written") for _ in jobs]
        self._stuck = self._replica.mirror is before
        appended = self._replica.mirror.position != before.position

        def hand_back() -> bool:
            self._committing = False
            left = iter(outcomes)
            for waiting in batch:
                share = list(islice(left, len(waiting.jobs)))
                if waiting.done is not None:
                    self._tell(waiting.done, share)
            if appended:
                self._on_commit()
            return self._has_more

        return hand_back

    def _tell(self, done: Done, outcomes: list[Outcome]) -> None:
        try:
            done(outcomes)
        except Exception:  # our own mistake; the others that wait are told all the same
            log.exception("whoever was to be told of a turn failed")

    @property
    def _has_more(self) -> bool:
        return bool(self._queue) or (self._replica.mirror.purging and not (self._stuck or self._closing))

    def _take(self) -> list[_Waiting] | None:
        """The next batch; empty where there is only clearing away to do; None where there is nothing."""
        if not self._queue:
            return [] if self._has_more else None
        batch = [self._queue.popleft()]
        size, count = batch[0].size, len(batch[0].jobs)
        while self._queue:
            size, count = size + self._queue[0].size, count + len(self._queue[0].jobs)
            if size > BATCH_BYTES_MAX or count > BATCH_COMMANDS_MAX:
                break
            batch.append(self._queue.popleft())
        return batch
