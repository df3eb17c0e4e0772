"""Writing: conditions, contexts, repeats, limits and the clock; a refusal changes nothing (I8)."""

from collections.abc import Callable

import pytest

from crdt.hybrid_clock import TIMESTAMP_MAX, milliseconds
from crdt.operations import JSON, Set
from replication import limits
from replication.command import Command, Draft, Written
from replication.errors import (
    ClockAhead,
    ConditionFailed,
    ContextAhead,
    Invalid,
    Refused,
    RequestMismatch,
    TooLarge,
    TooManyOrigins,
    UnknownStream,
)
from replication.event import Source
from replication.event_codec import decode_header
from tests.helpers import NOW, Node, operations

Make = Callable[..., Node]


def refused(node: Node, command: Command, kind: type[Refused]) -> Refused:
    """The refusal of a command, which leaves every row as it was."""
    before = node.dump()
    with pytest.raises(kind) as caught:
        node.run(command)
    assert node.dump() == before
    return caught.value


def command(stream: str, value: int = 1, **conditions: object) -> Command:
    return Command((Draft(stream, (Set("n", value),)),), **conditions)  # type: ignore[arg-type]  # as the test says


def test_a_write_answers_its_dot_token_and_context(node: Make) -> None:
    eu = node("eu")
    first = eu.write("users/4", set={"name": "Lisa"})
    second = eu.write("users/4", set={"name": "Lisa"}, context={})
    origin = eu.replica.origin
    assert first.events[0].vector == first.events[0].context == {origin: 1}
    assert second.events[0].vector == {origin: 2}
    assert second.events[0].context is None, "the author had not seen the first: no vector says so"
    assert milliseconds(first.timestamp) == NOW
    assert second.timestamp == first.timestamp + 1


def test_a_transaction_names_what_arrived_since_the_one_before(node: Make) -> None:
    eu, us, ap = node("eu"), node("us"), node("ap")
    us.write("s", set={"n": 1})
    ap.write("s", set={"n": 2})
    named: list[list[tuple[str, int]]] = []
    for other in (us, None, ap, us):
        if other is not None:
            eu.pull_all(other)
        eu.write("s", set={"n": 3})
        header = decode_header(eu.transactions()[-1][0].header)
        named.append([(seen.origin, seen.seq) for seen in header.seen])
        us.write("t", set={"n": 4})
    assert named == [[(us.replica.origin, 1)], [], [(ap.replica.origin, 1)], [(us.replica.origin, 4)]]


def test_commands_of_one_turn_see_each_other(node: Make) -> None:
    eu = node("eu")
    outcomes = eu.replica.turn(
        [
            command("users/4", 1, absent=("users/4",)),
            command("users/4", 2, absent=("users/4",)),
            command("users/4", 3, expect={"users/4": ({eu.replica.origin: 1},)}),
        ],
        NOW,
    )
    assert [type(outcome) for outcome in outcomes] == [Written, ConditionFailed, Written]
    assert eu.resolved("users/4").registers == {"n": 3}


def test_expectations_are_exact_for_streams_and_prefixes(node: Make) -> None:
    eu = node("eu")
    eu.write("users/4", set={"n": 0})
    here = {eu.replica.origin: 1}
    failed = refused(eu, command("users/4", expect={"users/4": ({},)}), ConditionFailed)
    assert isinstance(failed, ConditionFailed)
    assert failed.vector == here
    assert str(failed) == "stream 'users/4' is not in the expected state"
    failed = refused(eu, command("users/4", expect={"users/": ({},)}), ConditionFailed)
    assert str(failed) == "prefix 'users/' is not in the expected state"
    eu.run(command("users/5", expect={"users/4": ({}, here), "users/": (here,), "groups/": ({},)}))
    refused(eu, command("users/6", expect={"": (here,)}), ConditionFailed)


def test_existence_is_of_the_answer_not_of_events(node: Make) -> None:
    eu = node("eu")
    refused(eu, command("users/4", present=("users/4",)), UnknownStream)
    eu.run(command("users/4", absent=("users/4",)))
    eu.write("users/4", delete=True)
    gone = refused(eu, command("users/4", present=("users/4",)), UnknownStream)
    assert isinstance(gone, UnknownStream)
    assert gone.vector == {eu.replica.origin: 2}
    eu.run(command("users/4", absent=("users/4",)))


def test_a_context_beyond_the_node_is_refused_and_one_beyond_the_stream_is_cut(node: Make) -> None:
    eu = node("eu")
    eu.write("users/4", set={"n": 1})
    eu.write("users/5", set={"n": 1})
    origin = eu.replica.origin
    ahead = Command((Draft("users/4", operations(set={"n": 2}), context={origin: 9}),))
    refused(eu, ahead, ContextAhead)
    written = eu.write("users/4", set={"n": 2}, context={origin: 2})
    assert eu.events()["users/4"][-1].context == {origin: 1}
    assert written.events[0].context == {origin: 3}


def test_a_merge_patch_works_on_what_the_turn_has_reached(node: Make) -> None:
    eu = node("eu")
    patches: list[dict[str, JSON]] = [{"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": None, "z": [3]}, "b": None}]
    eu.replica.turn([Command((Draft("s", merge=patch),)) for patch in patches], NOW)
    assert eu.resolved("s").registers == {"a": {"x": 1, "z": [3]}}


