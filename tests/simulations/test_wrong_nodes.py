"""Whole runs with a node that is wrong: what only shows in a world, most of it once all is well, is said."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from node.gossip import Gossip
from node.interface.listings import resolve_or_problem
from node.service import Node
from replication.errors import TooLarge
from replication.snapshot import Snapshot
from simulations.plans.case import load
from simulations.plans.plan import Operation, Plan
from simulations.world.run import simulate
from tests.simulations.two_regions import TWO, write

SEEDS = Path(__file__).parents[1] / "seeds"


def refuse(*arguments: object, **options: object) -> None:
    raise TooLarge("of nothing at all")


def said_of(plan: Plan) -> list[tuple[str, str, str]]:
    return [(one.checker, one.region, one.detail) for one in simulate(plan).violations]


def test_a_region_that_takes_no_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.replica.write", refuse)
    first, second, *_ = said_of(TWO)
    assert (first[:2], second[:2]) == (("liveness", "eu"), ("liveness", "us"))
    assert "took no write" in first[2]


def test_a_region_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def for_ever(*arguments: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Node, "wait_for", for_ever)
    [said] = said_of(TWO)
    assert said == ("liveness", "", "did not answer to the last questions, though everything was well")


def test_a_region_that_does_not_answer_for_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.interface.listings.resolve_or_problem", refuse)
    assert [(checker, region) for checker, region, _ in said_of(TWO)] == [("internal", "eu"), ("internal", "us")]


def test_regions_that_answer_the_same_in_other_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = count()

    def numbered(snapshot: Snapshot, name: str) -> tuple[dict[str, Any], int]:
        shown, size = resolve_or_problem(snapshot, name)
        return shown | {"turn": next(turns)}, size

    monkeypatch.setattr("node.interface.listings.resolve_or_problem", numbered)
    assert said_of(TWO) == [("convergence", "us", "answers other bytes than eu for the same streams")]


def test_a_request_that_is_never_done_with(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kept(set[tuple[str, str]]):
        def discard(self, element: object) -> None:
            pass

    begin = Node.__init__

    def keeping(node: Node, *arguments: Any) -> None:
        begin(node, *arguments)
        node.requests_in_flight = Kept()

    monkeypatch.setattr(Node, "__init__", keeping)
    [said] = said_of(replace(TWO, operations=(write(0.5, "us", key=True),)))
    assert said[:2] == ("bounded", "us")


@pytest.mark.parametrize(
    ("limit", "detail"), [("MESSAGE_BYTES_MAX", "a message has "), ("WAITING_MAX", " writes wait")]
)
def test_what_is_bounded_is_watched(limit: str, detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"simulations.checkers.judge.{limit}", -1)
    checker, _, said = said_of(replace(TWO, operations=(write(0.5, "eu"),)))[0]
    assert checker == "bounded"
    assert detail in said


def test_a_directory_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.interface.conflicts.list_conflicts", refuse)
    asked = Operation(0.5, 0, "eu", "rows", "users-by-name")
    said = said_of(replace(TWO, operations=(asked,)))
    assert [(checker, region) for checker, region, _ in said] == [("liveness", "eu"), ("liveness", "us")]


def test_a_fork_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    forked = load(SEEDS / "one-dot-on-two-streams.json")
    assert said_of(forked) == []
    monkeypatch.setattr(Gossip, "_note_fork", lambda *arguments: None)
    assert {checker for checker, *_ in said_of(forked)} == {"forks"}
