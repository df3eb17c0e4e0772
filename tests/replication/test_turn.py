"""Turns that are worked out while the commit before is on its way: as if each had waited for it."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.version_vector import cut
from replication.command import Command, Draft, Written
from replication.errors import ConditionFailed, Refused, StoreFailed, StoreFull, UnknownStream
from replication.limits import PIECE_JOBS_MAX, SETTLED_ROW_BYTES_MAX
from replication.replica import Arrival, Job, Outcome, Replica, Turn
from replication.store import Store
from tests.conftest import MEMORY
from tests.helpers import NOW, Node, operations
from tests.histories import random_operations

IDENTITY = b"meta:store"
"""The row that tells which file it is in."""
STREAMS = ("users/1", "users/2", "groups/ops")


NOTHING: Iterator[None] = iter(())


def random_command(rng: random.Random, held: dict[str, int]) -> Command:
    """Of one stream or two, sometimes with an older context, a condition or an idempotency key that comes again."""
    drafts: list[Draft] = []
    for stream in rng.sample(STREAMS, rng.choice([1, 1, 2])):
        old = cut(held, {origin: rng.randint(0, seq) for origin, seq in held.items()})
        context = {origin: seq for origin, seq in old.items() if seq} if rng.random() < 0.3 else None
        drafts.append(Draft(stream, random_operations(rng), context=context))
    return Command(
        tuple(drafts),
        absent=("users/1",) if rng.random() < 0.2 else (),
        present=("users/2",) if rng.random() < 0.2 else (),
        request=(rng.choice("abcdef"), bytes(16)) if rng.random() < 0.3 else None,
    )


def random_turns(rng: random.Random, peer: Node) -> list[list[Job]]:
    """Commands, and between them what a peer wrote, some of it twice."""
    theirs: list[Job] = []
    for _ in range(rng.randint(0, 6)):
        peer.now_ms += rng.randint(0, 3)
        peer.write(rng.choice(STREAMS), add={"members": ["a"]}, set={"name": rng.randint(0, 3)})
    for transaction in peer.transactions():
        theirs += [Arrival([transaction])] * rng.choice([1, 1, 2])
    turns: list[list[Job]] = []
    for _ in range(rng.randint(2, 8)):
        turn: list[Job] = [random_command(rng, peer.replica.vector) for _ in range(rng.randint(0, 4))]
        some, theirs = theirs[:2], theirs[2:]
        turns.append([*turn, *some])
    return turns


def shown(outcome: Outcome) -> Any:
    """What can be compared of an outcome."""
    return (type(outcome), str(outcome)) if isinstance(outcome, Refused) else outcome


def overlapping(rng: random.Random, replica: Replica, turns: list[list[Job]]) -> list[Outcome]:
    """Do turns, each in pieces and while the commit before is on its way."""
    outcomes: list[Outcome] = []
    turn, flying = replica.begin(), NOTHING
    for jobs in turns:
        middle = rng.randint(0, len(jobs))
        outcomes += replica.take(turn, jobs[:middle], NOW)
        if rng.random() < 0.5:
            next(flying, None)
        outcomes += replica.take(turn, jobs[middle:], NOW)
        next(flying, None)  # the one before is on the disk
        flying = replica.commit(turn)
        next(flying)
        if rng.random() < 0.2:
            next(flying, None)
        turn = replica.begin()
    next(flying, None)
    turn.abandon()
    return outcomes


@given(st.randoms(use_true_random=False))
def test_turns_that_overlap_leave_what_turns_one_after_another_leave(rng: random.Random) -> None:
    """Whatever their pieces, and whether one leaves rows encoded for the next, as they are, or some so and some so."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        peer = Node(Path(directory) / "us", "us")
        turns = random_turns(rng, peer)
        one, other = (Node(Path(directory) / name, "eu", seed=7) for name in ("one", "other"))
        alone = [outcome for jobs in turns for outcome in one.replica.turn(jobs, NOW)]
        with (
            patch("replication.replica.PIECE_JOBS_MAX", rng.choice([1, 2, PIECE_JOBS_MAX])),
            patch("replication.batch.SETTLED_ROW_BYTES_MAX", rng.choice([0, 200, SETTLED_ROW_BYTES_MAX])),
        ):
            in_pieces = overlapping(rng, other.replica, turns)
        assert list(map(shown, in_pieces)) == list(map(shown, alone))
        assert [row for row in other.dump() if row[0] != IDENTITY] == [
            row for row in one.dump() if row[0] != IDENTITY
        ]
        other.check_answers()
        for node in (peer, one, other):
            node.close()


def begun(node: Node, stream: str, number: int) -> tuple[Turn, Any]:
    """A turn of one write, on its way to the disk."""
    turn = node.replica.begin()
    [outcome] = node.replica.take(turn, [write(stream, number)], NOW)
    assert isinstance(outcome, Written)
    steps = node.replica.commit(turn)
    assert next(steps, "done") is None
    return turn, steps


def write(stream: str, number: int, **asked: Any) -> Command:
    return Command((Draft(stream, operations(set={"n": number})),), **asked)


