"""Streams of writes: `POST /ingest`, against the bare rows of as many events."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx

from node.bench import five_rows
from node.bench.figure import Figure
from node.bench.floor import copied, recording, replay, timed
from node.bench.processes import atoll, free_port
from node.bench.workload import commands, fill, lines, open_replica, write

STREAMS = (20_000, 200_000)
PAST, EVENTS, PER_COMMIT = 300_000, 100_000, 1_000
NDJSON = {"content-type": "application/x-ndjson", "prefer": "return=minimal"}


def ingest(directory: Path) -> Iterator[Figure]:
    """Events sent in one request, acknowledged when durable, against the same rows put bare."""
    for streams in STREAMS:
        home = directory / str(streams)
        home.mkdir()
        past = home / "past"
        replica = open_replica(past)
        fill(replica, PAST, streams)
        replica.close()
        floor, beside = measure_floors(home, past, streams)
        copied(past, home / "eu")
        body, port = lines(random.Random(2), EVENTS, streams), free_port()
        with atoll(home, "eu", port) as url, httpx.Client(timeout=600, trust_env=False) as client:
            seconds = timed(partial(_send, client, url, body))
        yield Figure(f"ingest, {streams:,} streams", EVENTS / seconds, "events/s", floor, {five_rows.NAME: beside})


def _send(client: httpx.Client, url: str, body: bytes) -> None:
    answer = client.post(f"{url}/ingest", content=body, headers=NDJSON)
    assert f'"written":{EVENTS}' in answer.text, answer.text[:300]


def measure_floors(home: Path, past: Path, streams: int) -> tuple[float, float]:
    """Events a second as bare rows, two and five each, in commits of the size that a stream of writes makes."""
    floor, replica = copied(past, home / "floor"), open_replica(copied(past, home / "rows"))
    rng = random.Random(2)
    with recording() as turns:
        for _ in range(EVENTS // PER_COMMIT):
            write(replica, commands(rng, PER_COMMIT, streams))
    replica.close()
    five = five_rows.spread_store(past, home / "five")
    return EVENTS / replay(floor, turns), EVENTS / replay(five, list(map(five_rows.spread, turns)))