def test_a_repeated_request_is_answered_as_the_first_in_every_region(node: Make) -> None:
    eu, us = node("eu"), node("us")
    eu.write("users/4", set={"n": 0})
    drafts = (Draft("users/4", operations(set={"n": 1}), context={}), Draft("users/5", operations(set={"n": 1})))
    asked = Command(drafts, actor="lisa", request=("key", b"f" * 16))
    first = eu.run(asked)
    us.pull_all(eu)
    for one in (eu, us):
        again = one.run(asked)
        assert (again.timestamp, again.events, again.repeated) == (first.timestamp, first.events, True)
        other = Command(drafts, actor="lisa", request=("key", b"g" * 16))
        refused(one, other, RequestMismatch)
    assert us.run(Command(drafts, actor="omar", request=("key", b"g" * 16))).repeated is False


def test_a_request_that_two_regions_took_is_answered_by_each_as_it_did(node: Make) -> None:
    eu, us = node("eu"), node("us")
    asked = command("users/4", request=("key", b"f" * 16))
    first = {one: one.run(asked) for one in (eu, us)}
    eu.pull_all(us)
    us.pull_all(eu)
    for one in (eu, us):
        again = one.run(asked)
        assert (again.events, again.repeated) == (first[one].events, True)


def test_a_request_is_remembered_over_a_restart_and_for_a_day(node: Make) -> None:
    eu = node("eu")
    asked = command("users/4", request=("key", b"f" * 16))
    eu.run(asked)
    eu.replica.close()
    eu.reopen()
    assert eu.run(asked).repeated
    eu.now_ms += limits.REQUEST_KEPT_MS + 1
    assert not eu.run(asked).repeated
    assert eu.run(asked).repeated, "the newer one is remembered now"


def test_expired_requests_leave_the_store(node: Make) -> None:
    eu = node("eu")
    for number in range(50):
        eu.run(command("s", number, request=(f"old{number}", b"f" * 16)))
    eu.now_ms += limits.REQUEST_KEPT_MS + 1
    for number in range(200):
        eu.run(command("s", number, request=(f"new{number}", b"f" * 16)))
    with eu.replica.read() as snapshot:
        assert len(list(snapshot.walk("requests"))) < 220


def test_an_imported_event_is_skipped_the_second_time_for_ever(node: Make) -> None:
    eu, us = node("eu"), node("us")
    imported = command("users/4", source=Source("hr.ndjson", 7))
    first = eu.run(imported)
    us.pull_all(eu)
    for one in (eu, us):
        one.now_ms += 10 * limits.REQUEST_KEPT_MS
        assert one.run(imported).events == first.events
    assert not us.run(command("users/4", source=Source("hr.ndjson", 8))).repeated
    two = Command((Draft("a", operations(set={"n": 1})), Draft("b", operations(set={"n": 1}))), source=Source("f", 1))
    us.run(two)
    assert us.run(two).repeated
    refused(us, command("a", source=Source("f", 1)), RequestMismatch)


def test_a_clock_behind_its_timestamps_refuses_writes_until_it_catches_up(node: Make) -> None:
    eu = node("eu", max_drift_ms=1_000)
    eu.write("s", set={"n": 1})
    eu.now_ms -= 501
    refused(eu, command("s"), ClockAhead)
    eu.now_ms += 1
    eu.run(command("s"))


def test_nothing_is_stamped_beyond_the_last_timestamp(node: Make) -> None:
    eu, us = node("eu"), node("us")
    for one in (eu, us):
        one.now_ms = milliseconds(TIMESTAMP_MAX)
    us.replica.mirror.clock = TIMESTAMP_MAX - 1
    us.write("s", set={"n": 1})
    eu.pull_all(us)
    refused(us, command("s"), ClockAhead)
    refused(eu, command("s"), ClockAhead)


def test_the_clock_survives_a_restart_with_a_wall_clock_that_went_back(node: Make) -> None:
    eu = node("eu")
    first = eu.write("s", set={"n": 1})
    eu.replica.close()
    eu.reopen()
    eu.now_ms -= 20_000
    assert eu.write("s", set={"n": 2}).timestamp > first.timestamp


