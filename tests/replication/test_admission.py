"""What a peer sends is checked here, whoever sent it: each reason, with nothing changed and the rest applied."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from crdt.hybrid_clock import COUNTER_BITS
from crdt.operations import Set
from replication.admission import Transaction
from replication.command import Command, Draft
from replication.event import Body, Encoded, Header, Seen, digest, genesis
from replication.event_codec import decode_header, encode_body, encode_header
from replication.packing import pack, unpack_own
from tests.helpers import NOW, Node, operations

Make = Callable[..., Node]
STRANGER = "xx.00000001"


def forged(cluster: str = "test", value: int = 1, **fields: Any) -> Encoded:
    """One event of a stranger's, well-formed but for what the test says."""
    body = encode_body(Body(b"s" * 16, (Set("n", value),), "stranger"))
    header = Header(
        format=1,
        flags=0,
        origin=STRANGER,
        seq=1,
        stream="s",
        timestamp=NOW << COUNTER_BITS,
        context={},
        previous=genesis(cluster, STRANGER),
        body_hash=digest(body),
        index=0,
        count=1,
        seen=(),
    )
    return Encoded(encode_header(replace(header, **fields)), body)


def after(event: Encoded, **fields: Any) -> Encoded:
    """The event that follows on another in its origin."""
    before = decode_header(event.header)
    following: dict[str, Any] = {"seq": before.seq + 1, "previous": event.chain, "timestamp": before.timestamp + 1}
    return forged(**(following | fields))


def left_out(node: Node, *transactions: Transaction) -> list[str]:
    """The reasons of what was left out; where all was, nothing changed."""
    before = node.dump()
    applied = node.apply(transactions)
    if not applied.events:
        assert node.dump() == before
    return [one.reason for one in applied.left_out]


def test_an_honest_stranger_is_admitted_once(node: Make) -> None:
    eu = node("eu")
    assert left_out(eu, (forged(),), (after(forged()),)) == []
    before = eu.dump()
    assert left_out(eu, (forged(),), (forged(),)) == []
    assert eu.dump() == before


def test_a_gap_waits(node: Make) -> None:
    eu = node("eu")
    assert left_out(eu, (after(forged()),)) == ["gap"]
    assert left_out(eu, (forged(),), (after(forged()),)) == []


def test_what_its_writer_had_seen_must_be_held(node: Make) -> None:
    eu = node("eu")
    seen = (Seen("yy.00000001", 3, b"m" * 8),)
    assert left_out(eu, (forged(seen=seen),)) == ["missing"]


def test_what_depends_on_a_fork_stays_out_and_the_rest_is_applied(node: Make) -> None:
    eu = node("eu")
    eu.apply([(forged(),)])
    dependent = forged(
        origin="yy.00000001",
        previous=genesis("test", "yy.00000001"),
        timestamp=(NOW << COUNTER_BITS) + 9,
        seen=(Seen(STRANGER, 1, b"otherwise"[:8]),),
    )
    honest = forged(origin="zz.00000001", previous=genesis("test", "zz.00000001"))
    assert left_out(eu, (dependent,), (honest,)) == ["fork"]
    assert eu.replica.vector == {STRANGER: 1, "zz.00000001": 1}


def test_a_fork_is_named_with_both_hashes(node: Make) -> None:
    eu = node("eu")
    eu.apply([(forged(),)])
    other = forged(value=2)
    [reason] = eu.apply([(other,)]).left_out
    assert (reason.reason, reason.origin, reason.seq) == ("fork", STRANGER, 1)
    assert forged().chain.hex() in reason.detail
    assert other.chain.hex() in reason.detail
    [reason] = eu.apply([(after(other),)]).left_out
    assert (reason.reason, reason.seq) == ("fork", 1)


def test_another_clusters_chain_never_starts_here(node: Make) -> None:
    assert left_out(node("eu"), (forged(cluster="other"),)) == ["broken-chain"]


