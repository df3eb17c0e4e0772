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
from node.bench.processes import HOST, atoll, free_port, shows_all_it_has, stand_in, wait_until
from node.bench.workload import NAME, NOW, fill, open_replica
from replication.exchange import claims, lacking
from replication.messages import Digest
from replication.replica import Arrival
from replication.store import Store

EVENTS, STREAMS = 1_000_000, 200_000
LAG_RATES = (100, 1_000)
LAG_S = 10.0
LAG_STREAMS = 10_000


def catch_up(directory: Path) -> Iterator[Figure]:
    """A new region takes in a million events of another's; the floor is the bare rows of that."""
    replica = open_replica(directory / "eu")
    fill(replica, EVENTS, STREAMS)
    replica.close()
    two, five = _floors(directory)
    first, second = free_port(), free_port()
    with atoll(directory, "eu", first) as eu:
        wait_until(shows_all_it_has, eu)
        with atoll(directory, "us", second, "--peer", eu) as us:
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
            target.turn([Arrival(transactions)], NOW)
            seconds += replay(empty, turns)
            seconds_five += replay(empty_five, list(map(five_rows.spread, turns)))
            turns.clear()
    source.close()
    target.close()
    return seconds, seconds_five


def lag(directory: Path) -> Iterator[Figure]:
    """From the answer to a write in one region until a follower in another has it, while clients write.

    The floor is a bare durable write of the same client's, at the same pace: an event that reaches another region is
    sent there and synced, whatever else.
    """
    bare = {rate: _bare_writes(directory / f"bare-{rate}", rate) for rate in LAG_RATES}
    first, second = free_port(), free_port()
    with (
        atoll(directory, "eu", first, "--peer", f"http://{HOST}:{second}") as eu,
        atoll(directory, "us", second, "--peer", f"http://{HOST}:{first}") as us,
    ):
        wait_until(_hears_its_peers, eu, us)
        for rate in LAG_RATES:
            cuts, floor = quantiles(measure_lag(eu, us, rate), n=100), quantiles(bare[rate], n=100)
            for part in (50, 99):
                what = f"replication lag at {rate:,} writes/s, p{part}"
                yield Figure(what, cuts[part - 1] * 1000, "ms", floor[part - 1] * 1000)


def measure_lag(written: str, followed: str, rate: int) -> list[float]:
    """Seconds from each answer to the event's arrival on the other side's stream of changes; below 0 counts as 0."""
    arrived: dict[str, float] = {}
    ready, over = threading.Event(), threading.Event()
    follower = threading.Thread(target=_follow, args=(followed, arrived, ready, over), daemon=True)
    follower.start()
    ready.wait(10)
    answered = {answer.json()["dot"]: at for answer, _, at in _writes_at(written, rate)}
    deadline = time.monotonic() + 10
    while not answered.keys() <= arrived.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    over.set()
    assert answered.keys() <= arrived.keys(), "writes did not arrive"
    return [max(0.0, arrived[dot] - at) for dot, at in answered.items()]


def _bare_writes(directory: Path, rate: int) -> list[float]:
    """How long each of a client's writes takes where only the rows of an event are put. Units: seconds."""
    replica = open_replica(directory)
    fill(replica, LAG_STREAMS, LAG_STREAMS)
    replica.close()
    port = free_port()
    with stand_in("bare", directory, port):
        return [at - asked for _, asked, at in _writes_at(f"http://{HOST}:{port}", rate)]


def _writes_at(url: str, rate: int) -> Iterator[tuple[httpx.Response, float, float]]:
    """Write so many times a second, as far as this client keeps up: each answer, when it was asked for, and when it
    came."""
    rng = random.Random(rate)
    with httpx.Client(trust_env=False, timeout=30) as client:
        began = time.perf_counter()
        for number in range(int(rate * LAG_S)):
            due = began + number / rate
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            body = {"set": {"displayName": NAME, "revision": number}}
            asked = time.perf_counter()
            answer = client.post(f"{url}/streams/users/{rng.randrange(LAG_STREAMS)}", json=body)
            yield answer, asked, time.perf_counter()
            if due + LAG_S < time.perf_counter():
                break


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
