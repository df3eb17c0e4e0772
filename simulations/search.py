"""Running many plans, each in a process that may die of it, and what is told of each.

LMDB can end its whole process over a page that is wrong, so a search runs its seeds in workers. When one dies, the
first seed without a result is run again in a worker of its own, to find out whether it was that one, and the search
goes on with the rest.
"""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import msgspec

from simulations.checkers.violation import Violation
from simulations.plans.plan import Plan
from simulations.world.run import Outcome, simulate


class Result(msgspec.Struct, frozen=True):
    """What is told of one run. Units: `simulated_seconds` in virtual time, `wall_seconds` in ours."""

    seed: int
    trace: str
    ok: bool
    violations: list[Violation]
    simulated_seconds: float
    wall_seconds: float
    regions: int
    operations: int
    events: int
    exchanges: int
    faults: dict[str, int]
    sometimes: dict[str, int]
    verified: int


def run_plan(plan: Plan, fidelity: str) -> tuple[Outcome, Result]:
    """Run one plan here."""
    began = time.perf_counter()
    outcome = simulate(plan, fidelity)
    return outcome, summarise(outcome, time.perf_counter() - began)


def summarise(outcome: Outcome, wall_seconds: float) -> Result:
    plan, history = outcome.plan, outcome.history
    events = {event.chain for commit in history.commits for event in commit.events}
    return Result(
        plan.seed,
        history.trace,
        outcome.ok,
        outcome.violations,
        round(outcome.simulated_seconds, 6),
        round(wall_seconds, 3),
        len(plan.regions),
        len(plan.operations),
        len(events),
        history.exchanges,
        dict(sorted(Counter(fault.kind for fault in plan.faults).items())),
        dict(sorted(outcome.sometimes.items())),
        outcome.verified,
    )


def _worker(make: Callable[[int], Plan], seed: int, fidelity: str) -> Result:
    return run_plan(make(seed), fidelity)[1]


def search(make: Callable[[int], Plan], seeds: Iterable[int], fidelity: str, jobs: int) -> Iterator[Result]:
    """The results of all seeds, in the order of the seeds. `make` draws a seed's plan; it is sent to the workers."""
    context = multiprocessing.get_context("spawn")
    waiting = list(seeds)
    while waiting:
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            done = 0
            try:
                for result in _in_order(pool, make, waiting, fidelity, jobs):
                    done += 1
                    yield result
                return
            except BrokenProcessPool:
                waiting = waiting[done:]
        suspect, waiting = waiting[0], waiting[1:]
        yield _alone(context, make, suspect, fidelity)


def _in_order(
    pool: ProcessPoolExecutor, make: Callable[[int], Plan], seeds: list[int], fidelity: str, jobs: int
) -> Iterator[Result]:
    under_way: dict[Future[Result], int] = {}
    finished: dict[int, Result] = {}
    next_out, next_in = 0, 0
    try:
        while next_out < len(seeds):
            while next_in < len(seeds) and len(under_way) + len(finished) < jobs * 4:
                under_way[pool.submit(_worker, make, seeds[next_in], fidelity)] = next_in
                next_in += 1
            for future in wait(under_way, return_when=FIRST_COMPLETED).done if under_way else ():
                finished[under_way.pop(future)] = future.result()
            while next_out in finished:
                yield finished.pop(next_out)
                next_out += 1
    finally:
        for future in under_way:
            future.cancel()


def _alone(context: Any, make: Callable[[int], Plan], seed: int, fidelity: str) -> Result:
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_worker, make, seed, fidelity).result()
        except BrokenProcessPool:
            plan = make(seed)
            died = Violation("internal", 0.0, "", "the process that ran this died: LMDB ended it, or memory ran out")
            return Result(seed, "", False, [died], 0, 0, len(plan.regions), len(plan.operations), 0, 0, {}, {}, 0)
