"""The checker finds what it is for: each way to spoil a store is found, and an unspoilt one is clean."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from crdt.dot import Dot
from replication import tables
from replication.command import Command, Draft
from replication.event import Source
from replication.limits import MILESTONE_EVENTS, PROBLEMS_MAX
from replication.packing import pack
from replication.snapshot import Snapshot
from replication.store import Store
from replication.verify import Report, verify
from tests.helpers import Node, operations

Spoil = Callable[[Snapshot], None]


@pytest.fixture
def directory(workplace: Path) -> Path:
    """A store with some of everything."""
    eu, us = Node(workplace / "eu", "eu"), Node(workplace / "us", "us", seed=9)
    eu.write("users/4", set={"name": "Lisa"}, add={"mail": ["a", "b"]})
    us.write("users/4", set={"name": "Omar"})
    eu.pull_all(us)
    eu.run(
        Command((Draft("groups/ops", operations(add={"members": ["lisa"]})), Draft("x", operations(set={"n": 1}))))
    )
    eu.run(Command((Draft("x", operations(set={"n": 2})),), source=Source("f", 1), request=("k", b"f" * 16)))
    eu.write("gone", add={"members": ["lisa"]})
    eu.write("gone", delete=True)
    for number in range(MILESTONE_EVENTS):
        eu.write("x", set={"n": number})
    eu.close()
    us.close()
    return workplace / "eu"


def put(table: str, key: bytes, row: bytes) -> Spoil:
    return lambda snapshot: assert_true(snapshot.transaction.put(key, row, db=snapshot.store.dbs[table]))


def assert_true(done: bool) -> None:
    assert done


def delete(table: str, key: bytes) -> Spoil:
    return lambda snapshot: assert_true(snapshot.transaction.delete(key, db=snapshot.store.dbs[table]))


def change_log(seq: int, change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(snapshot: Snapshot) -> None:
        key = tables.log_key(next(iter(snapshot.heads.values())).number, seq)
        put("log", key, change(snapshot.get("log", key) or b""))(snapshot)

    return spoil


def change_stream(name: str, **fields: object) -> Spoil:
    def spoil(snapshot: Snapshot) -> None:
        row = snapshot.stream(name)
        assert row is not None
        for field, value in fields.items():
            setattr(row, field, value)
        put("streams", tables.stream_key(name), tables.encode_stream(row))(snapshot)

    return spoil


def first_row(table: str, spoil: Callable[[bytes, bytes], Spoil]) -> Spoil:
    return lambda snapshot: spoil(*next(snapshot.walk(table)))(snapshot)


def move_head(snapshot: Snapshot) -> None:
    origin, head = next(iter(snapshot.heads.items()))
    row = tables.encode_origin(origin, replace(head, seq=head.seq - 1))
    put("origins", tables.origin_key(head.number), row)(snapshot)


SPOILS: dict[str, tuple[Spoil, str]] = {
    "no meta": (delete("meta", b"store"), "no description"),
    "a body changed": (change_log(1, lambda row: row[:-1] + bytes([row[-1] ^ 1])), "body of another hash"),
    "a header changed": (change_log(1, lambda row: row.replace(b"users/4", b"users/5", 1)), "chain"),
    "a hash changed": (change_log(2, lambda row: row[:16] + b"h" * 16 + row[32:]), "chain"),
    "a row cut": (change_log(2, lambda row: row[:10]), "cannot be read"),
    "a position changed": (change_log(2, lambda row: b"\0" * 7 + b"\x09" + row[8:]), "position"),
    "a pointer changed": (change_log(3, lambda row: row[:8] + b"\0" * 7 + b"\x01" + row[16:]), "event before it"),
    "an event gone": (lambda snapshot: change_gone(snapshot, 2), "missing"),
    "a head moved": (move_head, "head"),
    "a vector ahead": (change_stream("users/4", vector={}), "its log at"),
    "a register changed": (change_stream("x", stored={}), "registers"),
    "conflicts miscounted": (change_stream("x", conflicts=2), "count its conflicts"),
    "a count changed": (change_stream("groups/ops", sets={"members": 2}), "counts"),
    "a set cleared": (lambda snapshot: change_stream("groups/ops", cleared=snapshot.vector)(snapshot), "cleared"),
    "marked opaque": (change_stream("x", opaque=True), "foldable"),
    "a stream gone": (delete("streams", b"x"), "no row"),
    "a prefix gone": (delete("streams", b"users/"), "prefixes"),
    "a prefix behind": (put("streams", b"users/", pack([])), "vector of what lies below"),
    "a stream too many": (put("streams", b"y", pack([99, [], [], {}, {}, False, 0, 1, 1])), "without events"),
    "two of one number": (change_stream("x", number=1), "share a number"),
    "a member gone": (first_row("elements", lambda key, _: delete("elements", key)), "sets of stream"),
    "a dead member kept": (
        lambda snapshot: keep_dead(snapshot),
        "dead row",
    ),
    "events miscounted": (change_stream("x", events=5), "how many events"),
    "another first event": (change_stream("x", created=5), "when it was created"),
    "a milestone gone": (first_row("milestones", lambda key, _: delete("milestones", key)), "milestones of"),
    "a milestone moved": (
        first_row("milestones", lambda key, _: put("milestones", key, pack([0, 1]))),
        "milestones of",
    ),
    "a milestone too many": (put("milestones", b"\xff" * 16, pack([])), "no stream has reached"),
    "a conflict forgotten": (first_row("conflicted", lambda key, _: delete("conflicted", key)), "index of conflicts"),
    "a request astray": (put("requests", b"k" * 16, bytes(10) + b"\xff\0" + b"\0\x01" + bytes(8)), "not held"),
    "a source forgotten": (delete("requests", tables.source_key("f", 1)), "source is not indexed"),
    "counters back": (put("meta", b"counters", pack([0, 0, 0])), "position"),
}


def change_gone(snapshot: Snapshot, seq: int) -> None:
    delete("log", tables.log_key(next(iter(snapshot.heads.values())).number, seq))(snapshot)


def keep_dead(snapshot: Snapshot) -> None:
    row = snapshot.stream("gone")
    assert row is not None
    origin = next(iter(row.vector))
    key = tables.element_key(row.number, 0, "lisa")
    put("elements", key, tables.encode_additions((Dot(origin, 1),), snapshot.numbers))(snapshot)


def spoil_and_verify(directory: Path, spoil: Spoil) -> Report:
    store = Store(directory)
    with store.writing() as transaction:
        spoil(Snapshot(store, transaction))
    store.close()
    return verify(directory)


@pytest.mark.parametrize("name", SPOILS)
def test_a_spoilt_store_is_told(directory: Path, name: str) -> None:
    spoil, problem = SPOILS[name]
    report = spoil_and_verify(directory, spoil)
    assert any(problem in found for found in report.problems), report.problems


@pytest.mark.parametrize("seed", range(12))
def test_random_bytes_in_any_row_never_pass_unseen_or_crash(directory: Path, seed: int) -> None:
    """Flip one byte of one row's value in each table that the log determines."""
    rng = random.Random(seed)
    for table in ("log", "streams", "milestones", "elements", "origins"):
        store = Store(directory)
        with store.writing() as transaction:
            rows = [row for row in Snapshot(store, transaction).walk(table) if row[1]]
        store.close()
        for key, row in rows:
            place = rng.randrange(len(row))
            spoilt = row[:place] + bytes([row[place] ^ (1 << rng.randrange(8))]) + row[place + 1 :]
            report = spoil_and_verify(directory, put(table, key, spoilt))
            assert report.problems, (table, key, place)
            assert spoil_and_verify(directory, put(table, key, row)).problems == []


def test_problems_are_bounded_and_progress_is_told(directory: Path) -> None:
    report = Report()
    for number in range(PROBLEMS_MAX + 5):
        report.wrong(str(number))
    assert len(report.problems) == PROBLEMS_MAX
    told: list[tuple[int, int]] = []
    assert verify(directory, lambda done, total: told.append((done, total))).problems == []
    assert told
    assert all(done <= total for done, total in told)
