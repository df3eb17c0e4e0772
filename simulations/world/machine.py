"""One region's machine: a disk, a clock, and one process after another that runs the production node on them.

A process dies at once and in the middle of whatever it does; it is fenced first, so that what still unwinds of it
reaches neither the disk nor the network. The next one opens what the disk has kept. Each has entropy of its own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from node.configuration import Configuration
from node.service import Node, run_node
from replication.errors import Refused, StoreRefused
from replication.snapshot import Snapshot
from replication.tables import Head
from simulations.draws import uniform
from simulations.plans.plan import Point
from simulations.world.disk import DATA_FILE, Condition, Crash, SimulatedDisk
from simulations.world.fidelity import Asked, Door, Told, make_transport, open_door
from simulations.world.network import ConnectionLost, Network
from simulations.world.virtual_time import InstantRandom, MachineClock

T = TypeVar("T")

RESTART_S = 0.3
DOOMED_S = 2.0
"""How long a machine that is to die in a commit waits for one; then it dies where it is."""


class Watch(Protocol):
    """Who looks on. Shape: heads are those of the store, by origin."""

    def started(self, region: str, node: Node, heads: dict[str, Head], snapshot: Snapshot, *, regress: str) -> None:
        """A process opened its store. Shape: `regress` is how an older disk came there: restore or rollback."""

    def committed(self, region: str, node: Node, heads: dict[str, Head], snapshot: Snapshot, clock_ms: int) -> None:
        """A turn was committed. Shape: `clock_ms` is the most that the wall clock showed when it was worked out."""


@dataclass(eq=False)
class Process:
    """One life of one node."""

    node: Node
    door: Door
    nursery: trio.Nursery
    disk: SimulatedDisk


class Machine:
    """One region's machine."""

    def __init__(
        self,
        configuration: Configuration,
        network: Network,
        clock: MachineClock,
        fidelity: str,
        watch: Watch,
    ) -> None:
        self.region = configuration.region
        self.clock = clock
        self.condition = Condition()
        self.process: Process | None = None
        self._network = network
        self._fidelity = fidelity
        self._watch = watch
        self.directory = Path(configuration.data)
        self._configuration = configuration
        self._lives = 0
        self._down = 0
        self._regress = ""
        self._backups: dict[float, bytes] = {}
        self._scope: trio.CancelScope | None = None
        self._up = trio.Event()
        self._up.set()
        self._dead = trio.Event()
        self._dead.set()

    # --- living

    async def run(self) -> None:
        """Run one process after another, until cancelled."""
        while True:
            await self._up.wait()
            self._dead = trio.Event()
            self._lives += 1
            with trio.CancelScope() as self._scope:
                try:
                    await self._live()
                except BaseExceptionGroup as group:
                    if group.split((Crash, Refused, StoreRefused))[1] is not None:
                        raise
            self.process = None
            self._mend()
            self._dead.set()
            await trio.sleep(RESTART_S)

    async def _live(self) -> None:
        network, region = self._network, self.region
        entropy = InstantRandom(network.seed, network.time, region, self._lives)
        transport = make_transport(self._fidelity, self._exchange, self._ask_peer)
        async with trio.open_nursery() as outer:
            disk = SimulatedDisk(self.condition, self._draw, outer, self.clock.now_ms, self._committed, self._crash)
            try:
                async with (
                    run_node(self._configuration, self.clock, transport, entropy, disk) as node,
                    trio.open_nursery() as nursery,
                ):
                    self.process = Process(node, open_door(self._fidelity, node), nursery, disk)
                    with node.replica.read() as snapshot:
                        heads = node.replica.mirror.heads
                        self._watch.started(self.region, node, heads, snapshot, regress=self._regress)
                    self._regress = ""
                    await trio.sleep_forever()
            finally:
                disk.fenced = True

    def _draw(self, *purpose: object) -> float:
        """The disk's draws."""
        return uniform(self._network.seed, "disk", self.region, *purpose, self._network.time.now)

    async def _exchange(self, peer: str, message: bytes) -> bytes:
        return await self._network.exchange(self.region, peer, message)

    async def _ask_peer(self, peer: str, asked: Asked) -> Told:
        return await self._network.ask(self.region, peer, asked)

    def _committed(self, clock_ms: int) -> None:
        assert self.process is not None
        node = self.process.node
        with node.replica.read() as snapshot:
            self._watch.committed(self.region, node, node.replica.mirror.heads, snapshot, clock_ms)

    # --- being reached

    async def ask(self, asked: Asked, answered: Callable[[Told], None]) -> Told:
        """What the node answers to a client; `answered` sees it as it is given. Raises: ConnectionLost."""

        async def work(door: Door) -> Told:
            told = await door.ask(asked)
            if self.process is not None and not self.process.disk.fenced:
                answered(told)
            return told

        return await self._within(work)

    async def answer(self, message: bytes) -> bytes:
        """What the node answers to a peer. Raises: ConnectionLost."""
        return await self._within(lambda door: door.answer(message))

    async def _within(self, work: Callable[[Door], Awaitable[T]]) -> T:
        """Do it in the process as it is now, and die with it."""
        process = self.process
        if process is None or process.disk.fenced:
            raise ConnectionLost
        results: list[T] = []
        done = trio.Event()

        async def answering() -> None:
            try:
                results.append(await work(process.door))
            finally:
                done.set()

        process.nursery.start_soon(answering)
        await done.wait()
        if not results or process.disk.fenced:
            raise ConnectionLost
        return results[0]

    # --- dying

    def _crash(self) -> None:
        if self.process is not None:
            self.process.disk.fenced = True
        if self._scope is not None:
            self._scope.cancel()

    def hold_down(self) -> None:
        """Do not start again before as many calls of `release`."""
        self._down += 1
        self._up = trio.Event() if self._up.is_set() else self._up

    def release(self) -> None:
        self._down -= 1
        if not self._down:
            self._up.set()

    async def die(self, point: Point) -> None:
        """Die at that point of the next commit, or now; return once nothing of the process is left."""
        if point and self.process is not None:
            self.condition.doomed = point
            with trio.move_on_after(DOOMED_S):
                await self._dead.wait()
            self.condition.doomed = ""
        if not self._dead.is_set():
            self._crash()
        await self._dead.wait()

    def _mend(self) -> None:
        """What a loss of power left of the last commit is what the next process finds."""
        if self.condition.torn is not None:
            self._file.write_bytes(self.condition.torn)
            self.condition.torn = None

    # --- disks that change

    @property
    def _file(self) -> Path:
        return self.directory / DATA_FILE

    def back_up(self, name: float) -> None:
        """Keep a copy of the disk as it is. Nothing runs in between: it is one committed state."""
        if self._file.exists():
            self._backups[name] = self._file.read_bytes()

    def restore(self, name: float, *, in_place: bool) -> None:
        """Put an old copy where the disk was: the same file with old content, or another file."""
        backup = self._backups.pop(name, None)
        if backup is not None:
            self._regress = "rollback" if in_place else "restore"
            self._put(backup, in_place=in_place)

    def move(self) -> None:
        """Put a copy of the disk in its place, as when a machine is cloned and the old one switched off."""
        self._put(self._file.read_bytes(), in_place=False)

    def _put(self, image: bytes, *, in_place: bool) -> None:
        if in_place:
            self._file.write_bytes(image)
            return
        copy = self.directory / "copy"
        copy.write_bytes(image)
        copy.replace(self._file)
