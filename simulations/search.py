"""Running many plans, each in a process that may die of it, and what is told of each.

LMDB can end its whole process over a page that is wrong, so a search runs its seeds in workers. When one dies, the
first seed without a result is run again in a worker of its own, to find out whether it was that one, and the search
goes on with the rest. Workers do not hear Ctrl-C, which a terminal sends to all: a search that ends early ends them,
and takes away what they leave behind.
"""

import multiprocessing
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from simulations.checkers.violation import Violation
from simulations.plans.plan import Plan
from simulations.world.run import PLACE, Outcome, simulate


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


def run_plan(plan: Plan, fidelity: str, place: Path = PLACE) -> tuple[Outcome, Result]:
    """Run one plan here."""
    began = time.perf_counter()
    outcome = simulate(plan, fidelity, place=place)
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


Work = Callable[[int], Result]
"""Runs a seed. It is sent to the workers."""


def _work(make: Callable[[int], Plan], fidelity: str, place: Path, seed: int) -> Result:
    return run_plan(make(seed), fidelity, place)[1]


def search(make: Callable[[int], Plan], seeds: Iterable[int], fidelity: str, jobs: int) -> Iterator[Result]:
    """The results of all seeds, in the order of the seeds. `make` draws a seed's plan; it is sent to the workers."""
    waiting = list(seeds)
    with tempfile.TemporaryDirectory(dir=PLACE) as directory:
        work = partial(_work, make, fidelity, Path(directory))
        while waiting:
            done = 0
            try:
                with _workers(jobs) as pool:
                    for result in _in_order(pool, work, waiting, jobs):
                        done += 1
                        yield result
                return
            except BrokenProcessPool:
                suspect, waiting = waiting[done], waiting[done + 1 :]
            yield _alone(work, suspect, make)


def _in_order(pool: ProcessPoolExecutor, work: Work, seeds: list[int], jobs: int) -> Iterator[Result]:
    under_way: dict[Future[Result], int] = {}
    finished: dict[int, Result] = {}
    next_out, next_in = 0, 0
    while next_out < len(seeds):
        while next_in < len(seeds) and len(under_way) + len(finished) < jobs * 4:
            under_way[_submit(pool, work, seeds[next_in])] = next_in
            next_in += 1
        for future in wait(under_way, return_when=FIRST_COMPLETED).done if under_way else ():
            finished[under_way.pop(future)] = future.result()
        while next_out in finished:
            yield finished.pop(next_out)
            next_out += 1


def _alone(work: Work, seed: int, make: Callable[[int], Plan]) -> Result:
    try:
        with _workers(1) as pool:
            return _submit(pool, work, seed).result()
    except BrokenProcessPool:
        plan = make(seed)
        died = Violation("internal", 0.0, "", "the process that ran this died: LMDB ended it, or memory ran out")
        return Result(seed, "", False, [died], 0, 0, len(plan.regions), len(plan.operations), 0, 0, {}, {}, 0)


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes to run plans in, ended with the block."""
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:  # nobody waits any more for what they are at
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _submit(pool: ProcessPoolExecutor, work: Work, seed: int) -> Future[Result]:
    """Have a seed run. The first starts the workers, which keep what is blocked here: they are not to hear Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(work, seed)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
