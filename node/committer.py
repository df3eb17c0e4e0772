"""Group commit: jobs that wait together share one turn, one LMDB transaction and one sync of the disk.

The writer (`node.disk`) asks for commit after commit, each once nobody adds to it: so the batch adapts to the load.
What clients write goes before what peers sent, of which a commit takes more only while no client waits for it.
While one is on its way to the disk, the next turn is worked out with what comes in. Where a commit comes to nothing,
what was worked out on it is worked out again. Between jobs the commits clear away what deletes left behind.

All is done in trio's thread, but for the commits' steps.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import trio
from outcome import Value

from node.disk import Disk
from node.limits import PIECE_BYTES_MAX, PIECE_TRANSACTIONS_MAX, WAITING_MAX
from node.seams import Clock
from replication.errors import Refused
from replication.limits import BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, BATCH_TRANSACTIONS_MAX
from replication.replica import Applied, Arrival, Job, NewIncarnation, Outcome, Replica, Turn

log = logging.getLogger("atoll.committer")


class Overloaded(Refused):
    """More jobs wait than may."""


class TurnFailed(Refused):
    """A turn that our own mistake ended. It was rolled back whole."""

    def __init__(self) -> None:
        super().__init__("this node made a mistake; nothing was written")


Done = Callable[[list[Outcome]], None]
"""Is told what became of the jobs, in trio's thread. Must not raise."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """Jobs, and who is to be told; nobody any more where whoever asked was cancelled."""

    jobs: Sequence[Job]
    size: int
    transactions: int
    operations: int
    done: Done | None


@dataclass(eq=False, slots=True)
class _Batch:
    """Jobs that share a turn.

    Shape: `outcomes` has one for each job that was worked out, in order. `operations` counts those of commands, and
    of arrivals once they are read. `failed` is what all are told instead.
    """

    turn: Turn
    waiting: list[_Waiting] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    size: int = 0
    transactions: int = 0
    operations: int = 0
    has_writes: bool = False
    failed: Refused | None = None

    def has_room_for(self, more: _Waiting) -> bool:
        if not self.waiting:
            return True
        return (
            self.size + more.size <= BATCH_BYTES_MAX
            and self.transactions + more.transactions <= BATCH_TRANSACTIONS_MAX
            and self.operations + more.operations <= BATCH_OPERATIONS_MAX
            and self.failed is None
        )

    def add(self, more: _Waiting) -> None:
        self.waiting.append(more)
        self.size += more.size
        self.transactions += more.transactions
        self.operations += more.operations


