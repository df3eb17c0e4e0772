"""The replica inside a process: appending, sets of any size, and what it costs as the log grows."""

import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import lmdb

from crdt.operations import Add, Operation, Remove
from node.bench import five_rows
from node.bench.figure import Figure
from node.bench.floor import copied, recording, replay, timed
from node.bench.workload import NOW, commands, fill, open_replica, write
from replication.command import Command, Draft, Written
from replication.queries import contains, existing_row, resolve_stream
from replication.replica import Replica

STREAMS = (20_000, 200_000)
PAST = 300_000
PER_COMMIT = {64: 150, 1_000: 40}
"""Events a commit, and how many commits are measured."""
REPEATS = 5
READ_REPEATS = 15
"""A round of reads is over in a tenth of a second, and machines waver for longer than that."""
SIZES = (1_000, 1_000_000)
ROUNDS, PER_ROUND = 9, 1_000
GROWTH = (100_000, 500_000, 1_000_000, 2_500_000, 5_000_000)
GROWTH_STREAMS = 50_000


def append(directory: Path) -> Iterator[Figure]:
    """Events appended to a store with a past, by events a commit, against the bare rows."""
    for streams in STREAMS:
        past = directory / f"past-{streams}"
        replica = open_replica(past)
        fill(replica, PAST, streams)
        replica.close()
        five = five_rows.spread_store(past, directory / f"five-{streams}")
        for per_commit, count in PER_COMMIT.items():
            yield measure_append(directory, past, streams, per_commit, count, five)


def measure_append(
    directory: Path, past: Path, streams: int, per_commit: int, count: int, five: Path | None = None
) -> Figure:
    """Append to copies of a store, and put the same rows bare; with `five`, the same events as five rows too."""
    rng = random.Random(2)
    batches = [commands(rng, per_commit, streams) for _ in range(count)]
    append_all = partial(_append_all, batches=batches)
    with recording() as turns:  # in a run of its own: noting rows takes time
        _on_copy(past, directory, append_all)
    works = {"here": partial(_on_copy, past, directory, append_all)}
    works["floor"] = partial(_on_copy, past, directory, partial(replay, turns=turns))
    if five is not None:
        spread = partial(replay, turns=list(map(five_rows.spread, turns)))
        works[five_rows.NAME] = partial(_on_copy, five, directory, spread)
    seconds = dict(zip(works, _by_turns(*works.values()), strict=True))
    rates = {work: per_commit * count / took for work, took in seconds.items()}
    what = f"append, {per_commit:,} a commit, {streams:,} streams"
    return Figure(what, rates.pop("here"), "events/s", rates.pop("floor"), rates)


def _by_turns(*measurements: Callable[[], float], repeats: int = REPEATS) -> list[float]:
    """The median of each, measured by turns, since machines waver."""
    rounds = [[measure() for measure in measurements] for _ in range(repeats)]
    return [median(values) for values in zip(*rounds, strict=True)]


def _on_copy(past: Path, directory: Path, work: Callable[[Path], float]) -> float:
    store = copied(past, directory / "copy")
    seconds = work(store)
    shutil.rmtree(store)
    return seconds


def _append_all(store: Path, batches: list[list[Command]]) -> float:
    """Units: seconds."""
    replica = open_replica(store)
    seconds = timed(lambda: list(map(partial(write, replica), batches)))
    replica.close()
    return seconds


def sets(directory: Path) -> Iterator[Figure]:
    """Add, remove and look up members of one set, 1,000 a commit, sync subtracted; the floor is the small set."""
    measured = {size: _MeasuredSet(directory / f"set-{size}", size) for size in SIZES}
    for _ in range(ROUNDS):
        for one in measured.values():
            one.round()
    small, large = (measured[size].seconds for size in SIZES)
    for kind in small:
        low, high = (median(times[kind]) / PER_ROUND * 1e6 for times in (small, large))
        yield Figure(f"set {kind}, {SIZES[1]:,} members (floor: {SIZES[0]:,})", high, "µs", low)


class _MeasuredSet:
    def __init__(self, directory: Path, size: int) -> None:
        self._rng = random.Random(size)
        self._size = size
        self._replica = open_replica(directory)
        self.seconds: dict[str, list[float]] = {"add": [], "remove": [], "contains": []}
        for start in range(0, size, 5_000):
            self._turn([tuple(Add("members", self._element()) for _ in range(min(5_000, size - start)))])
        self._commit = self._replica.store._commit
        self._synced = 0.0
        self._replica.store._commit = self._timed_commit  # type: ignore[method-assign]  # to subtract it

    def _timed_commit(self, transaction: lmdb.Transaction) -> None:
        self._synced += timed(lambda: self._commit(transaction))

    def _element(self) -> str:
        return f"{self._rng.getrandbits(80):024x}"

    def _turn(self, events: list[tuple[Operation, ...]]) -> None:
        outcomes = self._replica.turn([Command((Draft("groups/all", event),)) for event in events], NOW)
        assert all(isinstance(outcome, Written) for outcome in outcomes)

    def round(self) -> None:
        fresh = [self._element() for _ in range(PER_ROUND)]
        self._note("add", lambda: self._turn([(Add("members", one),) for one in fresh]))
        self._note("contains", lambda: self._look_up(fresh))
        self._note("remove", lambda: self._turn([(Remove("members", one),) for one in fresh]))

    def _look_up(self, elements: list[str]) -> None:
        """As the interface does it: a snapshot, the stream's row and the element, for each question."""
        for element in elements:
            with self._replica.read() as snapshot:
                row = existing_row(snapshot, "groups/all")
                assert contains(snapshot, row, "members", element)

    def _note(self, kind: str, work: Callable[[], object]) -> None:
        synced = self._synced
        seconds = timed(work)
        self.seconds[kind].append(seconds - (self._synced - synced))


def growth(directory: Path) -> Iterator[Figure]:
    """Write and read cost as the log grows over a fixed number of streams, against the floor at the same size."""
    store = directory / "growing"
    written = 0
    for size in GROWTH:
        replica = open_replica(store)
        fill(replica, size - written, GROWTH_STREAMS, seed=size)
        written = size
        memory = resident_bytes()
        replica.close()
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # this process's memory is the replica's alone
            for per_commit, count in PER_COMMIT.items():
                appended = apart.submit(measure_append, directory, store, GROWTH_STREAMS, per_commit, count).result()
                yield replace(appended, name=f"append, {per_commit:,} a commit, at {size:,} events")
            yield apart.submit(_measure_reads, store, GROWTH_STREAMS, size).result()
        yield Figure(f"resident memory at {size:,} events", memory / 1e6, "MB")


def _measure_reads(store: Path, streams: int, size: int) -> Figure:
    replica = open_replica(store)
    rng = random.Random(3)
    names = [f"users/{rng.randrange(streams):07}" for _ in range(20_000)]
    seconds, bare = _by_turns(
        lambda: timed(lambda: list(map(partial(_resolve, replica), names))),
        lambda: timed(lambda: list(map(partial(_get, replica), names))),
        repeats=READ_REPEATS,
    )
    replica.close()
    return Figure(f"resolve at {size:,} events", len(names) / seconds, "reads/s", len(names) / bare)


def _get(replica: Replica, name: str) -> None:
    with replica.store.env.begin(db=replica.store.dbs["streams"]) as transaction:
        assert transaction.get(name.encode()) is not None


def _resolve(replica: Replica, name: str) -> None:
    with replica.read() as snapshot:
        resolve_stream(snapshot, name)


def resident_bytes() -> int:
    """This process's memory that is not a mapped file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