def nested(levels: int, kind: type[list[JSON]] | type[dict[str, JSON]]) -> JSON:
    value: JSON = 0
    for _ in range(levels):
        value = [value] if kind is list else {"k": value}
    return value


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        (lambda: Draft("", operations(set={"n": 1})), "empty segment"),
        (lambda: Draft("users//4", operations(set={"n": 1})), "empty segment"),
        (lambda: Draft("s", ()), "empty"),
        (lambda: Draft("s", (), merge={}), "empty"),
        (lambda: Draft("s", operations(set={"": 1})), "must not be empty"),
        (lambda: Draft("s", operations(set={"n": float("nan")})), "finite"),
        (lambda: Draft("s", operations(set={"n": 1 << 64})), "64 bits"),
        (lambda: Draft("s", operations(set={"n": "\ud800"})), "surrogate"),
        (lambda: Draft("s", operations(set={"n": nested(limits.VALUE_DEPTH_MAX + 1, list)})), "deeper"),
        (lambda: Draft("s", operations(set={"n": nested(limits.VALUE_DEPTH_MAX + 1, dict)})), "deeper"),
        (lambda: Draft("s", operations(add={"m": ["x", "x"]})), "twice"),
        (lambda: Draft("s", operations(add={"m": ["x"]}, remove={"m": ["x"]})), "twice"),
        (lambda: Draft("s", operations(add={"m": ["x"]}, delete=True)), "alone"),
        (lambda: Draft("s", operations(add={"m": ["x" * 481]})), "480"),
        (lambda: Command(()), "at least one"),
        (lambda: Command((Draft("s", operations(delete=True)),) * 2), "twice"),
        (lambda: Command((Draft("s", operations(delete=True)),), actor=""), "actor"),
    ],
)
def test_what_is_wrong_in_itself_never_becomes_a_command(draft: Callable[[], object], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        draft()


@pytest.mark.parametrize("kind", [list, dict])
def test_a_value_is_nested_as_deep_as_it_may_be(node: Make, kind: type[list[JSON]] | type[dict[str, JSON]]) -> None:
    value = nested(limits.VALUE_DEPTH_MAX, kind)
    eu = node("eu")
    eu.write("s", set={"n": value})
    assert eu.resolved("s").registers["n"] == value


def test_limits_of_size(node: Make) -> None:
    eu = node("eu")
    big = "x" * (limits.EVENT_BYTES_MAX // 2)
    refused(eu, Command((Draft("s", operations(set={"a": big, "b": big})),)), TooLarge)
    many = tuple(Draft(f"s/{n}", operations(set={"a": big})) for n in range(17))
    refused(eu, Command(many), TooLarge)
    with pytest.raises(TooLarge):
        Command(tuple(Draft(f"s/{n}", operations(delete=True)) for n in range(limits.TRANSACTION_EVENTS_MAX + 1)))
    for number in range(7):
        eu.write("wide", set={f"f{number}": big})
    refused(eu, Command((Draft("wide", operations(set={"f9": big, "g": 1})),)), TooLarge)


def test_what_one_turn_writes_to_a_stream_is_bounded_too(node: Make) -> None:
    eu = node("eu")
    big = "x" * (limits.EVENT_BYTES_MAX // 2)
    eu.write("wide", set={"n": 1})
    commands = [Command((Draft("wide", operations(set={f"f{number}": big})),)) for number in range(12)]
    outcomes = [type(outcome) for outcome in eu.replica.turn(commands, NOW)]
    assert outcomes == [Written] * 7 + [TooLarge] * 5
    with eu.replica.read() as snapshot:
        assert snapshot.stream_bytes("wide") <= limits.STREAM_ROW_BYTES_MAX


def test_a_turn_may_add_more_elements_to_one_stream_than_its_row_could_hold(node: Make) -> None:
    eu = node("eu")
    commands = [Command((Draft("s", operations(add={"m": [f"{n:0400}"]})),)) for n in range(4_000)]
    assert {type(outcome) for outcome in eu.replica.turn(commands, NOW)} == {Written}
    with eu.replica.read() as snapshot:
        row = snapshot.stream("s")
        assert row is not None
        assert row.sets == {"m": 4_000}
        assert row.size < 1_000


def test_a_turn_may_write_one_register_more_often_than_its_row_could_hold(node: Make) -> None:
    eu = node("eu")
    commands = [Command((Draft("s", operations(set={"n": "x" * 100_000})),)) for _ in range(30)]
    assert {type(outcome) for outcome in eu.replica.turn(commands, NOW)} == {Written}


def test_every_valid_name_and_element_can_be_stored(node: Make) -> None:
    eu = node("eu")
    stream = "/".join(["é" * 7] * 15 + ["x" * 30])
    assert len(stream.encode()) == limits.STREAM_NAME_BYTES_MAX
    field, element = "f" * limits.FIELD_BYTES_MAX, "\U0001f600" * (limits.ELEMENT_BYTES_MAX // 4)
    eu.write(stream, add={field: [element, "a"]}, set={field: None})
    eu.check_answers()
    assert eu.resolved(stream).sets == {field: ("a", element)}


def test_a_store_knows_so_many_origins_and_no_more(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    eu, us = node("eu"), node("us")
    us.write("s", set={"n": 1})
    eu.pull_all(us)
    monkeypatch.setattr("replication.batch.ORIGINS_MAX", 1)
    refused(eu, command("s"), TooManyOrigins)


def test_a_store_that_knows_as_many_origins_as_it_may_goes_on_with_those(
    node: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    eu, us = node("eu"), node("us")
    us.write("s", set={"n": 1})
    eu.pull_all(us)
    eu.write("s", set={"n": 2})
    monkeypatch.setattr("replication.batch.ORIGINS_MAX", 2)
    eu.write("s", set={"n": 3})
    us.write("s", set={"m": 4})
    eu.pull_all(us)
    assert eu.resolved("s").registers == {"m": 4, "n": 3}
