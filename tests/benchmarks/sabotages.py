"""Every sabotage: how many seeds the default search needs, and how small its case gets. Writes the cases.

    python tests/benchmarks/sabotages.py [NAME …]      (about ten minutes on two cores)

The cases go to tests/seeds/sabotages/, where the tests run them with their bug and without it.
"""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from simulations.plans.drawing import Recipe, region_names
from simulations.plans.plan import dump
from simulations.sabotages import SABOTAGES
from simulations.shrink import shrink
from simulations.world.run import simulate

SEEDS_MAX = 200
OPERATIONS_MAX, FAULTS_MAX = 12, 3
"""A case that gets no smaller than this is let go for another seed's."""
CASES = Path(__file__).parents[1] / "seeds" / "sabotages"


def find(name: str) -> str:
    """One line of the table."""
    began = time.perf_counter()
    sabotage = SABOTAGES[name]
    recipe = Recipe(region_names(5), 60.0, 500, sabotage.faults, sabotage.workload, sabotage=name)
    first = 0
    for seed in range(SEEDS_MAX):
        outcome = simulate(recipe(seed))
        if outcome.ok:
            continue
        found = time.perf_counter()
        first = first or seed + 1
        small = shrink(outcome, "direct")
        took = time.perf_counter() - found
        plan, lines = small.plan, dump(small.plan).count("\n")
        if len(plan.operations) <= OPERATIONS_MAX and len(plan.faults) <= FAULTS_MAX:
            (CASES / f"{name}.json").write_text(dump(plan), encoding="utf-8")
            return (
                f"| {name} | {first} | {found - began:.0f} s | {small.violations[0].checker} | "
                f"{len(plan.operations)} | {len(plan.faults)} | {took:.0f} s | {lines} |"
            )
    return f"| {name} | not found small in {SEEDS_MAX} | | | | | |"


if __name__ == "__main__":
    print("| sabotage | seeds | searched | checker | operations | faults | made small in | lines |")
    print("|---|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for line in pool.map(find, sys.argv[1:] or SABOTAGES):
            print(line, flush=True)
