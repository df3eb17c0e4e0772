"""Running a plan: the machines, the network between them, clients and faults, in virtual time; then the end.

The end: every fault is undone, clients finish, and the cluster has time to converge. A write in every region must
then be readable in every other at once by its token. What all of them answer for every stream is compared, and each
store is verified.
"""

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from node.configuration import configure
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
from simulations.world.fidelity import Asked, Told
from simulations.world.guard import guarded
from simulations.world.machine import Machine
from simulations.world.network import ConnectionLost, Network
from simulations.world.virtual_time import MachineClock, VirtualTime, run

SETTLE_S = 150.0
"""The longest that a healed cluster may take: a clock that was 45 s ahead is waited for, then back-offs end."""
LOOK_S = 0.5
CLUSTER = "simulated"
FORK_S = 15.0
"""How long neighbours may take to meet a fork: a back-off, and a few exchanges."""
MEMORY = Path("/dev/shm")  # noqa: S108  # simulated power loss loses nothing of the machine's own
RESOLVE_STREAMS_MAX = 500

log = logging.getLogger("atoll")


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
        self.judge = Judge(clocks, delays.keys(), self.time, self.history, self.sometimes)
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
        with trio.move_on_after(self.plan.duration + SETTLE_S) as limit:
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
            self.judge.say(
                "liveness", "", f"has not come to rest {SETTLE_S:g} s after everything was well: {waiting}"
            )
            return
        with trio.move_on_after(SETTLE_S) as limit:
            await self._end()
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
        """Clients are told what was lost with a disk."""
        while len(nursery.child_tasks) > 1:
            await trio.sleep(LOOK_S)
            if self.judge.lost:
                for client in self.clients:
                    client.forget(self.judge.dots_lost)

    async def _settle(self) -> None:
        while not (self.judge.converged() or self.judge.forked) or any(  # noqa: ASYNC110  # likewise
            machine.process is None or machine.process.node.writes_waiting for machine in self.machines.values()
        ):
            await trio.sleep(LOOK_S)

    # --- clients

    def _client(self, number: int) -> Client:
        return Client(number, self.plan.seed, self.plan.regions, self.ask, self._recorded, scope_of)

    async def ask(self, region: str, asked: Asked) -> Told:
        """Ask a region's node. Raises: ConnectionLost."""
        began = self.time.now
        return await self.machines[region].ask(
            asked, lambda told: self.judge.answered(region, asked, told, self.time.now - began)
        )

    def _recorded(
        self, began: float, client: Client, operation: Operation, region: str, asked: Asked, told: Told | None
    ) -> None:
        what = f"{asked.method} {asked.target}"
        answer = Answer(began, self.time.now, client.number, region, what, told.status if told else 0)
        self.history.answer(answer, told.body if told else b"")
        if told is None:
            self.judge.unanswered(region, asked)

    # --- the end

    async def _end(self) -> None:
        if self.judge.forked:
            await trio.sleep(FORK_S)
            self.judge.check_forks(
                {region: list(one.process.node.gossip.forks) for region, one in self.machines.items() if one.process}
            )
        else:
            await self._write_and_read_everywhere()
            self.judge.check_end()
        bodies: dict[str, bytes] = {}
        for region in self.plan.regions:
            documents, bodies[region] = await self._all_streams(region)
            self.judge.check_streams(region, documents, bodies)
            self.answers = documents
        self._note_refusals()

    async def _write_and_read_everywhere(self) -> None:
        """All is well: every region takes a write, and every other has it in no time."""
        tokens: list[str] = []
        for region in self.plan.regions:
            asked = Asked(
                "POST",
                "/streams/end",
                {"content-type": "application/json"},
                b'{"add":{"regions":["%s"]}}' % region.encode(),
            )
            told = await self._ask_at_the_end(region, asked)
            while told is not None and b"clock-ahead" in told.body:  # somebody's clock was ahead: that is waited for
                await trio.sleep(LOOK_S)
                told = await self._ask_at_the_end(region, asked)
            if told is not None and told.status == 201:
                tokens.append(json.loads(told.body)["token"])
            else:
                self.judge.say("liveness", region, f"took no write though all was well: {told}")
        for region in self.plan.regions:
            headers = {"causal-after": ", ".join(tokens), "prefer": "wait=20"}
            told = await self._ask_at_the_end(region, Asked("GET", "/streams/end", headers, b""))
            if told is None or told.status != 200:
                self.judge.say("liveness", region, f"could not read what the others had acknowledged: {told}")

    async def _ask_at_the_end(self, region: str, asked: Asked) -> Told | None:
        try:
            return await self.ask(region, asked)
        except ConnectionLost:
            return None

    async def _all_streams(self, region: str) -> tuple[dict[str, dict[str, Any]], bytes]:
        names = self.judge.streams()
        documents: dict[str, dict[str, Any]] = {}
        body = b""
        for start in range(0, len(names), RESOLVE_STREAMS_MAX):
            some = names[start : start + RESOLVE_STREAMS_MAX]
            asked = Asked(
                "POST", "/resolve", {"content-type": "application/json"}, json.dumps({"streams": some}).encode()
            )
            told = await self.ask(region, asked)
            body += told.body
            if told.status == 200:
                documents |= dict(zip(some, json.loads(told.body)["streams"], strict=True))
                for document in documents.values():
                    await self._put_together(region, document)
            else:
                self.judge.say("internal", region, f"/resolve was answered {told.status}: {told.body.decode()}")
        return documents, body

    async def _put_together(self, region: str, document: dict[str, Any]) -> None:
        """Read the sets that are too large for one answer, page by page."""
        for name, shown in document.pop("large_sets", {}).items():
            target, members = f"{shown['href']}&limit=1000", []
            while target:
                told = await self.ask(region, Asked("GET", target, {}, b""))
                members += json.loads(told.body)["members"]
                target = told.link.partition("<")[2].partition(">")[0]
            document["sets"] = dict(sorted({**document["sets"], name: members}.items()))

    def _note_refusals(self) -> None:
        situations = {
            "held-back": "an event was held back: its stamp was too far ahead",
            "missing": "an event came before what its writer had seen",
        }
        for machine in self.machines.values():
            if machine.process is not None:
                for reason, count in machine.process.node.gossip.refusals.items():
                    if reason in situations:
                        self.sometimes[situations[reason]] += count


