"""What is written: events of about 200 bytes on the users of a directory, drawn from a seed."""

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from crdt.operations import Set
from replication.command import Command, Draft, Written
from replication.replica import Replica

NOW = 1_700_000_000_000
SECRET = b"benchmark".ljust(32, b".")
FILL = 4_000
NAME = "x" * 110


def stream(rng: random.Random, streams: int) -> str:
    return f"users/{rng.randrange(streams):07}"


def command(name: str, number: int) -> Command:
    return Command((Draft(name, (Set("displayName", NAME), Set("revision", number))),))


def commands(rng: random.Random, count: int, streams: int) -> list[Command]:
    return [command(stream(rng, streams), number) for number in range(count)]


def lines(rng: random.Random, count: int, streams: int) -> bytes:
    """The same as NDJSON."""
    made = ({"stream": stream(rng, streams), "set": {"displayName": NAME, "revision": n}} for n in range(count))
    return b"".join(json.dumps(line).encode() + b"\n" for line in made)


def open_replica(directory: Path, region: str = "eu") -> Replica:
    return Replica.open(directory, region=region, cluster="bench", secret=SECRET)


def write(replica: Replica, batch: list[Command]) -> None:
    """Write them in one commit."""
    outcomes = replica.turn(batch, NOW)
    assert all(isinstance(outcome, Written) for outcome in outcomes), "a benchmark's writes are never refused"


def fill(replica: Replica, events: int, streams: int, seed: int = 1) -> None:
    """Give the store a past: every stream once, then events drawn from the seed."""
    rng = random.Random(seed)
    names: Iterable[str] = (f"users/{number:07}" for number in range(min(streams, events)))
    made = (command(name, 0) for name in names)
    drawn = (command(stream(rng, streams), number) for number in range(max(0, events - streams)))
    batch: list[Command] = []
    for one in _chain(made, drawn):
        batch.append(one)
        if len(batch) == FILL:
            write(replica, batch)
            batch = []
    if batch:
        write(replica, batch)


def _chain(*parts: Iterable[Command]) -> Iterator[Command]:
    for part in parts:
        yield from part
