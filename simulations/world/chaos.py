"""Doing the faults of a plan to a cluster, and undoing them. Faults add up: each takes away just what it brought."""

from collections import Counter
from collections.abc import Callable

import trio

from simulations.history import Band, History
from simulations.plans.plan import Fault
from simulations.world.machine import Machine
from simulations.world.network import Network, Troubles
from simulations.world.virtual_time import VirtualTime


class Chaos:
    """The faults of one run."""

    def __init__(
        self,
        network: Network,
        machines: dict[str, Machine],
        time: VirtualTime,
        history: History,
        sometimes: Counter[str],
    ) -> None:
        self._network = network
        self._machines = machines
        self._time = time
        self._history = history
        self._sometimes = sometimes

    async def run(self, fault: Fault) -> None:
        """One fault, from its beginning to its end."""
        if fault.kind in ("restore", "rollback"):
            await trio.sleep_until(max(0.0, fault.at - fault.amount))
            self._machines[fault.region].back_up(fault.at)
        await trio.sleep_until(fault.at)
        began = self._time.now
        if fault.kind in ("kill", "power-loss", "restore", "rollback", "move", "disk-failure"):
            await self._stop_machine(fault, self._machines[fault.region])
        elif fault.kind == "flapping":
            await self._flap(fault)
        else:
            undo = self._begin(fault)
            await trio.sleep(fault.lasts)
            undo()
        detail = " ".join(part for part in (fault.point, f"{fault.amount:g}" if fault.amount else "") if part)
        regions = tuple(filter(None, (fault.region, fault.other))) or fault.side
        self._history.band(Band(began, self._time.now, fault.kind, regions, detail))

    # --- machines

    async def _stop_machine(self, fault: Fault, machine: Machine) -> None:
        if fault.kind == "disk-failure":
            machine.condition.failing += 1
            await trio.sleep(fault.lasts)
            machine.condition.failing -= 1
        machine.hold_down()
        try:
            await machine.die(fault.point)
            self._count(fault)
            if fault.kind in ("restore", "rollback"):
                machine.restore(fault.at, in_place=fault.kind == "rollback")
            elif fault.kind == "move":
                machine.move()
            if fault.kind != "disk-failure":
                await trio.sleep(fault.lasts)
        finally:
            machine.release()

    def _count(self, fault: Fault) -> None:
        situation = {
            "before": "a process died before its commit",
            "after": "a process died after its commit, before its answer",
            "during": "the power was lost in the middle of a commit",
        }.get(fault.point)
        if situation:
            self._sometimes[situation] += 1

    def _begin(self, fault: Fault) -> Callable[[], None]:
        """Bring the fault about; how to take it away."""
        if fault.kind in ("partition", "isolation", "one-way-cut"):
            return self._cut(self._cuts(fault))
        if fault.kind.startswith("clock"):
            return self._set_clock(fault, self._machines[fault.region])
        if fault.kind in ("disk-full", "slow-disk"):
            return self._spoil_disk(fault, self._machines[fault.region])
        return self._trouble(fault)

    def _set_clock(self, fault: Fault, machine: Machine) -> Callable[[], None]:
        clock = machine.clock
        before, corrections = clock.now_ms(), clock.corrections
        if fault.kind == "clock-drift":
            clock.run_at(1.0 + fault.amount)
        else:
            clock.offset_ms += fault.amount
        if clock.now_ms() < before:
            self._sometimes["a wall clock went back"] += 1

        def undo() -> None:
            if fault.kind == "clock-drift":
                clock.run_at(1.0)
            elif fault.kind == "clock-offset" and clock.corrections == corrections:
                clock.offset_ms -= fault.amount

        return undo

    def _spoil_disk(self, fault: Fault, machine: Machine) -> Callable[[], None]:
        condition = machine.condition
        if fault.kind == "disk-full":
            condition.full += 1
        else:
            condition.slowness += fault.amount - 1  # a product of several would be minutes a commit

        def undo() -> None:
            if fault.kind == "disk-full":
                condition.full -= 1
            else:
                condition.slowness -= fault.amount - 1

        return undo

    # --- links

    def _cuts(self, fault: Fault) -> list[tuple[str, str]]:
        side = set(fault.side) if fault.kind == "partition" else {fault.region}
        if fault.kind == "one-way-cut":
            return [(fault.region, fault.other)]
        return [(left, right) for left, right in self._network.links() if (left in side) != (right in side)]

    def _cut(self, ways: list[tuple[str, str]]) -> Callable[[], None]:
        for way in ways:
            self._network.between(*way).cut += 1

        def undo() -> None:
            for way in ways:
                self._network.between(*way).cut -= 1

        return undo

    async def _flap(self, fault: Fault) -> None:
        ends = {fault.region, fault.other}
        with trio.move_on_after(fault.lasts):
            while True:
                undo = self._cut([way for way in self._network.links() if set(way) == ends])
                try:
                    await trio.sleep(fault.amount)
                finally:
                    undo()
                await trio.sleep(fault.amount)

    def _trouble(self, fault: Fault) -> Callable[[], None]:
        ends = {fault.region, fault.other} - {""}
        ways = [way for way in self._network.links() if ends <= set(way)]
        return _all([_worsen(self._network.between(*way), fault) for way in ways])


def _all(undo: list[Callable[[], None]]) -> Callable[[], None]:
    def undo_all() -> None:
        for one in undo:
            one()

    return undo_all


def _worsen(troubles: Troubles, fault: Fault) -> Callable[[], None]:
    if fault.kind == "slow-link":
        troubles.slowness += fault.amount - 1
        return lambda: setattr(troubles, "slowness", troubles.slowness - (fault.amount - 1))
    name = {
        "loss": "loss",
        "duplication": "duplicates",
        "reordering": "reordering_s",
        "damage": "damage",
    }[fault.kind]
    setattr(troubles, name, getattr(troubles, name) + fault.amount)
    return lambda: setattr(troubles, name, getattr(troubles, name) - fault.amount)
