"""One region's node: its replica, its writer, its gossip, and waiting for what has not arrived yet.

A write passes through here as `submit`; an exchange as `gossip.answer`; a reader takes `replica.read()`, or asks
`views` where streams cannot answer.
"""

import logging
import math
import random
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from crdt.version_vector import VersionVector, includes
from node.committer import Committer, Done
from node.configuration import Configuration
from node.directory.builtin_views import BUILTIN
from node.disk import Disk, LocalDisk
from node.followers import Followers
from node.gossip import Gossip
from node.limits import (
    VIEW_BEHIND_MAX,
    VIEW_BULK_EVENTS,
    VIEW_BULK_S,
    VIEW_EVENTS_A_PIECE,
    VIEW_GATHER_S,
    VIEW_LOOK_S,
    VIEW_PAUSE_S,
    VIEW_RETRY_S,
)
from node.seams import Clock, Transport
from node.views.loading import load_views
from node.views.view import View
from node.views.views import Views
from replication.errors import Refused
from replication.replica import SECRET_BYTES, Job, Outcome, Replica

log = logging.getLogger("atoll.service")


class NotCaughtUp(Refused):
    """Events that were asked for have not arrived. Shape: seq wanted, by origin."""

    def __init__(self, missing: VersionVector, held: VersionVector) -> None:
        super().__init__("this node does not hold everything that was asked for yet")
        self.missing = missing
        self.held = held


class LostDots(Refused):
    """A token names events that this cluster has declared lost."""

    def __init__(self, lost: VersionVector) -> None:
        super().__init__("the token names events that were declared lost with their disk; read again, without it")
        self.lost = lost


