"""How many seeds a minute one core simulates, in both fidelities, and where the time goes.

    python tests/benchmarks/simulation_rate.py [SEEDS]

Five regions, 60 simulated seconds, 500 operations, swarm faults; the first seed warms up and is not counted.
"""

import cProfile
import pstats
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

from simulations.plans.drawing import Recipe, region_names
from simulations.world.run import simulate

RECIPE = Recipe(region_names(5), 60.0, 500, None)
PARTS = ("simulations/checkers", "simulations", "node", "replication", "crdt", "trio", "quart", "httpx", "msgpack")


def rate(fidelity: str, seeds: int) -> float:
    """Seeds a minute."""
    simulate(RECIPE(0), fidelity)
    began = time.process_time()
    for seed in range(1, seeds + 1):
        assert simulate(RECIPE(seed), fidelity).ok
    return 60 * seeds / (time.process_time() - began)


def parts(fidelity: str) -> Counter[str]:
    """The time of one seed by the part of the code it is spent in, as the profiler sees it, in per cent."""
    profile = cProfile.Profile()
    plan = RECIPE(1)

    with patch("simulations.world.run.guarded", nullcontext):  # the profiler reads a clock
        profile.runcall(simulate, plan, fidelity)
    spent: Counter[str] = Counter()
    for (file, _, _), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        path = Path(file).as_posix()
        part = next((part for part in PARTS if f"/{part}/" in path), "Python and LMDB")
        spent[part] += own
    total = sum(spent.values())
    return Counter({part: 100 * own / total for part, own in spent.items()})


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for fidelity in ("direct", "http"):
        print(f"{fidelity}: {rate(fidelity, count):.0f} seeds a minute on one core")
    for fidelity in ("direct", "http"):
        shown = ", ".join(f"{part} {share:.0f} %" for part, share in parts(fidelity).most_common() if share >= 1)
        print(f"{fidelity}: {shown}")
