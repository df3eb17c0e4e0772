"""Which claim on a name counts, and which of those that count holds."""

from collections.abc import Callable

from node.directory.claims import claims_on, contested, ranked
from node.directory.names import claim_stream
from tests.helpers import Node

ANNA = claim_stream("userName", "anna")
BERTA = claim_stream("userName", "berta")


def take(node: Node, user: str, name: str) -> None:
    """Have a user take a name, whoever has it."""
    node.write(f"users/{user}", set={"userName": name})
    node.write(claim_stream("userName", name), add={"holders": [f"users/{user}"]})


def test_of_two_claims_by_one_user_the_earlier_counts(node: Callable[..., Node]) -> None:
    """Made on both sides of a partition, and seen on one of them later: the later one adds again what is there."""
    eu, us = node("eu"), node("us")
    take(eu, "1", "anna")
    eu.now_ms, us.now_ms = eu.now_ms + 5_000, us.now_ms + 2_000
    take(us, "2", "anna")
    eu.write(ANNA, add={"holders": ["users/1"]}, context={})
    eu.pull_all(us)
    with eu.replica.read() as snapshot:
        first, second = claims_on(snapshot, "userName", "Anna").counting
        assert (first.stream, first.seq, second.stream) == ("users/1", 2, "users/2")
        assert ranked(snapshot, "userName", "ANNA", ["users/2", "users/1", "users/3"]) == ["users/1", "users/2"]


def test_a_contested_name_is_the_one_that_its_claims_are_on(node: Callable[..., Node]) -> None:
    eu = node("eu")
    for user, name in (("1", "anna"), ("2", "anna"), ("1", "berta"), ("3", "berta")):
        take(eu, user, name)
    with eu.replica.read() as snapshot:
        assert contested(snapshot, ANNA) is None, "the one has another name by now"
        found = contested(snapshot, BERTA)
        assert found is not None
        attribute, value, claims = found
        assert (attribute, value, [claim.stream for claim in claims]) == (
            "userName",
            "berta",
            ["users/1", "users/3"],
        )
