"""What more processes on one store would bring: readers side by side, and two that write small durable commits.

    python tests/benchmarks/processes.py

LMDB lets many processes read one environment, and one at a time write. This prints how reads and single durable
writes scale from one process to two, so that ARCHITECTURE can say why a node is one process.
"""

import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import lmdb

from node.bench.workload import fill, open_replica
from replication.queries import resolve_stream
from replication.snapshot import read
from replication.store import Store

STREAMS, SECONDS = 20_000, 3.0


def reads(directory: str, barrier: Barrier, counts: "multiprocessing.Queue[int]") -> None:
    store, rng, count = Store(Path(directory), readonly=True), random.Random(), 0
    barrier.wait()
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        with read(store) as snapshot:
            resolve_stream(snapshot, f"users/{rng.randrange(STREAMS):07}")
        count += 1
    counts.put(count)


def commits(directory: str, barrier: Barrier, counts: "multiprocessing.Queue[int]") -> None:
    env, rng, count = lmdb.open(directory, map_size=1 << 30), random.Random(), 0
    barrier.wait()
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        with env.begin(write=True) as transaction:
            transaction.put(rng.randbytes(16), b"x" * 200)
        count += 1
    counts.put(count)


def rate(
    work: Callable[[str, Barrier, "multiprocessing.Queue[int]"], None], directory: Path, processes: int
) -> float:
    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(processes), context.Queue()
    running = [context.Process(target=work, args=(str(directory), barrier, counts)) for _ in range(processes)]
    for process in running:
        process.start()
    total: int = sum(counts.get() for _ in running)
    for process in running:
        process.join()
    return total / SECONDS


def main() -> int:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
        store, bare = Path(directory) / "store", Path(directory) / "bare"
        replica = open_replica(store)
        fill(replica, STREAMS, STREAMS)
        replica.close()
        bare.mkdir()
        print(f"{'a second':32}{'1 process':>12}{'2 processes':>12}{'ratio':>8}")
        for what, work, where in (("resolved reads", reads, store), ("single durable commits", commits, bare)):
            one, two = rate(work, where, 1), rate(work, where, 2)
            print(f"{what:32}{one:12,.0f}{two:12,.0f}{two / one:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
