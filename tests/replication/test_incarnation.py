"""A dot is never used twice (I6), and where it was, that is loud and contained (I7): clones, backups, rollbacks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from replication.command import Command, Draft, Written
from replication.event_codec import decode_body, decode_header
from replication.exchange import find_forks, lacking
from replication.queries import missing
from replication.replica import SALTS_DRAWN, Arrival, NewIncarnation, fresh_origin
from replication.store import Store
from tests.helpers import NOW, Node, operations

Make = Callable[..., Node]


def backup(node: Node, place: Path) -> None:
    """Copy a store as it lies on disk."""
    node.replica.close()
    shutil.copytree(node.directory, place)
    node.reopen()


def roll_back_in_place(node: Node, place: Path) -> None:
    """Put an older state back into the very same file, so that nothing about the file tells."""
    node.replica.close()
    shutil.copyfile(place / "data.mdb", node.directory / "data.mdb")
    node.reopen()


def test_a_restart_keeps_the_incarnation(node: Make) -> None:
    eu = node("eu")
    eu.write("s", set={"n": 1})
    origin = eu.replica.origin
    eu.replica.close()
    eu.reopen()
    assert eu.replica.origin == origin
    assert eu.write("s", set={"n": 2}).events[0].dot.seq == 2


def test_a_write_that_was_queued_before_the_node_heard_of_its_rollback_has_a_new_name_too(node: Make) -> None:
    eu = node("eu")
    eu.write("s", set={"n": 1})
    old = eu.replica.origin
    write = Command((Draft("s", operations(set={"n": 2})),))
    written, _ = eu.replica.turn([write, NewIncarnation(old, 7)], NOW + 1)
    assert isinstance(written, Written)
    assert written.events[0].dot.origin == eu.replica.origin != old


def test_a_node_that_was_rolled_back_and_had_no_room_for_its_new_name_writes_nothing_under_the_old(
    node: Make, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by a peer's digest, or by an event of its own that comes back."""

    def full(store: Store, transaction: lmdb.Transaction) -> None:
        raise lmdb.MapFullError("no room")

    for told in ("digest", "event"):
        eu, us = node("eu"), node("us")
        eu.write("s", set={"n": 1})
        backup(eu, workplace / told)
        eu.write("s", set={"n": 2})
        us.pull_all(eu)
        old = eu.replica.origin
        roll_back_in_place(eu, workplace / told)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "_commit", full)
            if told == "digest":
                eu.replica.turn([NewIncarnation(old, us.replica.vector[old])], eu.now_ms)
            else:
                with us.replica.read() as snapshot:
                    comes_back = lacking(snapshot, eu.digest())
                eu.replica.turn([Arrival(comes_back)], eu.now_ms)
        assert eu.replica.origin == old
        assert eu.write("s", set={"n": 3}).events[0].dot.origin == eu.replica.origin != old
        eu.pull_all(us)
        us.pull_all(eu)
        assert eu.digest().heads == us.digest().heads


def test_no_two_events_share_a_salt_under_either_name(node: Make) -> None:
    eu = node("eu")
    old = eu.replica.origin
    events = 2 * SALTS_DRAWN
    commands = [Command((Draft("s", operations(set={"n": 1})),))] * events
    eu.replica.turn(commands, NOW)
    eu.replica.turn([NewIncarnation(old, events + 1)], NOW)
    eu.replica.turn(commands, NOW)
    with eu.replica.read() as snapshot:
        bodies = [decode_body(decode_header(row.encoded.header), row.encoded.body) for row in missing(snapshot, {})]
    assert len({body.salt for body in bodies if body is not None}) == len(bodies) == 2 * events


def test_a_clone_and_a_restored_backup_take_a_new_incarnation(node: Make, workplace: Path) -> None:
    eu, us = node("eu"), node("us")
    eu.write("s", set={"n": 1})
    backup(eu, workplace / "clone")
    clone = Node(workplace / "clone", "eu", seed=77)
    assert clone.replica.origin != eu.replica.origin
    eu.write("s", set={"n": 2})
    clone.write("s", set={"n": 3})
    for one in (eu, clone):
        us.pull_all(one)
        one.pull_all(us)
    eu.pull_all(us)
    assert eu.digest().heads == clone.digest().heads == us.digest().heads
    assert {write.value for write in us.resolved("s").live["n"]} == {2, 3}
    clone.close()


