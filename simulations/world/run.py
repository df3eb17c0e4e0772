"""Running a plan: the machines, the network between them, clients and faults, in virtual time.

When the plan's time is over every fault is undone, clients finish, and the cluster has time to converge; then come
the last questions, and each store is verified.
"""

import gc
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from node.configuration import configure
from node.directory.names import CLAIMS
from node.errors import first_of
from node.interface.directory import load as load_directory
from replication.tokens import scope_of
from replication.verify import verify
from simulations.checkers.judge import Judge
from simulations.checkers.violation import Violation
from simulations.history import Answer, History
from simulations.plans.plan import Operation, Plan
from simulations.sabotages import sabotaged
from simulations.world.chaos import Chaos
from simulations.world.client import Client
from simulations.world.disk import MAP_BYTES
from simulations.world.ending import Ending
from simulations.world.fidelity import Asked, Told
from simulations.world.guard import PastASeam, guarded
from simulations.world.machine import Machine
from simulations.world.mistakes import mistakes
from simulations.world.network import Network
from simulations.world.virtual_time import MachineClock, VirtualTime, run

SETTLE_S = 150.0
"""The longest that a healed cluster may take: a clock that was 45 s ahead is waited for, then back-offs end."""
LOOK_S = 0.5
CLUSTER = "simulated"
MEMORY = Path("/dev/shm")  # noqa: S108  # simulated power loss loses nothing of the machine's own
PLACE = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
"""Where stores lie while they are needed."""


@dataclass(eq=False)
class Outcome:
    """What came of a run."""

    plan: Plan
    violations: list[Violation]
    history: History
    sometimes: Counter[str]
    simulated_seconds: float
    verified: int = 0
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.violations