class Committer:
    """The one writer of a replica. `on_commit` is called in trio's thread after every turn that appended events.

    Not after one that left everything out: two nodes that cannot take each other's events would wake each other
    for ever. `on_idle` is called when only the disk is waited for.
    """

    def __init__(
        self,
        replica: Replica,
        clock: Clock,
        disk: Disk,
        on_commit: Callable[[], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._on_commit = on_commit
        self.idle = on_idle  # the writer calls it
        self._writes: deque[_Waiting] = deque()
        self._arrivals: deque[_Waiting] = deque()
        self._next: _Batch | None = None  # worked out, and not on its way yet
        self._committing: _Batch | None = None
        self._closing = False
        self._stuck = False  # the last turn came to nothing, so clearing away would too: the store is full, or failed
        self._writer = disk.start_writer(self)

    @property
    def waiting(self) -> int:
        """How many requests wait for their commit to begin."""
        return len(self._writes) + len(self._arrivals) + (len(self._next.waiting) if self._next else 0)

    @property
    def committing(self) -> bool:
        """Whether a commit is on its way."""
        return self._committing is not None

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
        """The same for who does not wait: jobs are done, and told of, in the order in which they came, those of
        clients before arrivals.

        Raises: Overloaded.
        """
        if self._closing or self.waiting >= WAITING_MAX:
            raise Overloaded("this node is shutting down" if self._closing else "too many writes wait")
        transactions = sum([len(job.transactions) if isinstance(job, Arrival) else 1 for job in jobs])
        waiting = _Waiting(jobs, size, transactions, sum([job.operations for job in jobs]), done)
        queue = self._arrivals if any(isinstance(job, Arrival) for job in jobs) else self._writes
        queue.append(waiting)
        self._writer.wake()
        return waiting

    async def close(self) -> None:
        """Do what waits, then end the writer."""
        self._closing = True
        with trio.CancelScope(shield=True):
            await self._writer.close()

    # --- what the writer asks for

    def work_out(self) -> bool:
        """Do a piece of what waits in memory; whether the next commit takes more of it."""
        more = [*self._take(self._writes), *self._take(self._arrivals)]
        if more:
            assert self._next is not None
            if any(isinstance(job, NewIncarnation) for job in _jobs(more)):
                self._work_out_anew(self._next)  # nothing may be written under the name that is to be given up (I6)
            else:
                self._do(self._next, more)
        return self._takes_from(self._writes) or self._takes_from(self._arrivals)

    def _take(self, queue: deque[_Waiting]) -> Iterator[_Waiting]:
        """Add a piece of what waits to the next commit."""
        size = transactions = 0
        while self._takes_from(queue) and size < PIECE_BYTES_MAX and transactions < PIECE_TRANSACTIONS_MAX:
            batch = self._next = self._next or _Batch(self._replica.begin())
            waiting = queue.popleft()
            batch.add(waiting)
            batch.has_writes |= queue is self._writes
            size += waiting.size
            transactions += waiting.transactions
            yield waiting

    def _takes_from(self, queue: deque[_Waiting]) -> bool:
        """Whether the next commit takes more of these. Once a client waits for it, it does not wait for arrivals."""
        batch = self._next
        if not queue or batch is None:
            return bool(queue)
        must_begin = queue is self._arrivals and batch.has_writes and self._committing is None
        return not must_begin and batch.has_room_for(queue[0])

    def _work_out_anew(self, batch: _Batch) -> None:
        batch.turn.abandon()
        batch.turn, batch.outcomes, batch.failed = self._replica.begin(), [], None
        batch.operations = sum(waiting.operations for waiting in batch.waiting)
        self._do(batch, batch.waiting)

    def _do(self, batch: _Batch, waiting: Iterable[_Waiting]) -> None:
        try:
            outcomes = self._replica.take(batch.turn, list(_jobs(waiting)), self._clock.now_ms())
            batch.outcomes += outcomes
            batch.operations += sum([one.operations for one in outcomes if isinstance(one, Applied)])
        except Exception:  # our own mistake: logged, and the node lives on
            log.exception("a turn failed, and is dropped")
            batch.failed = TurnFailed()

    def next_commit(self) -> Generator[None, None, None] | None:
        """The commit of what was worked out, or of clearing away; None where there is nothing to do."""
        if self._next is not None and self._replica.is_stale(self._next.turn):
            self._work_out_anew(self._next)
        batch, self._next = self._next, None
        if batch is None and self._replica.mirror.purging and not (self._stuck or self._closing):
            batch = _Batch(self._replica.begin())
        self._committing = batch
        return None if batch is None else self._commit(batch)

    def _commit(self, batch: _Batch) -> Generator[None, None, None]:
        if batch.failed is not None:
            batch.turn.abandon()
            return
        try:
            yield from self._replica.commit(batch.turn)
        except Exception:
            log.exception("a turn failed, and was rolled back")
            batch.failed = TurnFailed()
        else:
            batch.failed = batch.turn.error

    def hand_back(self) -> None:
        """Tell what became of the jobs of the commit that is done."""
        batch, self._committing = self._committing, None
        assert batch is not None
        error = batch.failed
        self._stuck = error is not None
        left = iter(batch.outcomes)
        for waiting in batch.waiting:
            share: list[Outcome] = list(islice(left, len(waiting.jobs)))
            if error is not None:
                share = [error for _ in waiting.jobs]
            if waiting.done is not None:
                self._tell(waiting.done, share)
        if error is None and self._replica.mirror.position > batch.turn.base.position:
            self._on_commit()

    def _tell(self, done: Done, outcomes: list[Outcome]) -> None:
        try:
            done(outcomes)
        except Exception:  # our own mistake; the others that wait are told all the same
            log.exception("whoever was to be told of a turn failed")


def _jobs(waiting: Iterable[_Waiting]) -> Iterator[Job]:
    return (job for one in waiting for job in one.jobs)
