"""What a set costs at 200 members and at 200,000: add, remove and contains, 1,000 a commit, sync subtracted.

Run it with `make sets`. Both stores are measured in turn, in the same process; the figures are medians of the rounds,
and what counts is the ratio.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from crdt.operations import Add, Operation, Remove
from replication.command import Command, Draft, Written
from replication.queries import contains, existing_row
from replication.replica import Replica

SMALL, LARGE = 200, 200_000
BATCH, ROUNDS = 1_000, 9
NOW = 1_700_000_000_000
Kind = Callable[[str, str], Operation]


class TimedCommit:
    """A write transaction, or the environment that begins it, that adds up the time of its commits."""

    spent = 0.0

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def begin(self, **options: Any) -> Any:
        transaction = self._inner.begin(**options)
        return TimedCommit(transaction) if options.get("write") else transaction

    def commit(self) -> None:
        began = time.perf_counter()
        self._inner.commit()
        TimedCommit.spent += time.perf_counter() - began


class Measured:
    """One set of a size, and the seconds that each kind of round took."""

    def __init__(self, directory: Path, size: int) -> None:
        self.size = size
        self.rng = random.Random(size)
        self.replica = Replica.open(directory, region="eu", cluster="bench", secret=b"s" * 32)
        self.members = [self.element() for _ in range(size)]
        for start in range(0, size, 5_000):
            self.turn([tuple(Add("members", one) for one in self.members[start : start + 5_000])])
        self.replica.store.env = TimedCommit(self.replica.store.env)  # type: ignore[assignment]  # it only adds up time
        self.seconds: dict[str, list[float]] = {"add": [], "remove": [], "contains": []}

    def element(self) -> str:
        return f"{self.rng.getrandbits(80):024x}"

    def turn(self, events: list[tuple[Operation, ...]]) -> None:
        outcomes = self.replica.turn([Command((Draft("groups/all", event),)) for event in events], NOW)
        assert all(isinstance(outcome, Written) for outcome in outcomes)

    def round(self) -> None:
        fresh = [self.element() for _ in range(BATCH)]
        self.timed("add", lambda: self.turn([(Add("members", one),) for one in fresh]))
        self.timed(
            "contains", lambda: self.look_up(fresh[: BATCH // 2] + [self.element() for _ in range(BATCH // 2)])
        )
        self.timed("remove", lambda: self.turn([(Remove("members", one),) for one in fresh]))

    def look_up(self, elements: list[str]) -> None:
        """As the interface does it: a snapshot, the stream's row and the element, for each question."""
        found = 0
        for element in elements:
            with self.replica.read() as snapshot:
                row = existing_row(snapshot, "groups/all")
                found += contains(snapshot, row, "members", element)
        assert found == BATCH // 2
        assert row.sets["members"] == self.size + BATCH

    def timed(self, kind: str, work: Callable[[], None]) -> None:
        began, synced = time.perf_counter(), TimedCommit.spent
        work()
        self.seconds[kind].append(time.perf_counter() - began - (TimedCommit.spent - synced))


def main() -> int:
    """Measure, print, and say whether the ratio is within 1.3."""
    with tempfile.TemporaryDirectory() as directory:
        small, large = Measured(Path(directory) / "small", SMALL), Measured(Path(directory) / "large", LARGE)
        for _ in range(ROUNDS):
            small.round()
            large.round()
        print(f"microseconds each, {BATCH} a commit, sync subtracted, median of {ROUNDS} rounds")
        print(f"{'':10}{SMALL:>12,}{LARGE:>12,}{'ratio':>8}")
        worst = 0.0
        for kind in small.seconds:
            low, high = median(small.seconds[kind]) / BATCH * 1e6, median(large.seconds[kind]) / BATCH * 1e6
            worst = max(worst, high / low)
            print(f"{kind:10}{low:12.1f}{high:12.1f}{high / low:8.2f}")
        small.replica.close()
        large.replica.close()
    print(f"worst ratio {worst:.2f}: {'within' if worst <= 1.3 else 'beyond'} 1.3")
    return 0


if __name__ == "__main__":
    sys.exit(main())
