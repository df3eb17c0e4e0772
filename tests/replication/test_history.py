"""A stream's own events, from any place on, whatever lies between its milestones; and at what cost."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from crdt.dot import Dot
from replication import batch, history, log, verify
from replication.history import BEGINNING, Order, in_order, order_of
from replication.limits import MILESTONE_EVENTS
from replication.queries import existing_row, stream_log
from replication.snapshot import Snapshot
from replication.tables import LogRow
from tests.helpers import Node
from tests.replication.test_properties import cluster, converge, live, randoms

Make = Callable[..., Node]


@contextmanager
def milestones_every(events: int) -> Iterator[None]:
    with ExitStack() as patches:
        for module in (batch, history, log, verify):
            patches.enter_context(patch.object(module, "MILESTONE_EVENTS", events))
        yield


@given(randoms, st.integers(5, 60), st.integers(1, 5))
def test_events_come_in_order_from_any_place_on(rng: random.Random, steps: int, every: int) -> None:
    with milestones_every(every), cluster(3) as nodes:
        live(rng, nodes, steps)
        converge(nodes, rng)
        for node in nodes:
            with node.replica.read() as snapshot:
                for stream, held in node.events().items():
                    row = snapshot.stream(stream)
                    assert row is not None
                    orders = sorted(event.order for event in held)
                    assert (row.events, row.created) == (len(orders), orders[0][0])
                    for after in places(orders):
                        found = [order_of(event) for event in in_order(snapshot, row, after)]
                        assert found == [order for order in orders if order > after]


def places(orders: list[Order]) -> list[Order]:
    """At each event, right before it, and beyond them all."""
    beside = [(timestamp, "", 0) for timestamp, _, _ in orders]
    return [BEGINNING, *orders, *beside, (orders[-1][0] + 1, "", 0)]


@contextmanager
def counted(snapshot: Snapshot) -> Iterator[list[Dot]]:
    """The rows of the log that are looked at."""
    looked_at: list[Dot] = []
    event = snapshot.event

    def note(dot: Dot) -> LogRow | None:
        looked_at.append(dot)
        return event(dot)

    with patch.object(snapshot, "event", note):
        yield looked_at


def test_a_page_of_a_long_history_costs_a_page(node: Make) -> None:
    eu, us = node("eu"), node("us")
    us.write("s", set={"n": 0})
    eu.pull_all(us)
    for number in range(40 * MILESTONE_EVENTS):
        eu.write("s", set={"n": number})
    us.pull_all(eu)
    us.write("s", set={"n": 1})  # its first and its last event have all of the others between them
    eu.pull_all(us)
    with eu.replica.read() as snapshot:
        row = existing_row(snapshot, "s")
        everything = [order_of(event) for event in in_order(snapshot, row)]
        assert len(everything) == row.events == 40 * MILESTONE_EVENTS + 2
        for place in (0, 1, 1_000, len(everything) - 12):
            with counted(snapshot) as looked_at:
                page, _ = stream_log(snapshot, "s", everything[place], 10)
            assert [order_of(event) for event in page] == everything[place + 1 : place + 11]
            assert len(looked_at) < 4 * MILESTONE_EVENTS + 40
        with counted(snapshot) as looked_at:
            assert len(list(islice(in_order(snapshot, row), 1_000))) == 1_000
        assert len(looked_at) < 2 * 1_000 + 4 * MILESTONE_EVENTS + 40