def test_nobody_sees_what_is_on_its_way_but_the_next_turn(node: Any) -> None:
    eu = node("eu")
    turn, steps = begun(eu, "s", 1)
    assert (eu.replica.vector, eu.answer("s")) == ({}, None)
    after = eu.replica.begin()
    outcomes = eu.replica.take(after, [write("s", 2, present=("s",)), write("t", 1, absent=("s",))], NOW)
    assert [type(outcome) for outcome in outcomes] == [Written, ConditionFailed]
    next(steps, None)
    assert turn.error is None
    assert list(eu.replica.vector.values()) == [1]
    for _ in eu.replica.commit(after):
        pass
    assert list(eu.replica.vector.values()) == [2]
    eu.check_answers()


def test_what_a_commit_on_its_way_takes_out_is_gone_for_the_next_turn(node: Any) -> None:
    eu = node("eu")
    eu.write("s", add={"m": ["x"]})

    def one(**fields: Any) -> Command:
        return Command((Draft("s", operations(**fields)),))

    first = eu.replica.begin()
    eu.replica.take(first, [one(remove={"m": ["x"]})], NOW)
    flying = eu.replica.commit(first)
    next(flying)
    second = eu.replica.begin()
    eu.replica.take(second, [one(add={"m": ["x"]})], NOW)
    next(flying, None)
    for _ in eu.replica.commit(second):
        pass
    eu.check_answers()
    assert eu.resolved("s").sets == {"m": ("x",)}


def test_a_conflict_of_one_piece_that_the_next_settles_is_none(node: Any) -> None:
    eu = node("eu")
    eu.write("s", set={"n": 1})

    def one(number: int, **asked: Any) -> Command:
        return Command((Draft("s", operations(set={"n": number}), **asked),))

    for pieces, conflicted in (
        ([one(2, context={}), one(3)], 0),
        ([one(4, context={})], 1),
        ([one(5), one(6, context={})], 1),
    ):
        turn = eu.replica.begin()
        for piece in pieces:
            eu.replica.take(turn, [piece], NOW)
        for _ in eu.replica.commit(turn):
            pass
        with eu.replica.read() as snapshot:
            assert len(list(snapshot.walk("conflicted"))) == conflicted
    eu.check_answers()


def test_what_an_earlier_piece_changed_goes_before_a_commit_on_its_way(node: Any) -> None:
    eu = node("eu")
    _, steps = begun(eu, "s", 1)
    turn = eu.replica.begin()
    eu.replica.take(turn, [Command((Draft("s", operations(delete=True)),))], NOW)
    [absent, present] = eu.replica.take(turn, [write("t", 1, absent=("s",)), write("u", 1, present=("s",))], NOW)
    assert (type(absent), type(present)) == (Written, UnknownStream)
    next(steps, None)
    for _ in eu.replica.commit(turn):
        pass
    eu.check_answers()


@pytest.mark.parametrize(("failure", "error"), [(lmdb.MapFullError, StoreFull), (lmdb.DiskError, StoreFailed)])
def test_what_was_worked_out_on_a_commit_that_fails_is_stale(
    node: Any, monkeypatch: pytest.MonkeyPatch, failure: type[Exception], error: type[Refused]
) -> None:
    def commit(store: Store, transaction: lmdb.Transaction) -> None:
        raise failure("the disk says no")

    eu = node("eu")
    eu.write("s", set={"n": 0})
    before = eu.dump()
    turn, steps = begun(eu, "s", 1)
    after = eu.replica.begin()
    assert isinstance(eu.replica.take(after, [write("s", 2)], NOW)[0], Written)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_commit", commit)
        next(steps, None)
    assert isinstance(turn.error, error)
    assert eu.replica.is_stale(after)
    after.abandon()
    assert eu.dump() == before
    again = eu.replica.begin()
    assert not eu.replica.is_stale(again)
    [outcome] = eu.replica.take(again, [write("s", 2)], NOW)
    for _ in eu.replica.commit(again):
        pass
    if error is StoreFull:
        assert again.error is None
        assert isinstance(outcome, Written)
        assert [event.dot.seq for event in outcome.events] == [2]
    else:
        assert outcome is again.error is turn.error
    eu.check_answers()


def test_a_turn_that_is_given_up_half_way_leaves_nothing(node: Any) -> None:
    eu = node("eu")
    _, steps = begun(eu, "s", 1)
    steps.close()
    assert eu.replica.vector == {}
    assert not eu.replica.failed
    assert eu.write("s", set={"n": 2}).events[0].dot.seq == 1


def test_a_mistake_in_a_turn_leaves_no_transaction_open(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: object) -> Outcome:
        raise ZeroDivisionError

    eu = node("eu")
    with monkeypatch.context() as patch:
        patch.setattr(Replica, "_do", mistaken)
        for _ in range(600):  # more than there are readers' places
            with pytest.raises(ZeroDivisionError):
                eu.replica.turn([write("s", 1)], NOW)
    eu.write("s", set={"n": 1})
