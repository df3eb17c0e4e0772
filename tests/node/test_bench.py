"""The benchmarks, made small: they run, their figures make sense, and the load they put on is answered."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import msgspec
import pytest
import trio

from node.bench import directory, embedded, exchange, five_rows, followers, http, idle, loader, memory, streams
from node.bench.figure import Figure, dump
from node.bench.floor import recording
from node.bench.loader import Load, Loaded
from node.bench.peers import PEERS, rates_beside
from node.bench.plot import series_of, svg
from node.bench.processes import HOST, atoll, free_port, stand_in
from node.bench.workload import FILL, NAME, command, fill, open_replica, write
from node.commands.application import run
from node.service import Node
from replication.limits import MILESTONE_EVENTS
from replication.store import Store
from replication.verify import verify

EMBEDDED = {
    "STREAMS": (50,), "PAST": 200, "PER_COMMIT": {8: 3}, "REPEATS": 2, "SIZES": (100, 200), "ROUNDS": 2, "PER_ROUND": 20,
    "GROWTH": (100, 200), "GROWTH_STREAMS": 50,
}  # fmt: skip


def test_a_ratio_says_how_close_a_figure_comes_to_its_floor() -> None:
    assert Figure("a", 50.0, "events/s", 100.0).ratio == 0.5
    assert Figure("a", 4.0, "ms", 2.0).ratio == 0.5
    assert Figure("a", 4.0, "ms").ratio is None
    shown = json.loads(dump([Figure("a", 1.0, "ms", 2.0, {"p": 3.0})]))
    assert shown == {"a": {"value": 1.0, "unit": "ms", "floor": 2.0, "ratio": 2.0, "peers": {"p": 3.0}}}


def test_a_walk_through_memory_comes_by_every_line_of_it() -> None:
    places, here, steps = memory.ring(8_192), 0, 0
    while steps == 0 or here != 0:
        here, steps = places[here], steps + 1
    assert steps == 8_192 / memory.LINE_BYTES
    assert memory.step_ns(8_192) > 0


def test_a_figure_stands_beside_what_peers_do_of_the_same_and_how() -> None:
    measured = {
        "A": {"write, 16 connections": 1.0, "catch-up (synced)": 2.0, "catch-up (not synced)": 3.0},
        "B": {"write, 64 connections": 4.0, "lag p50 ms": 5.0},
    }
    assert rates_beside("HTTP write, 16 connections", measured) == {"A": 1.0}
    assert rates_beside("HTTP write, 16 connections, p99", measured) == {}
    assert rates_beside("catch-up, 1,000 events", measured) == {"A (synced)": 2.0, "A (not synced)": 3.0}
    assert rates_beside("replication lag at 100 writes/s, p50", measured) == {"B": 5.0}
    assert rates_beside("replication lag at 1,000 writes/s, p50", measured) == {}


def test_figures_at_several_sizes_are_drawn() -> None:
    figures = [
        Figure(f"append, at {10**power:,} events", 1e5 / power, "events/s", 2e5 / power) for power in (3, 4, 5)
    ]
    series = series_of([*figures, Figure("memory at 10 events", 1.0, "MB")])
    assert list(series) == ["append", "append: floor"]
    drawn = ElementTree.fromstring(svg(series))  # our own
    assert sum(one.tag.endswith("polyline") for one in drawn.iter()) == 2


def test_five_rows_of_an_event_hold_what_its_two_do(workplace: Path) -> None:
    """And a store of them all of its past, though it was filled in several commits."""
    replica = open_replica(workplace / "past")
    fill(replica, FILL + 10, 7)
    with recording() as turns:
        write(replica, [command("users/0000003", 5), command("users/0000004", 6)])
    replica.close()
    [two] = turns
    five = dict(five_rows.spread(two))
    assert [len(rows) for rows in five.values()] == [2, 2, 2, 4, 2], "two prefixes have vectors among the streams"
    assert five[five_rows.LOG] == dict(two)["log"]
    assert all(NAME.encode() in cell for _, cell in five[five_rows.CELL])
    assert not any(NAME.encode() in row for _, row in five[five_rows.STREAM])
    assert {key for _, key in five[five_rows.INDEX]} == {key for key, _ in five[five_rows.LOG]}

    store = Store(five_rows.spread_store(workplace / "past", workplace / "five"))
    with store.env.begin() as transaction:
        counts = {table: transaction.stat(store.dbs[table])["entries"] for table in five}
    store.close()
    events = FILL + 12
    assert list(counts.values()) == [events, events, events, 7, 7]


def test_the_embedded_benchmarks_run_small(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in EMBEDDED.items():
        monkeypatch.setattr(embedded, name, value)
    for benchmark, beside in ((embedded.append, {five_rows.NAME}), (embedded.sets, set())):
        home = workplace / benchmark.__name__
        home.mkdir()
        figures = list(benchmark(home))
        assert figures
        assert all(figure.peers.keys() == beside for figure in figures)
        assert all(figure.value > 0 for figure in figures)
        assert all(figure.ratio for figure in figures)


def test_figures_are_printed_as_a_table_or_as_json_and_drawn(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in EMBEDDED.items():
        monkeypatch.setattr(embedded, name, value)
    at = ("--data", str(workplace))
    assert run(["bench", "growth", *at, "--json", "--plot", str(workplace / "growth.svg")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures
    assert all(one.keys() == {"value", "unit", "floor", "ratio", "peers"} for one in figures.values())
    assert all(one["value"] > 0 and (one["ratio"] or one["unit"] == "MB") for one in figures.values())
    assert ElementTree.parse(workplace / "growth.svg").getroot().tag.endswith("svg")  # our own
    assert run(["bench", "sets", *at]) == 0
    table = capsys.readouterr().out
    for said in ("ratio", "set add, 200 members (floor: 100)", "set contains, 200 members (floor: 100)"):
        assert said in table
    assert [one.name for one in workplace.iterdir()] == ["growth.svg"], "what was measured is gone"


def test_the_served_benchmarks_run_small(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, values in (
        (http, {"STREAMS": 200, "CONNECTIONS": (2,), "SECONDS": 0.3}),
        (streams, {"STREAMS": (50,), "PAST": 100, "EVENTS": 2_000}),
        (followers, {"COUNTS": (0, 3), "CONNECTIONS": 2}),
        (exchange, {"EVENTS": 2_000, "STREAMS": 100, "LAG_RATES": (50,), "LAG_S": 1.0}),
        (idle, {"ORIGINS": (2,), "SECONDS": 0.5, "BARE_REQUESTS": 50}),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    served = (
        http.writes,
        http.reads,
        http.others,
        streams.ingest,
        exchange.catch_up,
        exchange.lag,
        idle.idle,
        followers.followers,
    )
    for benchmark in served:
        home = workplace / f"{benchmark.__module__}.{benchmark.__name__}"
        home.mkdir()
        figures = list(benchmark(home))
        assert figures
        assert all(figure.value > 0 for figure in figures)


def test_a_server_in_straight_lines_leaves_a_store_that_verifies(workplace: Path) -> None:
    """What it does for a write is all that a write needs; and it says what a node says."""
    replica = open_replica(workplace / "eu")
    fill(replica, MILESTONE_EVENTS * 3, 3)
    replica.close()
    port = free_port()
    load = msgspec.structs.replace(http.write_load(port, 2), keys=3, seconds=0.3)
    with stand_in("straight", workplace / "eu", port):
        loaded = loader.run(load)
        told = httpx.post(f"http://{HOST}:{port}/streams/users/0000001", content=http.BODY, trust_env=False)
    assert loaded.rate > 0
    assert not loaded.unexpected
    report = verify(workplace / "eu")
    assert not report.problems
    assert report.events > MILESTONE_EVENTS * 3 + 1
    with atoll(workplace, "eu", port) as url:
        where = f"{url}/streams/users/0000001"
        shown = httpx.get(where, trust_env=False).json()
        like = httpx.post(where, content=http.BODY, headers=http.JSON, trust_env=False)
    assert shown["registers"] == {"displayName": NAME, "revision": 1}
    assert shown["token"] == told.json()["token"]
    assert told.json().keys() == like.json().keys()
    assert {"location", "etag", "content-type"} <= told.headers.keys() & like.headers.keys()


def test_the_load_counts_answers_that_were_not_expected(workplace: Path) -> None:
    port = free_port()
    with atoll(workplace, "eu", port):
        loaded: Loaded = loader.run(Load(HOST, port, 2, 0.3, "GET", "/streams/none"))
    assert loaded.rate > 0
    assert loaded.unexpected > 0


def test_what_is_no_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "frob"]) == 2
    assert "known are append" in capsys.readouterr().err
    assert run(["bench", "append", "--plot", "x.svg"]) == 2


def test_the_directory_s_benchmark_runs_small(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"USERS": 300, "GROUPS": 10, "MEMBERS_EACH": 3, "ASKED": 5, "SEARCHED": 5, "SLOW_ASKED": 3}
    for name, value in small.items():
        monkeypatch.setattr(directory, name, value)
    submit = Node.submit

    async def submit_late(node: Node, *arguments: Any) -> Any:
        await trio.sleep(0.3)  # by then so few streams are in every view
        return await submit(node, *arguments)

    monkeypatch.setattr(Node, "submit", submit_late)
    figures = {figure.name: figure for figure in directory.directory(workplace)}
    assert len(figures) == 10
    assert all(figure.value > 0 for figure in figures.values())


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_installed_is_measured(name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = PEERS[name]
    if not peer.installed():
        pytest.skip(f"{name} is not installed")
    for constant, value in {
        "SECONDS": 1, "LAG_WRITES": 5, "CATCH_UP_EVENTS": 500, "CATCH_UP_ROWS": 160,
        "CATCH_UP_SYNCED_ROWS": 160, "CATCH_UP_DOCUMENTS": 1_000, "COPY_ROWS": 500, "BATCHES": {64: 2}, "SETS": 500,
    }.items():  # fmt: skip
        if hasattr(peer, constant):
            monkeypatch.setattr(peer, constant, value)
    rates = peer.measure(workplace)
    assert rates
    assert all(rate > 0 for rate in rates.values())
