"""Making a case small: the fewest operations and faults that still break the same promise.

Delta debugging (Zeller and Hildebrandt 2002, "Simplifying and isolating failure-inducing input", section 3): take
away halves, then quarters, and so on, and keep what still fails. Draws follow from what they are for, so taking one
thing away leaves all others as they were. Good guesses come first: nothing after the violation, only the streams
that it names, no faults at all.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from replication.limits import MESSAGE_TARGET_BYTES
from simulations.plans.plan import Operation, Plan, is_connected
from simulations.world.run import Outcome, simulate

BUDGET_S = 110.0
AFTER_S = 0.5

T = TypeVar("T")
Told = Callable[[Plan, int], None]
"""Told the smallest plan so far, and how many were tried."""


@dataclass(eq=False)
class Shrinking:
    """One case being made smaller."""

    best: Outcome
    fidelity: str
    told: Told
    budget_s: float = BUDGET_S
    tried: int = 0

    def __post_init__(self) -> None:
        self._checker = self.best.violations[0].checker
        self._ends = time.monotonic() + self.budget_s

    @property
    def plan(self) -> Plan:
        return self.best.plan

    def run(self) -> Outcome:
        """The smallest case found in time."""
        self._guess()
        before: Plan | None = None
        while before != self.plan and not self._late():
            before = self.plan
            self._fewer_faults()
            self._fewer_operations()
            self._fewer_regions()
            self._simpler()
            self._shorter()
        return self.best

    def _late(self) -> bool:
        return time.monotonic() > self._ends

    def _try(self, plan: Plan) -> bool:
        """Whether the plan breaks the same promise; then it is the best."""
        if plan == self.plan or self._late() or not is_connected(plan):
            return False
        self.tried += 1
        outcome = simulate(plan, self.fidelity)
        if any(violation.checker == self._checker for violation in outcome.violations[:1]):
            self.best = outcome
            self.told(plan, self.tried)
            return True
        return False

    # --- guesses

    def _guess(self) -> None:
        self._cut_after()
        streams = self._streams()
        if streams:
            kept = tuple(one for one in self.plan.operations if _touches(one, streams))
            self._try(replace(self.plan, operations=kept))
        self._cut_after()
        self._try(replace(self.plan, faults=()))
        self._fewer_regions()
        # Messages of any size, or, where their number matters, of one transaction each.
        plain = replace(self.plan, message_bytes=MESSAGE_TARGET_BYTES, gossip_interval_ms=1_000)
        if not self._try(plain):
            self._try(replace(self.plan, message_bytes=1))

    def _cut_after(self) -> None:
        """Nothing after the violation, where it was found before the end."""
        at = self.best.violations[0].at
        if at < self.plan.duration:
            self._try(
                replace(
                    self.plan,
                    duration=round(at + AFTER_S, 3),
                    operations=tuple(one for one in self.plan.operations if one.at <= at),
                    faults=tuple(one for one in self.plan.faults if one.at <= at),
                )
            )

    def _streams(self) -> set[str]:
        dots = set(self.best.violations[0].dots)
        return {event.stream for commit in self.best.history.commits for event in commit.events if event.dot in dots}

    # --- fewer

    def _fewer_faults(self) -> None:
        self._minimise(self.plan.faults, lambda faults: replace(self.plan, faults=faults))

    def _fewer_operations(self) -> None:
        self._minimise(self.plan.operations, lambda operations: replace(self.plan, operations=operations))

    def _minimise(self, items: tuple[T, ...], make: Callable[[tuple[T, ...]], Plan]) -> None:
        """Take away parts, larger ones first, as long as that leaves a failing plan."""
        if not items or self._try(make(())):
            return
        size = max(1, len(items) // 2)
        while not self._late():
            start = 0
            while start < len(items) and not self._late():
                rest = items[:start] + items[start + size :]
                if self._try(make(rest)):
                    items = rest
                else:
                    start += size
            if size == 1:
                return
            size //= 2

    def _fewer_regions(self) -> None:
        for region in self.plan.regions:
            self._without(region)

    def _without(self, region: str) -> None:
        """No such region, nor anything that is done in it or to it."""
        plan = self.plan
        if len(plan.regions) == 1:
            return
        faults = [one for one in plan.faults if region not in (one.region, one.other)]
        self._try(
            replace(
                plan,
                regions=tuple(one for one in plan.regions if one != region),
                links=tuple(one for one in plan.links if region not in (one.left, one.right)),
                home="" if region == plan.home else plan.home,
                operations=tuple(one for one in plan.operations if region not in (one.region, one.again)),
                faults=tuple(replace(one, side=tuple(name for name in one.side if name != region)) for one in faults),
            )
        )

    def _simpler(self) -> None:
        for place, operation in enumerate(self.plan.operations):
            for simpler in _simpler_operations(operation):
                operations = list(self.plan.operations)
                operations[place] = simpler
                if self._try(replace(self.plan, operations=tuple(operations))):
                    break
        for place, fault in enumerate(self.plan.faults):
            if fault.lasts > 1:
                faults = list(self.plan.faults)
                faults[place] = replace(fault, lasts=round(fault.lasts / 2, 3))
                self._try(replace(self.plan, faults=tuple(faults)))

    def _shorter(self) -> None:
        """Take out time in which nothing happens, and time after the last thing."""
        self._cut_after()
        last = max(
            [one.at for one in self.plan.operations] + [one.at + one.lasts for one in self.plan.faults] + [0.0]
        )
        if last + AFTER_S < self.plan.duration:
            self._try(replace(self.plan, duration=round(last + AFTER_S, 3)))
        starts = [one.at for one in self.plan.operations] + [one.at for one in self.plan.faults]
        first = min(starts, default=0.0)
        if first > 1:
            self._try(_moved(self.plan, first - 0.5))


def _moved(plan: Plan, by: float) -> Plan:
    """The plan, so many seconds earlier."""
    return replace(
        plan,
        duration=round(max(plan.duration - by, 0.5), 3),
        operations=tuple(replace(one, at=round(one.at - by, 3)) for one in plan.operations),
        faults=tuple(replace(one, at=round(max(one.at - by, 0), 3)) for one in plan.faults),
    )


def _touches(operation: Operation, streams: set[str]) -> bool:
    return operation.stream in streams or any(event["stream"] in streams for event in operation.events)


def _simpler_operations(operation: Operation) -> Sequence[Operation]:
    """What might do as well: one event of a transaction, a request without its extras."""
    simpler: list[Operation] = []
    if operation.events:
        for event in operation.events:
            body = {name: value for name, value in event.items() if name != "stream"}
            simpler.append(
                Operation(operation.at, operation.client, operation.region, "write", event["stream"], body)
            )
    plain = replace(operation, expect="", context="", after="", wait=2.0, key=False, again="")
    if plain != operation:
        simpler.append(plain)
    return simpler


def shrink(outcome: Outcome, fidelity: str, told: Told = lambda plan, tried: None) -> Outcome:
    """The smallest case that breaks the same promise, as far as time allows."""
    return Shrinking(outcome, fidelity, told).run()