class World:
    """One cluster, while its plan is carried out."""

    def __init__(self, plan: Plan, fidelity: str, directory: Path, time: VirtualTime, history: History) -> None:
        self.plan = plan
        self.fidelity = fidelity
        self.directory = directory
        self.time = time
        self.history = history
        self.sometimes: Counter[str] = Counter()
        self.machines: dict[str, Machine] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.judge: Judge

    async def run(self) -> None:
        """Carry out the plan, from nothing to the end."""
        async with trio.open_nursery() as nursery:
            self._build(nursery)
            for machine in self.machines.values():
                nursery.start_soon(machine.run)
            await self._carry_out()
            nursery.cancel_scope.cancel()

    def _build(self, nursery: trio.Nursery) -> None:
        plan = self.plan
        delays = {frozenset((link.left, link.right)): link.delay_ms / 1000 for link in plan.links}
        clocks: dict[str, MachineClock] = {region: MachineClock(self.time) for region in plan.regions}
        self.judge = Judge(plan.regions, delays.keys(), self.time, self.history, self.sometimes, plan.home)
        network = Network(plan.seed, self.time, self.history, delays, nursery, self.judge, seen=self.sometimes)
        for region in plan.regions:
            peers = tuple(other for other in plan.regions if frozenset((region, other)) in delays and other != region)
            configuration = configure(
                {
                    "region": region,
                    "cluster": CLUSTER,
                    "data": str(self.directory / region),
                    "peers": [f"http://{peer}" for peer in peers],
                    "map_bytes": MAP_BYTES,
                    "message_bytes": plan.message_bytes,
                    "gossip_interval_ms": plan.gossip_interval_ms,
                    "homes": [f"{CLAIMS}userName/={plan.home}"] if plan.home else [],
                }
            )
            self.machines[region] = Machine(configuration, network, clocks[region], self.fidelity, self.judge)
        network.machines = self.machines
        self.network = network

    async def _carry_out(self) -> None:
        chaos = Chaos(self.network, self.machines, self.time, self.history, self.sometimes)
        by_client: dict[int, list[Operation]] = {}
        for operation in self.plan.operations:
            by_client.setdefault(operation.client, []).append(operation)
        self.clients = [self._client(number) for number in by_client]
        # A file's events are all to be written, in turn on each stream: what a region missed takes as long again.
        late = self.plan.duration if any(one.source for one in self.plan.operations) else 0.0
        with trio.move_on_after(self.plan.duration + late + SETTLE_S) as limit:
            async with trio.open_nursery() as working:
                working.start_soon(self._stop_early, working)
                async with trio.open_nursery() as nursery:
                    for fault in self.plan.faults:
                        nursery.start_soon(chaos.run, fault)
                    for client, mine in zip(self.clients, by_client.values(), strict=True):
                        nursery.start_soon(client.run, mine)
                    nursery.start_soon(self._set_clocks_right)
                    nursery.start_soon(self._forget_lost, nursery)
                await self._settle()
                working.cancel_scope.cancel()
        if self.judge.violations:
            return
        if limit.cancelled_caught:
            waiting = {region: holding.vector() for region, holding in self.judge.holdings.items()}
            self.judge.say("liveness", "", f"has not come to rest though everything is well: {waiting}")
            return
        with trio.move_on_after(SETTLE_S) as limit:
            directory = any(operation.do in ("scim", "rows") for operation in self.plan.operations)
            interval_s = self.plan.gossip_interval_ms / 1000
            ending = Ending(self.machines, self.judge, self.sometimes, self.ask, interval_s, directory=directory)
            self.answers = await ending.run()
        if limit.cancelled_caught:
            self.judge.say("liveness", "", "did not answer to the last questions, though everything was well")

    async def _set_clocks_right(self) -> None:
        """At the end of the plan's time: a clock that is wrong for good would refuse writes for good."""
        await trio.sleep_until(self.plan.duration)
        for machine in self.machines.values():
            machine.clock.set_right()

    async def _stop_early(self, nursery: trio.Nursery) -> None:
        """Nothing after the first violation says more."""
        while not self.judge.violations:  # noqa: ASYNC110  # to look now and then is cheap in virtual time
            await trio.sleep(LOOK_S)
        nursery.cancel_scope.cancel()

    async def _forget_lost(self, nursery: trio.Nursery) -> None:
        """Clients are told what was lost with a disk; under a fork, any token may name what nobody can bring."""
        while len(nursery.child_tasks) > 1:
            await trio.sleep(LOOK_S)
            for client in self.clients:
                if self.judge.forked:
                    client.tokens.clear()
                elif self.judge.lost:
                    client.forget(self.judge.dots_lost)

    async def _settle(self) -> None:
        while not (self.judge.converged() or self.judge.forked) or any(  # noqa: ASYNC110  # likewise
            machine.process is None or machine.process.node.writes_waiting for machine in self.machines.values()
        ):
            await trio.sleep(LOOK_S)

    # --- clients

    def _client(self, number: int) -> Client:
        return Client(number, self.plan.seed, self.plan.regions, self._ask_for_client, self._recorded, scope_of)

    async def ask(self, region: str, asked: Asked) -> Told:
        """Ask a region's node. Raises: ConnectionLost."""
        return await self.machines[region].ask(asked, partial(self.judge.answered, region, asked))

    async def _ask_for_client(self, region: str, asked: Asked) -> Told:
        began = self.time.now
        told = await self.ask(region, asked)
        if asked.method == "GET" and "causal-after" in asked.headers and told.status == 200 and self.time.now > began:
            self.sometimes["a read was forced, and waited"] += 1
        return told

    def _recorded(
        self, began: float, client: Client, operation: Operation, region: str, asked: Asked, told: Told | None
    ) -> None:
        what = f"{asked.method} {asked.target}"
        answer = Answer(began, self.time.now, client.number, region, what, told.status if told else 0)
        self.history.answer(answer, told.etag.encode() + told.body if told else b"")
        if told is None:
            self.judge.unanswered(region, asked)


def simulate(plan: Plan, fidelity: str = "direct", *, lines: bool = False, place: Path = PLACE) -> Outcome:
    """Run a plan. `lines` keeps the trace's lines, to compare two runs; its stores lie below `place` meanwhile."""
    load_directory()  # which a node does in a thread
    time = VirtualTime()
    history = History(time, lines=[] if lines else None)
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=place))
        world = World(plan, fidelity, Path(directory), time, history)
        stack.enter_context(_rare_collections())
        with mistakes(lambda text: world.judge.say("internal", "", text)), sabotaged(plan.sabotage), guarded():
            try:
                run(plan.seed, time, world.run)
            except BaseExceptionGroup as group:
                reached, rest = group.split(PastASeam)
                if reached is None or rest is not None:
                    raise
                world.judge.say("seam", "", str(first_of(reached)))
        outcome = Outcome(plan, world.judge.violations, history, world.sometimes, time.now, answers=world.answers)
        if outcome.ok:
            _verify(world, outcome)
    return outcome


@contextmanager
def _rare_collections() -> Iterator[None]:
    """A run keeps nearly all that it makes, so looking for cycles often costs a tenth of its time and finds none."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _verify(world: World, outcome: Outcome) -> None:
    for region, machine in world.machines.items():
        report = verify(machine.directory)
        outcome.verified += report.events
        if report.problems:
            world.judge.say("verify", region, "; ".join(report.problems[:3]))