def test_a_stamp_too_far_ahead_is_held_back_until_due_and_nothing_else_is(node: Make) -> None:
    eu = node("eu", max_drift_ms=1_000)
    early = forged(timestamp=(NOW + 1_500) << COUNTER_BITS)
    honest = forged(origin="zz.00000001", previous=genesis("test", "zz.00000001"))
    [reason] = eu.apply([(early,), (honest,)]).left_out
    assert (reason.reason, reason.due_ms) == ("held-back", NOW + 500)
    assert eu.replica.vector == {"zz.00000001": 1}
    eu.now_ms = reason.due_ms
    assert left_out(eu, (early,)) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"context": {STRANGER: 1}}, "uncovered-context"),
        ({"context": {"zz.00000001": 1}}, "uncovered-context"),
        ({"seen": (Seen(STRANGER, 1, b"m" * 8),)}, "malformed"),
        ({"body_hash": b"h" * 16}, "malformed"),
        ({"stream": "a//b"}, "malformed"),
        ({"origin": "XX.00000001"}, "malformed"),
        ({"seq": 0}, "malformed"),
        ({"seq": 1 << 60}, "malformed"),
        ({"index": 1, "count": 1}, "malformed"),
        ({"index": 1, "count": 2}, "malformed"),
        ({"count": 2}, "malformed"),
        ({"previous": b"short"}, "malformed"),
        ({"timestamp": (1 << 64) - 1}, "malformed"),
        ({"context": {"no origin": 1}}, "malformed"),
        ({"context": {"zz.00000001": 0}}, "malformed"),
        ({"format": 0}, "malformed"),
    ],
)
def test_a_header_that_cannot_be_is_refused(node: Make, fields: dict[str, Any], reason: str) -> None:
    assert left_out(node("eu"), (forged(**fields),)) == [reason]


def test_a_context_of_another_streams_events_is_uncovered(node: Make) -> None:
    eu = node("eu")
    assert left_out(eu, (forged(),), (after(forged(), stream="t", context={STRANGER: 1}),)) == ["uncovered-context"]


def test_a_timestamp_must_grow_along_its_origin_and_over_what_was_seen(node: Make) -> None:
    eu = node("eu")
    first = forged()
    eu.apply([(first,), (after(first),)])
    second = after(first)
    assert left_out(eu, (after(second, timestamp=(NOW << COUNTER_BITS) + 1),)) == ["malformed"]
    for seen in (Seen(STRANGER, 2, second.chain[:8]), Seen(STRANGER, 1, first.chain[:8])):
        late = forged(origin="yy.00000001", previous=genesis("test", "yy.00000001"), seen=(seen,))
        assert left_out(eu, (late,)) == ["malformed"]


BODIES: list[tuple[str, Any]] = [
    ("not an array", {"a": 1}),
    ("too short", [b"s" * 16, None, [[4]], "actor", None, None]),
    ("salt", [b"s", None, [[4]], "actor", None, None, None]),
    ("actor", [b"s" * 16, None, [[4]], 7, None, None, None]),
    ("no operations", [b"s" * 16, None, [], "actor", None, None, None]),
    ("operation without number", [b"s" * 16, None, [["set"]], "actor", None, None, None]),
    ("set without value", [b"s" * 16, None, [[1, "f"]], "actor", None, None, None]),
    ("set of bytes", [b"s" * 16, None, [[1, "f", b"x"]], "actor", None, None, None]),
    ("add without elements", [b"s" * 16, None, [[2, "f", []]], "actor", None, None, None]),
    ("add of numbers", [b"s" * 16, None, [[2, "f", [7]]], "actor", None, None, None]),
    ("cell twice", [b"s" * 16, None, [[1, "f", 1], [1, "f", 2]], "actor", None, None, None]),
    ("delete beside", [b"s" * 16, None, [[4], [1, "f", 2]], "actor", None, None, None]),
    ("delete with more", [b"s" * 16, None, [[4, "f"]], "actor", None, None, None]),
    ("field not text", [b"s" * 16, None, [[1, 5, 2]], "actor", None, None, None]),
    ("request", [b"s" * 16, None, [[4]], "actor", ["k", b"short", None], None, None]),
    ("request shape", [b"s" * 16, None, [[4]], "actor", "k", None, None]),
    ("source", [b"s" * 16, None, [[4]], "actor", None, None, ["name"]]),
    ("source position", [b"s" * 16, None, [[4]], "actor", None, None, ["name", 1.5]]),
    ("occurred_at", [b"s" * 16, None, [[4]], "actor", None, 7, None]),
    ("occurred_at too long", [b"s" * 16, None, [[4]], "actor", None, "x" * 41, None]),
]


@pytest.mark.parametrize("body", [body for _, body in BODIES], ids=[name for name, _ in BODIES])
def test_a_body_that_cannot_be_is_refused(node: Make, body: Any) -> None:
    data = pack(body)
    event = Encoded(forged(body_hash=digest(data)).header, data)
    assert left_out(node("eu"), (event,)) == ["malformed"]


