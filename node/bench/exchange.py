"""Between two regions: catching up on a long log, and how far a peer lags behind while clients write."""

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from node.bench import five_rows
from node.bench.figure import Figure
from node.bench.floor import recording, replay, timed
from node.bench.processes import HOST, atoll, free_port, wait_until
from node.bench.workload import NAME, NOW, fill, open_replica
from replication.admission import decode_transaction
from replication.exchange import claims, lacking
from replication.messages import Digest
from replication.replica import Arrival
from replication.store import Store

EVENTS, STREAMS = 1_000_000, 200_000
LAG_RATES = (100, 1_000)
LAG_S = 10.0


def catch_up(directory: Path) -> Iterator[Figure]:
    """A new region takes in a million events of another's; the floor is the bare rows of that."""
    replica = open_replica(directory / "eu")
    fill(replica, EVENTS, STREAMS)
    replica.close()
    two, five = _floors(directory)
    first, second = free_port(), free_port()
    with atoll(directory, "eu", first) as eu, atoll(directory, "us", second, "--peer", eu) as us:
        seconds = timed(lambda: wait_until(lambda told: told["events"] >= EVENTS, us))
    what = f"catch-up, {EVENTS:,} events on {STREAMS:,} streams"
    yield Figure(what, EVENTS / seconds, "events/s", EVENTS / two, {five_rows.NAME: EVENTS / five})


def _hears_its_peers(told: dict[str, Any]) -> bool:
    """A node that started first may try again only a while after its peer is up."""
    return all(peer["reachable"] for peer in told["peers"])


def _floors(directory: Path) -> tuple[float, float]:
    """The rows that a region which takes in all of it writes, put bare; and five for each event. Units: seconds."""
    source, target = open_replica(directory / "eu"), open_replica(directory / "rows", "us")
    empty, empty_five = directory / "floor", directory / "five"
    Store(empty).close()
    Store(empty_five).close()
    seconds = seconds_five = 0.0
    with recording() as turns, source.read() as snapshot:
        while True:
            held = Digest(claims(target.mirror.heads), NOW)
            transactions = lacking(snapshot, held, 1 << 20)
            if not transactions:
                break
            target.turn([Arrival([decode_transaction(one) for one in transactions])], NOW)
            seconds += replay(empty, turns)
            seconds_five += replay(empty_five, list(map(five_rows.spread, turns)))
            turns.clear()
    source.close()
    target.close()
    return seconds, seconds_five


def lag(directory: Path) -> Iterator[Figure]:
    """From the answer to a write in one region until a follower in another has it, while clients write."""
    first, second = free_port(), free_port()
    with (
        atoll(directory, "eu", first, "--peer", f"http://{HOST}:{second}") as eu,
        atoll(directory, "us", second, "--peer", f"http://{HOST}:{first}") as us,
    ):
        wait_until(_hears_its_peers, eu, us)
        for rate in LAG_RATES:
            lags = measure_lag(eu, us, rate)
            cuts = quantiles(lags, n=100)
            yield Figure(f"replication lag at {rate:,} writes/s, p50", cuts[49] * 1000, "ms")
            yield Figure(f"replication lag at {rate:,} writes/s, p99", cuts[98] * 1000, "ms")


def measure_lag(written: str, followed: str, rate: int) -> list[float]:
    """Seconds from each answer to the event's arrival on the other side's stream of changes; below 0 counts as 0."""
    arrived: dict[str, float] = {}
    ready, over = threading.Event(), threading.Event()
    follower = threading.Thread(target=_follow, args=(followed, arrived, ready, over), daemon=True)
    follower.start()
    ready.wait(10)
    answered: dict[str, float] = {}
    rng = random.Random(rate)
    with httpx.Client(trust_env=False, timeout=30) as client:
        began = time.perf_counter()
        for number in range(int(rate * LAG_S)):
            due = began + number / rate
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            body = {"set": {"displayName": NAME, "revision": number}}
            answer = client.post(f"{written}/streams/users/{rng.randrange(10_000)}", json=body)
            answered[answer.json()["dot"]] = time.perf_counter()
            if due + LAG_S < time.perf_counter():
                break  # the client itself cannot keep up
    deadline = time.monotonic() + 10
    while not answered.keys() <= arrived.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    over.set()
    assert answered.keys() <= arrived.keys(), "writes did not arrive"
    return [max(0.0, arrived[dot] - at) for dot, at in answered.items()]


def _follow(url: str, arrived: dict[str, float], ready: threading.Event, over: threading.Event) -> None:
    headers = {"accept": "application/x-ndjson"}
    with httpx.stream("GET", f"{url}/changes?after=now", headers=headers, timeout=60, trust_env=False) as answer:
        for line in answer.iter_lines():
            now = time.perf_counter()
            item = json.loads(line) if line else {}
            if "dot" in item:
                arrived[item["dot"]] = now
            ready.set()
            if over.is_set():
                return