class _Mistakes(logging.Handler):
    """What a node logs as its own mistake, with its traceback, is a violation."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._say(f"{record.getMessage()}: {logging.Formatter().formatException(record.exc_info)[-600:]}")


def simulate(plan: Plan, fidelity: str = "direct", *, lines: bool = False) -> Outcome:
    """Run a plan. `lines` keeps the trace's lines, to compare two runs."""
    time = VirtualTime()
    history = History(time, lines=[] if lines else None)
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None))
        world = World(plan, fidelity, Path(directory), time, history)
        mistakes = _Mistakes(lambda text: world.judge.say("internal", "", text))
        with _logging_to(mistakes), sabotaged(plan.sabotage), guarded():
            run(plan.seed, time, world.run)
        outcome = Outcome(plan, world.judge.violations, history, world.sometimes, time.now, answers=world.answers)
        if outcome.ok:
            _verify(world, outcome)
    return outcome


def _verify(world: World, outcome: Outcome) -> None:
    for region, machine in world.machines.items():
        report = verify(machine.directory)
        outcome.verified += report.events
        if report.problems:
            world.judge.say("verify", region, "; ".join(report.problems[:3]))


class _logging_to:  # noqa: N801  # used as a function
    """The product's log goes to a handler, and nowhere else."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def __enter__(self) -> None:
        self._before = log.propagate, log.level
        log.propagate = False
        log.setLevel(logging.ERROR)
        log.addHandler(self._handler)

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self._handler)
        log.propagate, log.level = self._before
