"""A directory's history into three real processes: every region ends where the history does, whatever happened.

The histories: one made here; the start of a real one, where it lies beside the project; all of that one with
ATOLL_SOAK=1 (`make soak`).
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.end_to_end.cluster import REGIONS, ROOT, Cluster, running

DATA = ROOT.parent / "shared" / "data"
REAL, FINAL = DATA / "kubernetes-directory.ndjson", DATA / "kubernetes-directory.final.json"
SOAK = "ATOLL_SOAK" in os.environ

Event = dict[str, Any]


def made(count: int) -> list[Event]:
    """A history of users and groups whose every event follows on the one before it on its stream."""
    rng = random.Random(5)
    events: list[Event] = []
    for place in range(count):
        event: Event = {"region": rng.choice(REGIONS), "at": f"2020-01-01T00:00:{place % 60:02}Z", "commit": "x"}
        if rng.random() < 0.4:
            event |= {"stream": f"users/{rng.randrange(20)}", "set": {"name": rng.choice(["a", "é", None])}}
        else:
            kind = rng.choice(["add", "add", "remove"])
            members = rng.sample([f"m{number}" for number in range(9)], 2)
            event |= {"stream": f"groups/{rng.randrange(6)}", kind: {"members": members}}
        if rng.random() < 0.05:
            event = {"region": event["region"], "stream": event["stream"], "delete": True}
        events.append(event)
    return events


def end_of(events: list[Event]) -> dict[str, Any]:
    """Where a history ends, worked out one event after the other."""
    streams: dict[str, Any] = {}
    for event in events:
        state = streams.setdefault(event["stream"], {"registers": {}, "sets": {}})
        if event.get("delete"):
            streams[event["stream"]] = {"registers": {}, "sets": {}}
        state["registers"].update(event.get("set", {}))
        for field, elements in event.get("add", {}).items():
            state["sets"][field] = set(state["sets"].get(field, ())) | set(elements)
        for field, elements in event.get("remove", {}).items():
            state["sets"][field] = set(state["sets"].get(field, ())) - set(elements)
    answers: dict[str, Any] = {}
    for stream, state in streams.items():
        registers = {field: value for field, value in state["registers"].items() if value is not None}
        sets = {field: sorted(members) for field, members in state["sets"].items() if members}
        if registers or sets:
            answers[stream] = {"registers": registers, "sets": sets}
    return answers


def history(name: str) -> tuple[list[Event], dict[str, Any]]:
    """A history and its end."""
    if name == "made":
        events = made(200)
        return events, end_of(events)
    if not REAL.exists():
        pytest.skip("the real directory's history does not lie beside the project")
    events = [json.loads(line) for line in REAL.read_text().splitlines()]
    if not SOAK:
        events = events[:400]
        return events, end_of(events)
    final = json.loads(FINAL.read_text())
    assert end_of(events) == {
        stream: {"registers": answer.get("registers", {}), "sets": answer.get("sets", {})}
        for stream, answer in final.items()
    }
    return events, end_of(events)


def write_file(directory: Path, events: list[Event]) -> Path:
    file = directory / "history.ndjson"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    return file


async def check_end(cluster: Cluster, events: list[Event], end: dict[str, Any]) -> None:
    heads = await cluster.settle()
    assert sum(seq for seq, _ in heads.values()) == len(events), "every event once, whatever was tried again"
    for region in REGIONS:
        assert await cluster.answers(region) == end


@pytest.mark.parametrize("name", ["made", "real"])
@pytest.mark.parametrize("max_in_flight", [1, 64])
async def test_every_region_ends_where_the_history_does(tmp_path: Path, name: str, max_in_flight: int) -> None:
    events, end = history(name)
    file = write_file(tmp_path, events)
    async with running(tmp_path) as cluster:
        printed = await cluster.load(file, max_in_flight)
        print(f"{name}, {max_in_flight} in flight: {printed}", end="")
        assert printed.startswith(f"{len(events)} events loaded")
        await check_end(cluster, events, end)
        if name == "made":
            await cluster.load(file, max_in_flight)
            await check_end(cluster, events, end)


async def test_kills_and_a_cut_during_the_load_lose_nothing(tmp_path: Path) -> None:
    events, end = history("real" if SOAK else "made")
    file = write_file(tmp_path, events)
    pause = 10.0 if SOAK else 0.7
    async with running(tmp_path) as cluster:

        async def trouble() -> None:
            cluster.cut("ap", True)
            for _ in range(3):
                await trio.sleep(pause)
                cluster.kill("us")
                await trio.sleep(0.3)
                await cluster.start("us")
            cluster.cut("ap", False)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trouble)
            print(await cluster.load(file, 8), end="")
        await check_end(cluster, events, end)