class Node:
    """A running node. Made by `run_node`."""

    def __init__(
        self,
        configuration: Configuration,
        replica: Replica,
        clock: Clock,
        transport: Transport,
        entropy: random.Random,
        disk: Disk,
    ) -> None:
        self.configuration = configuration
        self.replica = replica
        self.clock = clock
        self.transport = transport
        self.entropy = entropy
        self.views = Views(replica, disk.open_index(Path(configuration.data)), self._load_views)
        self.followers = Followers(replica)
        self.introduced = trio.Event()
        self.stopping = trio.Event()
        self.requests_in_flight: set[tuple[str, str]] = set()
        self._changed = trio.Event()
        self._position = replica.mirror.position
        self._bulk_until = -math.inf
        self._lost_after: Mapping[str, int] = configuration.lost_after
        self._committer = Committer(replica, clock, disk, self._committed, self._idle)
        self.gossip = Gossip(
            replica,
            self._committer,
            transport,
            clock,
            entropy,
            configuration.peers,
            configuration.gossip_interval_ms / 1000,
            configuration.message_bytes,
        )

    @property
    def ready(self) -> bool:
        """Whether this node takes writes at once: its peers were asked, its store works, and it is not stopping."""
        return self.introduced.is_set() and not self.replica.failed and not self.stopping.is_set()

    async def submit(self, jobs: Sequence[Job], size: int = 0) -> list[Outcome]:
        """Write, in a commit shared with whoever waits too; not before the peers were asked what they hold (I6).

        Raises: Overloaded.
        """
        if not self.introduced.is_set():
            await self.introduced.wait()
        return await self._committer.submit(jobs, size)

    def enqueue(self, jobs: Sequence[Job], size: int, done: Done) -> None:
        """The same for who does not wait, once the peers were asked: outcomes are told in order.

        Raises: Overloaded.
        """
        assert self.introduced.is_set()
        self._committer.enqueue(jobs, size, done)

    @property
    def writes_waiting(self) -> int:
        """How many writes and arrivals wait for a commit."""
        return self._committer.waiting

    async def wait_for(self, vector: VersionVector, seconds: float) -> None:
        """Wait until this node holds everything in the vector.

        Raises: NotCaughtUp, when the time is up; LostDots, at once, where some of it was declared lost.
        """
        lost = {origin: seq for origin, seq in vector.items() if seq > self._lost_after.get(origin, seq)}
        if lost and not includes(self.replica.vector, lost):
            raise LostDots(lost)
        with trio.move_on_after(seconds):
            while not includes(self.replica.vector, vector) and not self.stopping.is_set():
                await self._changed.wait()
        held = self.replica.vector
        if not includes(held, vector):
            missing = {origin: seq for origin, seq in vector.items() if seq > held.get(origin, 0)}
            raise NotCaughtUp(missing, {origin: held.get(origin, 0) for origin in missing})

    def stop(self) -> None:
        """End every wait; the server ends next."""
        self.stopping.set()
        self.wake()

    async def close(self) -> None:
        """Finish what was submitted, and close the store."""
        await self._committer.close()
        try:
            self.views.close()
        except sqlite3.Error:  # what it could not keep is projected again
            log.exception("the views could not be closed in good order")
        self.replica.close()

    def _load_views(self) -> list[View]:
        return load_views(BUILTIN, self.configuration.views)

    async def follow_with_views(self) -> None:
        """Have the views follow the log, piece by piece, until cancelled.

        While writes go on they follow when the disk is waited for, unless they fall far behind; else soon after.
        While events come in bulk, as fast as they are taken in, they go slowly: whoever sends them waits for streams.
        """
        said = ""
        while True:
            changed = self._changed
            try:
                worked = self.views.step()
            except Exception as error:  # a full disk, or our own mistake: answers go on, from what the views hold
                if str(error) != said:  # once: a full disk may last for days
                    said = str(error)
                    mistake = None if isinstance(error, sqlite3.Error) else error
                    log.error("the views cannot follow the log: %s; they go on trying", said, exc_info=mistake)
                await trio.sleep(VIEW_RETRY_S)
                continue
            if not worked:
                if said:
                    said = ""
                    log.info("the views follow the log again")
                await changed.wait()
            if trio.current_time() < self._bulk_until and self._is_taking_in:
                await self._let_bulk_go_first()
            elif self.views.are_behind(VIEW_EVENTS_A_PIECE if self._committer.committing else VIEW_BEHIND_MAX):
                await trio.lowlevel.checkpoint()
            else:
                await self._let_writes_go_first()

    async def _let_bulk_go_first(self) -> None:
        """For a while, but no longer than there is more of it, or until somebody asks."""
        latest = trio.current_time() + VIEW_PAUSE_S
        while self._is_taking_in and trio.current_time() < latest:
            if await self.views.stand_back(VIEW_LOOK_S):
                return

    @property
    def _is_taking_in(self) -> bool:
        """Whether anything waits for this node to write it, or is about to."""
        return self._committer.committing or self._committer.waiting > 0 or self.gossip.is_taking_in

    async def _let_writes_go_first(self) -> None:
        """Until the disk is waited for, somebody asks, or nobody has written for a moment."""
        while not await self.views.stand_back(VIEW_GATHER_S):
            if not self._committer.waiting:
                return

    def _committed(self) -> None:
        position = self.replica.mirror.position
        if position - self._position >= VIEW_BULK_EVENTS:
            self._bulk_until = trio.current_time() + VIEW_BULK_S
        self._position = position
        self.wake()
        self.gossip.committed()

    def _idle(self) -> None:
        """Only the disk is waited for: a good moment for views, but where events come in bulk; then more are read."""
        if trio.current_time() >= self._bulk_until:
            self.views.go_ahead()

    def wake(self) -> None:
        """Have whoever waits for a change look again."""
        self._changed.set()
        self._changed = trio.Event()
        self.followers.tell()


@asynccontextmanager
async def run_node(
    configuration: Configuration,
    clock: Clock,
    transport: Transport,
    entropy: random.Random,
    disk: Disk | None = None,
) -> AsyncIterator[Node]:
    """Open the store and run a node, without its HTTP server; on leaving, stop it and close the store.

    Raises: StoreRefused; ViewsRefused.
    """
    disk = disk or LocalDisk()
    replica = Replica.open(
        Path(configuration.data),
        region=configuration.region,
        cluster=configuration.cluster,
        secret=entropy.randbytes(SECRET_BYTES),
        max_drift_ms=configuration.max_drift_ms,
        map_bytes=configuration.map_bytes,
        open_store=disk.open_store,
    )
    try:
        node = Node(configuration, replica, clock, transport, entropy, disk)
    except BaseException:
        replica.close()
        raise
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_start, node)
            nursery.start_soon(node.follow_with_views)
            nursery.start_soon(node.followers.run)
            try:
                yield node
            finally:
                node.stop()
                nursery.cancel_scope.cancel()
    finally:
        await node.close()


async def _start(node: Node) -> None:
    await node.gossip.introduce()
    node.introduced.set()
    await node.gossip.run()