def test_a_store_rolled_back_in_place_learns_it_from_its_peers_before_it_writes(node: Make, workplace: Path) -> None:
    eu, us = node("eu"), node("us")
    eu.write("s", set={"n": 1})
    backup(eu, workplace / "backup")
    eu.write("s", set={"n": 2})
    us.pull_all(eu)
    old = eu.replica.origin
    roll_back_in_place(eu, workplace / "backup")
    assert eu.replica.origin == old, "the file says nothing"
    eu.replica.turn([NewIncarnation(old, us.replica.vector[old])], eu.now_ms)
    assert eu.replica.origin != old
    eu.write("s", set={"n": 3})
    eu.pull_all(us)
    us.pull_all(eu)
    assert eu.digest().heads == us.digest().heads
    eu.check_answers()
    eu.replica.close()
    assert eu.reopen().origin != old


@pytest.mark.parametrize("missed", [1, 2])
def test_events_of_its_own_beyond_its_log_make_a_node_take_a_new_incarnation(
    node: Make, workplace: Path, missed: int
) -> None:
    eu, us = node("eu"), node("us")
    eu.write("s", set={"n": 1})
    backup(eu, workplace / "backup")
    for number in range(missed):
        eu.write("s", set={"n": number})
    us.pull_all(eu)
    roll_back_in_place(eu, workplace / "backup")
    old = eu.replica.origin
    eu.apply(us.transactions()[-1:])
    assert eu.replica.origin != old
    eu.pull_all(us)
    assert eu.replica.vector[old] == 1 + missed


def test_a_rollback_without_peers_becomes_a_fork_that_is_named_and_contained(node: Make, workplace: Path) -> None:
    eu, us, ap = node("eu"), node("us"), node("ap")
    eu.write("s", set={"n": 1})
    backup(eu, workplace / "backup")
    eu.write("s", set={"n": "lost"})
    us.pull_all(eu)
    roll_back_in_place(eu, workplace / "backup")
    eu.write("s", set={"n": "again"})
    forked = eu.replica.origin
    us.write("t", set={"n": 1}, context={})
    ap.write("u", set={"n": 1})
    before = {one: one.dump() for one in (eu, us)}

    for one, other in ((eu, us), (us, eu)):
        with one.replica.read() as snapshot:
            [fork] = find_forks(snapshot, other.digest())
        assert (fork.origin, fork.seq) == (forked, 2)
        assert {left.reason for left in one.apply(other.transactions()).left_out} <= {"fork"}
        assert one.dump() == before[one], "us wrote after it had the lost event: all of it depends on the fork"
    for one in (eu, us):
        one.pull_all(ap)
        assert one.replica.vector[ap.replica.origin] == 1, "other origins keep flowing"


def test_two_copies_that_share_a_file_identity_fork_and_say_so(node: Make, workplace: Path) -> None:
    """The clone's file is made to look like the original: what a snapshot of a whole disk does."""
    eu, us = node("eu"), node("us")
    eu.write("s", set={"n": 1})
    backup(eu, workplace / "a")
    eu.write("s", set={"n": "first"})
    us.pull_all(eu)
    roll_back_in_place(eu, workplace / "a")
    eu.write("s", set={"n": "second"})
    assert {left.reason for left in us.apply(eu.transactions()).left_out} == {"fork"}
    values = us.events()["s"]
    assert len({event.dot for event in values}) == len(values) == 2


def test_an_incarnation_that_is_taken_is_not_taken_again() -> None:
    first = fresh_origin("eu", b"s" * 32, ())
    second = fresh_origin("eu", b"s" * 32, {first})
    assert second != first
    assert fresh_origin("eu", b"s" * 32, {first, second}) not in {first, second}
