"""What a snapshot answers: pages that end and go on, the past, the log by prefix, changes; bounds on each."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.event import Event
from crdt.reference import resolve
from crdt.version_vector import covers
from replication import queries
from replication.command import Command, Draft
from replication.errors import TooLarge, UnknownStream
from replication.event import Entry
from replication.history import BEGINNING, Order
from replication.queries import (
    changes,
    contains,
    existing_row,
    fitting,
    inlined,
    list_conflicts,
    list_streams,
    page_set,
    prefix_log,
    resolve_past,
    resolve_stream,
    stream_log,
)
from replication.snapshot import Snapshot
from tests.helpers import NOW, Node, later_event, operations
from tests.replication.test_properties import STREAMS, cluster, converge, live, randoms

Make = Callable[..., Node]


@given(randoms, st.integers(5, 40), st.integers(1, 7))
def test_every_page_and_every_past_equal_the_definition(rng: random.Random, steps: int, limit: int) -> None:
    with cluster(3) as nodes:
        live(rng, nodes, steps)
        converge(nodes, rng)
        logs = []
        for node in nodes:
            events = node.events()
            everything = sorted((event.order, stream) for stream, held in events.items() for event in held)
            with node.replica.read() as snapshot:
                logs.append(_log(partial(prefix_log, snapshot, ""), limit))
                assert [order for order, _ in logs[-1]] == [order for order, _ in everything]
                for stream in events:
                    own = _log(partial(stream_log, snapshot, stream), limit)
                    assert [order for order, _ in own] == sorted(event.order for event in events[stream])
                    _check_past(snapshot, stream, events[stream], rng)
                _check_changes(snapshot, node, rng)
        assert logs[0] == logs[1] == logs[2]


def _log(read: Callable[..., tuple[list[Entry], Order | None]], limit: int) -> list[tuple[Order, str]]:
    found: list[tuple[Order, str]] = []
    after: Order | None = BEGINNING
    while after is not None:
        page, after = read(after=after, limit=limit)
        assert all(entry.header.index for entry in page[limit:]), "more than a transaction's rest"
        found += [((e.header.timestamp, e.header.origin, e.header.seq), e.header.stream) for e in page]
    return found


def _check_past(snapshot: Snapshot, stream: str, events: list[Event], rng: random.Random) -> None:
    some = rng.choice(events).dot
    vector = {some.origin: rng.randint(1, some.seq)}
    timestamp = rng.choice(events).timestamp
    questions: list[tuple[list[Event], dict[str, Any]]] = [
        ([event for event in events if covers(vector, event.dot)], {"vector": vector}),
        ([event for event in events if event.timestamp <= timestamp], {"timestamp": timestamp}),
    ]
    for held, asked in questions:
        expected = resolve(held)
        if expected.exists:
            reached, answer = resolve_past(snapshot, stream, **asked)
            assert answer == expected
            assert all(covers(reached, event.dot) for event in held)
        else:
            with pytest.raises(UnknownStream):
                resolve_past(snapshot, stream, **asked)


def _check_changes(snapshot: Snapshot, node: Node, rng: random.Random) -> None:
    after = {origin: rng.randint(0, seq) for origin, seq in node.replica.vector.items()}
    dots = [event.header.dot for event, _ in changes(snapshot, "", after)]
    assert set(dots) == {e.dot for held in node.events().values() for e in held if not covers(after, e.dot)}
    for stream in STREAMS:
        own = [event.header.dot for event, inside in changes(snapshot, stream, after) if inside]
        assert own == [event.header.dot for event, _ in changes(snapshot, "", after) if event.header.stream == stream]


def test_pages_of_sets_and_lists_end_at_their_bounds(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    eu = node("eu")
    eu.write("a", add={"m": [f"{number:03}" for number in range(20)]})
    eu.write("a", delete=True)
    eu.write("a", add={"m": ["005", "zzz"]})
    for number in range(9):
        eu.write(f"p/{number}", set={"n": 1})
        eu.write(f"p/{number}", delete=True)
    eu.write("p/9", set={"n": 1})
    with eu.replica.read() as snapshot:
        row = existing_row(snapshot, "a")
        assert page_set(snapshot, row, "m", "", 10) == (["005", "zzz"], None)
        assert page_set(snapshot, row, "none", "", 10) == ([], None)
        assert page_set(snapshot, row, "m", "", 1)[0] == ["005"]
        assert contains(snapshot, row, "m", "005")
        assert not contains(snapshot, row, "m", "006")
        assert not contains(snapshot, row, "none", "006")
        monkeypatch.setattr(queries, "SCAN_ROWS_MAX", 4)
        page, following = list_streams(snapshot, "p/", "", 10)
        assert page == []
        assert following is not None
        found: list[Any] = []
        while following is not None:
            page, following = list_streams(snapshot, "p/", following, 10)
            found += page
        assert [name for name, _ in found] == ["p/9"]
        assert len(prefix_log(snapshot, "none/", BEGINNING, 10)[0]) == 0
        assert prefix_log(snapshot, "none/", BEGINNING, 10)[1] is not None


def test_a_page_of_much_ends_by_its_bytes(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    eu = node("eu")
    for number in range(4):
        eu.write("s", set={"n": "x" * 1000, "i": number})
    monkeypatch.setattr(queries, "PAGE_BYTES_MAX", 1500)
    with eu.replica.read() as snapshot:
        assert len(stream_log(snapshot, "s", BEGINNING, 100)[0]) == 2
        assert len(prefix_log(snapshot, "", BEGINNING, 100)[0]) == 2
        assert fitting(snapshot, ["s"] * 9) == 2
        assert fitting(snapshot, ["none"] * 9) == 9
        assert fitting(snapshot, []) == 0
    for name in "tuv":
        eu.write(name, set={"n": "x" * 1000})
    with eu.replica.read() as snapshot:
        assert [name for name, _ in list_streams(snapshot, "", "", 100)[0]] == ["s", "t"]
        assert list_streams(snapshot, "", "u", 100) == (
            [("u", {eu.replica.origin: 6}), ("v", {eu.replica.origin: 7})],
            None,
        )


@given(st.dictionaries(st.text(max_size=2), st.integers(0, 40)))
def test_what_is_listed_of_sets_is_bounded(counts: dict[str, int]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(queries, "SET_INLINE_MAX", 20)
        patched.setattr(queries, "SETS_INLINE_MAX", 50)
        shown = inlined(counts)
    assert sum(counts[field] for field in shown) <= 50
    assert all(0 < counts[field] <= 20 for field in shown)
    for field in {field for field, count in counts.items() if 0 < count <= 20} - shown:
        assert all(counts[one] <= counts[field] for one in shown), "small ones come first"
        assert sum(counts[one] for one in shown) + counts[field] > 50, "there is no room"


def test_conflicts_are_listed_while_they_live(node: Make) -> None:
    eu = node("eu")
    for stream in ("a", "b/c", "b/d", "e"):
        eu.write(stream, set={"n": 1}, context={})
        eu.write(stream, set={"n": 2}, context={})
    with eu.replica.read() as snapshot:
        assert list_conflicts(snapshot, "", "", 3) == (["a", "b/c", "b/d"], "e")
        assert list_conflicts(snapshot, "", "e", 3) == (["e"], None)
        assert list_conflicts(snapshot, "b/", "", 3) == (["b/c", "b/d"], None)
    eu.write("b/c", set={"n": 3})
    eu.write("b/d", delete=True)
    with eu.replica.read() as snapshot:
        assert list_conflicts(snapshot, "", "", 9) == (["a", "e"], None)


def test_too_much_past_is_refused(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    eu = node("eu")
    for number in range(4):
        eu.write("s", set={"n": number})
    with eu.replica.read() as snapshot:
        size = sum(event.encoded.size for event in stream_log(snapshot, "s", BEGINNING, 9)[0])
    for bound, value in (("TIME_TRAVEL_EVENTS_MAX", 4), ("TIME_TRAVEL_BYTES_MAX", size)):
        monkeypatch.setattr(queries, bound, value)
        with eu.replica.read() as snapshot:
            assert resolve_past(snapshot, "s", timestamp=(NOW + 9) << 16)[1].registers == {"n": 3}
        with monkeypatch.context() as patched, eu.replica.read() as snapshot:
            patched.setattr(queries, bound, value - 1)
            with pytest.raises(TooLarge):
                resolve_past(snapshot, "s", timestamp=(NOW + 9) << 16)


def test_many_changes_of_one_stream_are_met_in_the_log(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    eu = node("eu")
    for number in range(6):
        eu.run(Command((Draft("s", operations(set={"n": number})), Draft("t", operations(set={"n": number})))))
    monkeypatch.setattr(queries, "GATHER_ROWS_MAX", 3)
    with eu.replica.read() as snapshot:
        assert [event.header.seq for event, inside in changes(snapshot, "s", {}) if inside] == [1, 3, 5, 7, 9, 11]
        assert list(changes(snapshot, "none", {eu.replica.origin: 12})) == []


def test_changes_of_a_stream_are_not_those_of_what_is_called_alike(
    node: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    eu = node("eu")
    for stream in ("s", "s2", "s/below", "s", "s2"):
        eu.write(stream, set={"n": 1})
    monkeypatch.setattr(queries, "GATHER_ROWS_MAX", 1)
    with eu.replica.read() as snapshot:
        for name, seqs in (("s", [1, 4]), ("s/", [3]), ("", [1, 2, 3, 4, 5])):
            assert [event.header.seq for event, inside in changes(snapshot, name, {}) if inside] == seqs


def test_what_a_later_version_wrote_is_listed(node: Make) -> None:
    eu = node("eu")
    eu.apply([(later_event("s"),)])
    with eu.replica.read() as snapshot:
        assert [name for name, _ in list_streams(snapshot, "", "", 9)[0]] == ["s"]


def test_a_page_of_a_set_looks_at_so_many_that_are_gone(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.batch.PURGE_ROWS_MAX", 1)  # what a delete left is cleared away slowly
    eu = node("eu")
    eu.write("s", add={"m": [f"{number:03}" for number in range(50)]})
    eu.write("s", delete=True)
    eu.write("s", add={"m": ["049"]})
    monkeypatch.setattr(queries, "SCAN_ROWS_MAX", 10)
    with eu.replica.read() as snapshot:
        row = existing_row(snapshot, "s")
        page, following = page_set(snapshot, row, "m", "", 5)
        assert page == []
        while following is not None:
            more, following = page_set(snapshot, row, "m", following, 5)
            page += more
        assert page == ["049"]


def test_streams_that_never_were(node: Make) -> None:
    with node("eu").replica.read() as snapshot:
        for read in (
            lambda: resolve_stream(snapshot, "s"),
            lambda: stream_log(snapshot, "s", BEGINNING, 1),
            lambda: resolve_past(snapshot, "s", timestamp=0),
        ):
            with pytest.raises(UnknownStream):
                read()
        assert list(changes(snapshot, "s", {})) == []
