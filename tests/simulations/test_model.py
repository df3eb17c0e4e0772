"""The checkers' own model: it resolves as the product's definition does, and reads the product's bytes as they are."""

import random

from hypothesis import given
from hypothesis import strategies as st

from crdt.answer import conflicts, values
from crdt.event import Event
from crdt.operations import Add, Delete, Remove, Set
from crdt.reference import resolve as reference
from replication.event import Body, Encoded, Header, Request, Seen, Source, digest
from replication.event_codec import encode_body, encode_header
from replication.tokens import format_token
from simulations.checkers.holdings import Holding
from simulations.checkers.model import (
    ADD,
    DELETE,
    REMOVE,
    SET,
    Happened,
    includes,
    joined,
    milliseconds,
    read,
    resolve,
    token,
    vector_of,
)
from tests.histories import random_history


def happened(event: Event, stream: str = "s") -> Happened:
    operations: list[tuple[object, ...]] = []
    for operation in event.operations:
        match operation:
            case Set(field, value):
                operations.append((SET, field, value))
            case Add(field, element):
                operations.append((ADD, field, [element]))
            case Remove(field, element):
                operations.append((REMOVE, field, [element]))
            case Delete():
                operations.append((DELETE,))
    return Happened(
        event.dot.origin, event.dot.seq, stream, event.timestamp, event.context, b"", 0, 1, (),
        tuple(operations), "", None, None, str(event.dot).encode(),
    )  # fmt: skip


@given(st.randoms(use_true_random=False), st.integers(1, 25))
def test_the_model_is_the_definition(rng: random.Random, size: int) -> None:
    events = [one.event for one in random_history(rng, size)]
    expected = reference(events)
    rng.shuffle(events)
    found = resolve(map(happened, events))
    assert found.registers == values(expected.live)
    assert found.sets == {field: list(members) for field, members in expected.sets.items()}
    lost = {name: [(one.value, str(one.dot)) for one in ones] for name, ones in conflicts(expected.live).items()}
    assert found.losers == lost


def test_an_event_is_read_from_the_product_s_bytes() -> None:
    body = Body(
        b"s" * 16, (Set("n", 1), Add("m", "é"), Add("m", "a"), Remove("m", "b")), "me",
        Request("k", b"f" * 16, None), None, Source("file", 7),
    )  # fmt: skip
    data = encode_body(body)
    seen = (Seen("us.00000000", 3, b"m" * 8),)
    header = Header(
        1, 0, "eu.5f2c9a10", 2, "users/4", 99 << 16, {"us.00000000": 3}, b"p" * 16, digest(data), 0, 2, seen
    )
    event = read(encode_header(header), data)
    assert (event.dot, event.stream, event.timestamp, event.index, event.count) == (
        "eu.5f2c9a10.2",
        "users/4",
        99 << 16,
        0,
        2,
    )
    assert event.context == {"us.00000000": 3}
    assert event.seen == (("us.00000000", 3, b"m" * 8),)
    assert event.operations == ((SET, "n", 1), (ADD, "m", ["a", "é"]), (REMOVE, "m", ["b"]))
    assert (event.actor, event.key, event.source) == ("me", "k", ("file", 7))
    assert event.chain == Encoded(encode_header(header), data).chain
    assert str(event) == "eu.5f2c9a10.2 on users/4: set n=1 add m ['a', 'é'] remove m ['b']"


def test_tokens_are_read_and_written_as_the_product_does() -> None:
    vector = {"us.00000001": 7, "eu.5f2c9a10": 12}
    assert token("users/4", vector) == format_token("users/4", vector)
    assert vector_of(token("users/4", vector)) == vector
    assert vector_of(token("users/4", {})) == {}
    assert joined([{"a": 1, "b": 2}, {"a": 3}]) == {"a": 3, "b": 2}
    assert includes({"a": 3}, {"a": 2})
    assert not includes({"a": 3}, {"b": 1})
    assert milliseconds(5 << 16 | 9) == 5


def test_a_holding_is_cut_to_what_an_older_disk_has() -> None:
    holding = Holding()
    events = [happened(one.event) for one in random_history(random.Random(3), 12)]
    for event in sorted(events, key=lambda one: (one.origin, one.seq)):
        holding.add(event)
    origin, log = next(iter(holding.logs.items()))
    gone = holding.cut({**holding.vector(), origin: 1})
    assert [event.seq for event in gone] == list(range(2, len(log) + 1))
    assert holding.seq(origin) == 1
    assert holding.event(origin, 2) is None
    assert holding.holds({origin: 1})
    assert not holding.holds({origin: 2})