def test_a_value_that_holds_a_key_twice_is_refused(node: Make) -> None:
    once = pack([b"s" * 16, None, [[1, "f", [{"k1": 1, "k2": 2}]]], "actor", None, None, None])
    for data, reasons in ((once, []), (once.replace(b"k2", b"k1"), ["malformed"])):
        event = Encoded(forged(body_hash=digest(data)).header, data)
        assert left_out(node("eu"), (event,)) == reasons


def test_a_forged_body_is_refused(node: Make) -> None:
    event = forged()
    assert left_out(node("eu"), (Encoded(event.header, forged(value=2).body),)) == ["malformed"]


HEADERS: list[Callable[[list[Any]], Any]] = [
    lambda fields: {"a": 1},
    lambda fields: fields[:10],
    lambda fields: [*fields[:9], [0], fields[10]],
    lambda fields: [*fields[:6], [["xx.00000001"]], *fields[7:]],
    lambda fields: [*fields[:6], [["zz.00000001", 1], ["yy.00000001", 1]], *fields[7:]],
    lambda fields: [*fields[:10], [["zz.00000001", 1]]],
    lambda fields: [*fields[:10], [["zz.00000001", 1, b"m"]]],
    lambda fields: [*fields[:3], True, *fields[4:]],
]


@pytest.mark.parametrize("change", HEADERS)
def test_a_header_of_another_shape_is_refused(node: Make, change: Callable[[list[Any]], Any]) -> None:
    event = forged()
    header = pack(change(unpack_own(event.header)))
    assert left_out(node("eu"), (Encoded(header, event.body),)) == ["malformed"]


def test_bytes_that_are_no_msgpack_are_refused(node: Make) -> None:
    eu = node("eu")
    for header in (b"", b"\xc1", forged().header + b"x", pack({1: 2}), b"\x82\xa1a\x01\xa1a\x01"):
        assert left_out(eu, (Encoded(header, b""),)) == ["malformed"]


def two(**second: Any) -> Transaction:
    first = forged(count=2)
    fields: dict[str, Any] = {"index": 1, "count": 2, "stream": "t", "timestamp": NOW << COUNTER_BITS}
    return (first, after(first, **(fields | second)))


def test_a_transaction_is_whole_and_of_one_piece(node: Make) -> None:
    eu = node("eu")
    first, second = two()
    for wrong in (
        (first,),
        (second,),
        (second, first),
        (first, first),
        (),
        two(index=0),
        two(stream="s"),
        two(timestamp=(NOW << COUNTER_BITS) + 1),
        two(seq=3),
        two(previous=b"p" * 16),
        two(seen=(Seen("yy.00000001", 1, b"m" * 8),)),
    ):
        assert left_out(eu, wrong) == ["malformed"], wrong
    assert left_out(eu, two()) == []


def test_what_is_malformed_is_named_by_its_first_event(node: Make) -> None:
    """So it can be told to whoever sends it, which else would send it for ever."""
    eu = node("eu")
    body = forged(value=2).body
    first = forged(count=2)
    for wrong, dot in (
        ((Encoded(forged().header, body),), (STRANGER, 1)),
        ((first, Encoded(after(first, index=1, count=2, stream="t").header, body)), (STRANGER, 1)),
        ((Encoded(b"no header", body),), ("", 0)),
    ):
        [one] = eu.apply([wrong]).left_out
        assert (one.origin, one.seq, one.reason) == (*dot, "malformed")


def test_sizes_beyond_the_limits_are_refused(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    eu = node("eu")
    monkeypatch.setattr("replication.admission.EVENT_BYTES_MAX", 10)
    assert left_out(eu, (forged(),)) == ["malformed"]
    monkeypatch.undo()
    monkeypatch.setattr("replication.admission.TRANSACTION_BYTES_MAX", 10)
    assert left_out(eu, (forged(),)) == ["malformed"]
    monkeypatch.undo()
    monkeypatch.setattr("replication.batch.ORIGINS_MAX", 0)
    assert left_out(eu, (forged(),)) == ["too-many-origins"]


def test_writes_of_several_streams_arrive_as_one(node: Make) -> None:
    eu, us = node("eu"), node("us")
    us.run(Command(tuple(Draft(f"s/{n}", operations(set={"n": n})) for n in range(5))))
    [transaction] = us.transactions()
    assert left_out(eu, transaction[:3]) == ["malformed"]
    assert eu.apply([transaction]).events == 5
