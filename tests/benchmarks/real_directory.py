"""A real directory's history into three simulated regions under a swarm of faults: every seed ends in its final file.

    python tests/benchmarks/real_directory.py DIRECTORY [FIRST..LAST]      (about a minute a seed)

DIRECTORY holds kubernetes-directory.ndjson and kubernetes-directory.final.json.
"""

import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from node.commands.event_file import read_event_file
from simulations.plans.drawing import Recipe
from simulations.plans.event_file import file_operations
from simulations.world.ending import STREAM
from simulations.world.run import Outcome, simulate

DURATION_S = 600.0
REGIONS = ("us", "eu", "ap")


def ended_in(outcome: Outcome) -> dict[str, Any]:
    """The streams that exist at the end, as the final file writes them."""
    return {
        stream: {"registers": answer["registers"], "sets": answer["sets"]}
        for stream, answer in outcome.answers.items()
        if stream != STREAM and (answer.get("registers") or answer.get("sets"))
    }


def run(directory: Path, seed: int) -> str:
    """One seed's line."""
    began = time.perf_counter()
    events = read_event_file(directory / "kubernetes-directory.ndjson")
    final = json.loads((directory / "kubernetes-directory.final.json").read_text())
    outcome = simulate(Recipe(REGIONS, DURATION_S, 0, None, given=file_operations(events, DURATION_S))(seed))
    kinds = ", ".join(sorted({fault.kind for fault in outcome.plan.faults})) or "none"
    verdict = "exactly the final file" if outcome.ok and ended_in(outcome) == final else "DIFFERENT"
    said = "".join(
        f"\n  {one.checker} at {one.at:.1f} in {one.region}: {one.detail[:300]}" for one in outcome.violations
    )
    return (
        f"seed {seed}: {verdict}; {outcome.verified} events verified, {outcome.simulated_seconds:.0f} s simulated in "
        f"{time.perf_counter() - began:.0f} s; faults: {kinds}{said}"
    )


if __name__ == "__main__":
    first, _, last = (sys.argv[2] if len(sys.argv) > 2 else "0..19").partition("..")
    seeds = range(int(first), int(last) + 1)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for line in pool.map(partial(run, Path(sys.argv[1])), seeds):
            print(line, flush=True)
