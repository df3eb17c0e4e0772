"""The fold equals the definition, under every causal delivery (DESIGN, section 3)."""

import random

from hypothesis import given
from hypothesis import strategies as st

from crdt.answer import Answer
from crdt.dot import Dot
from crdt.event import Event
from crdt.fold import MemoryCells, fold
from crdt.operations import Add, Delete, Operation, Remove, Set
from crdt.reference import resolve
from tests.histories import causal_order, random_history


def folded(events: list[Event]) -> Answer:
    cells = MemoryCells()
    for event in events:
        fold(cells, event)
    return cells.answer()


def event(
    origin: str, seq: int, timestamp: int, *operations: Operation, context: dict[str, int] | None = None
) -> Event:
    return Event(Dot(origin, seq), timestamp, context or {}, operations)


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_every_causal_order_folds_to_the_definition(rng: random.Random, size: int) -> None:
    history = random_history(rng, size)
    expected = resolve(one.event for one in history)
    for _ in range(3):
        assert folded(causal_order(rng, history)) == expected


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_every_causal_prefix_folds_to_the_definition(rng: random.Random, size: int) -> None:
    order = causal_order(rng, random_history(rng, size))
    cells = MemoryCells()
    for place, one in enumerate(order):
        fold(cells, one)
        assert cells.answer() == resolve(order[: place + 1])


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_the_definition_knows_no_order_and_no_repetition(rng: random.Random, size: int) -> None:
    events = [one.event for one in random_history(rng, size)]
    shuffled = events + rng.choices(events, k=3)
    rng.shuffle(shuffled)
    assert resolve(shuffled) == resolve(events)


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_order_by_timestamp_is_causal(rng: random.Random, size: int) -> None:
    history = random_history(rng, size)
    in_order = sorted((one.event for one in history), key=lambda one: one.order)
    assert folded(in_order) == resolve(in_order)


def test_the_greater_timestamp_wins_and_the_loser_is_shown() -> None:
    answer = resolve([event("a", 1, 10, Set("name", "x")), event("b", 1, 11, Set("name", "y"))])
    assert answer.registers == {"name": "y"}
    assert [write.value for write in answer.conflicts["name"]] == ["x"]


def test_equal_timestamps_are_told_apart_by_origin_then_seq() -> None:
    answer = resolve([event("b", 1, 10, Set("name", "b")), event("a", 9, 10, Set("name", "a"))])
    assert answer.registers == {"name": "b"}


def test_a_later_clock_does_not_win_over_a_write_that_saw_it() -> None:
    answer = resolve([event("a", 1, 99, Set("name", "x")), event("b", 1, 10, Set("name", "y"), context={"a": 1})])
    assert answer.registers == {"name": "y"}
    assert answer.conflicts == {}


def test_null_clears_and_competes() -> None:
    answer = resolve([event("a", 1, 10, Set("name", "x")), event("b", 1, 11, Set("name", None))])
    assert answer.registers == {}
    assert not answer.exists
    assert [write.value for write in answer.conflicts["name"]] == ["x"]


def test_an_addition_survives_a_concurrent_removal() -> None:
    events = [
        event("a", 1, 10, Add("members", "omar")),
        event("b", 1, 11, Remove("members", "omar"), context={"a": 1}),
        event("a", 2, 11, Add("members", "omar"), context={"a": 1}),
    ]
    assert resolve(events).sets == {"members": ("omar",)}
    assert resolve(events[:2]).sets == {}


def test_a_delete_resets_what_it_saw_and_no_more() -> None:
    events = [
        event("a", 1, 10, Set("name", "x"), Add("members", "omar")),
        event("b", 1, 11, Add("members", "lisa")),
        event("a", 2, 12, Delete(), context={"a": 1}),
    ]
    assert resolve(events) == Answer({}, {"members": ("lisa",)})
    assert folded(events) == resolve(events)


def test_elements_are_ordered_by_their_utf8_bytes() -> None:
    elements = ["z", "é", "\U0001f600", "\uffee", "a"]
    answer = resolve([event("a", 1, 10, *(Add("s", element) for element in elements))])
    assert list(answer.sets["s"]) == sorted(elements, key=str.encode)
