"""A stream as views see it: together with what was split off it, wherever that lies."""

from collections.abc import Callable

import pytest

from crdt.operations import JSON
from node.limits import SPLITS_FOLLOWED_MAX
from node.views.state import moved_to, parts_of, state_of, strays_of, wholes_of
from node.views.view import State
from tests.helpers import Node

WHOLE, NEAR, FAR = "users/1", "users/1/near", "users/1/far/off"


@pytest.fixture
def split(node: Callable[..., Node]) -> Node:
    """A user with two parts, one of them further below."""
    eu = node("eu")
    eu.write(WHOLE, set={"name": "Lisa", "moved_to": {NEAR: ["title", "mail*"], FAR: ["*"]}})
    eu.write(NEAR, set={"title": "Guide", "moved_from": WHOLE}, add={"mails": ["a"]})
    eu.write(FAR, set={"locale": "it", "moved_from": WHOLE})
    return eu


def test_what_was_split_off_is_shown_and_what_ties_it_is_not(split: Node) -> None:
    with split.replica.read() as snapshot:
        state = state_of(snapshot, WHOLE)
        assert state is not None
        assert {name: value for name, value in state.registers.items() if name != "moved_to"} == {
            "name": "Lisa",
            "title": "Guide",
            "locale": "it",
        }
        assert dict(state.sets) == {"mails": ("a",)}
        assert sorted(wholes_of(snapshot, [NEAR])) == sorted(wholes_of(snapshot, [FAR])) == [WHOLE]
        assert wholes_of(snapshot, [WHOLE, "groups/1"]) == []


@pytest.mark.parametrize(
    ("field", "part"), [("title", NEAR), ("titles", FAR), ("mail", NEAR), ("mails", NEAR), ("locale", FAR)]
)
def test_a_field_is_where_the_first_pattern_says(field: str, part: str) -> None:
    moved: dict[str, JSON] = {"moved_to": {NEAR: ["title", "mail*"], FAR: ["*"]}}
    assert moved_to(moved, field) == part
    assert moved_to({"moved_to": {NEAR: ["title"]}}, "titles") is None


@pytest.mark.parametrize("nonsense", [None, 1, "users/1/near", ["users/1/near"], {"users/1/near": "t*"}, {"x": None}])
def test_a_register_that_ties_nothing_moves_nothing(nonsense: object) -> None:
    assert moved_to({"moved_to": nonsense}, "title") is None  # type: ignore[dict-item]  # any JSON may stand there


def test_strays_are_fields_and_not_what_ties_streams() -> None:
    ties: dict[str, JSON] = {"moved_to": {NEAR: ["*"]}, "moved_from": "users/0"}
    assert strays_of(State(WHOLE, ties, {})) is None
    stray = strays_of(State(WHOLE, {**ties, "title": "Guide"}, {"mails": ("a",)}))
    assert stray == State(WHOLE, {"title": "Guide"}, {"mails": ("a",)})


def test_so_many_parts_are_followed(node: Callable[..., Node]) -> None:
    eu = node("eu")
    parts = [f"{WHOLE}/{number}" for number in range(SPLITS_FOLLOWED_MAX + 1)]
    eu.write(WHOLE, set={"moved_to": {part: ["*"] for part in parts}})
    for part in parts:
        eu.write(part, set={"moved_from": WHOLE})
    with eu.replica.read() as snapshot:
        row = snapshot.stream(WHOLE)
        assert row is not None
        assert len(list(parts_of(snapshot, WHOLE, row.values))) == SPLITS_FOLLOWED_MAX
