"""Group commit, with the disk in the test's hand: what is worked out while a commit is on its way."""

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import pytest
import trio

from node.committer import Committer, Overloaded, TurnFailed
from node.disk import LocalDisk
from replication import replica as replica_module
from replication.batch import Batch
from replication.command import Command, Draft, Written
from replication.errors import StoreFailed, StoreFull
from replication.limits import PURGE_ROWS_MAX
from replication.replica import Arrival, NewIncarnation, Outcome, Replica
from replication.store import Store
from tests.disk_by_hand import DiskByHand
from tests.helpers import NOW, Node, check_store, operations


class Clock:
    def now_ms(self) -> int:
        return NOW


class Committing:
    """A committer over a real store."""

    def __init__(self, directory: Path) -> None:
        self.replica = Replica.open(directory, region="eu", cluster="test", secret=bytes(range(32)))
        self.disk = DiskByHand()
        self.commits = 0
        self.told: dict[str, Outcome] = {}
        self.committer = Committer(self.replica, Clock(), self.disk, self._committed, self._idle)

    def _committed(self) -> None:
        self.commits += 1

    def _idle(self) -> None:
        assert self.committer.committing

    def write(self, name: str, **asked: Any) -> None:
        """Write to the stream of this name; what becomes of it is told under its name."""
        command = Command((Draft(name, operations(set={"n": len(self.told)})),), **asked)
        self.committer.enqueue([command], 100, lambda outcomes: self.told.update({name: outcomes[0]}))

    def kinds(self) -> dict[str, type]:
        return {name: type(outcome) for name, outcome in self.told.items()}

    def seqs(self) -> dict[str, int]:
        return {name: one.events[0].dot.seq for name, one in self.told.items() if isinstance(one, Written)}


@pytest.fixture
def eu(workplace: Path) -> Any:
    made = Committing(workplace / "eu")
    yield made
    made.replica.close()
    check_store(workplace / "eu")


@contextmanager
def broken(owner: object, name: str, error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


async def test_what_comes_while_a_commit_is_on_its_way_is_worked_out_on_it_and_told_after_it(eu: Committing) -> None:
    eu.write("a")
    eu.disk.begin()
    eu.write("b", present=("a",))
    eu.write("c", absent=("a",))
    assert eu.told == {}
    assert eu.committer.waiting == 2
    eu.disk.end()
    assert (eu.seqs(), eu.commits) == ({"a": 1}, 1)
    eu.disk.begin()
    assert (eu.seqs(), eu.committer.waiting, eu.committer.committing) == ({"a": 1}, 0, True)
    eu.disk.end()
    assert eu.seqs() == {"a": 1, "b": 2}
    assert list(eu.told) == ["a", "b", "c"]
    assert not eu.committer.committing


async def test_a_full_disk_refuses_its_commit_and_what_was_worked_out_on_it_is_done_anew(eu: Committing) -> None:
    eu.write("a")
    eu.disk.begin()
    eu.write("b")
    with broken(Store, "_commit", lmdb.MapFullError("no room")):
        eu.disk.end()
    assert eu.kinds() == {"a": StoreFull}
    eu.disk.begin()
    eu.disk.end()
    assert (eu.seqs(), eu.commits) == ({"b": 1}, 1)


async def test_a_disk_that_fails_refuses_everything_that_waits_and_comes(eu: Committing) -> None:
    eu.write("a")
    eu.disk.begin()
    eu.write("b")
    with broken(Store, "_commit", lmdb.DiskError("no")):
        eu.disk.end()
    eu.write("c")
    eu.disk.begin()
    eu.disk.end()
    assert eu.kinds() == dict.fromkeys("abc", StoreFailed)
    assert eu.commits == 0


async def test_a_node_that_was_rolled_back_writes_nothing_that_waits_under_its_old_name(eu: Committing) -> None:
    eu.write("a")
    eu.disk.begin()
    eu.write("b")
    before = eu.replica.origin
    eu.committer.enqueue([NewIncarnation(before, 7)], 0, lambda outcomes: None)
    for _ in range(2):
        eu.disk.end()
        if eu.committer.waiting:
            eu.disk.begin()
    assert eu.replica.origin != before
    assert {one.events[0].dot.origin for one in eu.told.values() if isinstance(one, Written)} == {
        before,
        eu.replica.origin,
    }
    assert eu.seqs() == {"a": 1, "b": 1}


async def test_a_mistake_of_ours_ends_one_turn_and_not_the_node(
    eu: Committing, caplog: pytest.LogCaptureFixture
) -> None:
    eu.write("a")
    eu.disk.begin()
    with broken(replica_module, "write", ZeroDivisionError()):
        eu.write("b")
    eu.write("c")  # not into a turn that failed
    for _ in range(3):
        eu.disk.end()
        if eu.committer.waiting:
            eu.disk.begin()
    assert eu.kinds() == {"a": Written, "b": TurnFailed, "c": Written}
    eu.write("d")
    with broken(Batch, "flush", ZeroDivisionError()):
        eu.disk.begin()
    eu.write("e")
    eu.disk.end()
    eu.disk.begin()
    eu.disk.end()
    assert eu.kinds() == {"a": Written, "b": TurnFailed, "c": Written, "d": TurnFailed, "e": Written}
    assert eu.seqs() == {"a": 1, "c": 2, "e": 3}
    assert caplog.text.count("ZeroDivisionError") == 2
    caplog.clear()


async def test_a_store_that_cannot_be_read_refuses_and_goes_on(eu: Committing) -> None:
    with broken(Store, "reading", lmdb.ReadersFullError("too many")):
        eu.write("a")
        eu.disk.begin()
        eu.disk.end()
    eu.write("b")
    eu.disk.begin()
    eu.disk.end()
    assert eu.kinds() == {"a": StoreFailed, "b": Written}


def arrivals(workplace: Path, count: int) -> list[Arrival]:
    """What a peer wrote, a transaction each."""
    us = Node(workplace / "us", "us")
    for number in range(count):
        us.write(f"theirs/{number}", set={"n": number})
    made = [Arrival([transaction]) for transaction in us.transactions()]
    us.close()
    return made


async def test_what_clients_write_goes_before_what_arrived_and_does_not_wait_for_more_of_it(
    eu: Committing, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.committer.PIECE_TRANSACTIONS_MAX", 2)
    for number, arrival in enumerate(arrivals(workplace, 9)):
        eu.committer.enqueue([arrival], 100, partial(lambda name, told: eu.told.update({name: told[0]}), f"{number}"))
    assert eu.committer.work_out()
    eu.write("a")
    assert not eu.committer.work_out(), "a client waits, and the disk does not"
    eu.disk.begin()
    assert eu.committer.waiting == 7
    assert eu.committer.work_out(), "the next commit takes arrivals while this one is on its way"
    eu.write("b")
    eu.disk.end()
    assert list(eu.told) == ["0", "1", "a"]
    eu.disk.begin()
    eu.disk.end()
    assert list(eu.told)[3:] == ["2", "3", "b", "4", "5", "6", "7", "8"]
    assert eu.seqs() == {"a": 1, "b": 2}
    assert len(eu.replica.vector) == 2


async def test_what_waits_is_bounded_and_done_before_the_end(eu: Committing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.committer.WAITING_MAX", 3)
    monkeypatch.setattr("node.committer.BATCH_TRANSACTIONS_MAX", 2)
    eu.write("a")
    eu.disk.begin()
    for name in "bcd":
        eu.write(name)
    with pytest.raises(Overloaded):
        eu.write("e")
    eu.disk.end()
    await eu.committer.close()
    assert eu.seqs() == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert eu.commits == 3
    with pytest.raises(Overloaded):
        eu.write("f")


def delete_much(eu: Committing) -> None:
    """Leave behind what three commits and more have to clear away."""
    added = [operations(add={"m": [f"{part}.{number}" for number in range(PURGE_ROWS_MAX)]}) for part in range(4)]
    for made in (*added, operations(delete=True)):
        command = Command((Draft("s", made),))
        eu.committer.enqueue([command], 0, lambda outcomes: eu.told.update(s=outcomes[0]))
        eu.disk.begin()
        eu.disk.end()
    assert eu.kinds() == {"s": Written}


async def test_what_a_delete_left_behind_is_cleared_away_though_nobody_writes(eu: Committing) -> None:
    delete_much(eu)
    written, commits = eu.commits, 0
    while eu.replica.mirror.purging:
        eu.disk.begin()
        eu.disk.end()
        commits += 1
    assert commits >= 2
    assert eu.commits == written, "nobody is woken by it"
    assert eu.disk.work.next_commit() is None
    with eu.replica.read() as snapshot:
        assert list(snapshot.walk("elements")) == []


async def test_what_an_earlier_process_left_behind_is_cleared_away_though_nobody_writes(workplace: Path) -> None:
    before = Node(workplace / "eu", "eu")
    before.write("s", add={"m": [str(number) for number in range(3 * PURGE_ROWS_MAX)]})
    before.write("s", delete=True)
    before.close()
    replica = before.reopen()
    with replica.read() as snapshot:
        assert len(list(snapshot.walk("purge"))) == 1
    committer = Committer(replica, Clock(), LocalDisk(), lambda: None, lambda: None)
    with trio.fail_after(20):
        while replica.mirror.purging:  # nobody is told of it
            await trio.sleep(0.01)
    await committer.close()
    with replica.read() as snapshot:
        assert list(snapshot.walk("elements")) == []
    before.close()


async def test_clearing_away_waits_for_a_store_that_takes_writes_and_holds_up_no_shutdown(eu: Committing) -> None:
    delete_much(eu)
    with broken(Store, "_commit", lmdb.MapFullError("no room")):
        eu.disk.begin()
        eu.disk.end()
    assert eu.disk.work.next_commit() is None, "it would come to nothing, again and again"
    eu.write("a")
    eu.disk.begin()
    eu.disk.end()
    await eu.committer.close()
    assert eu.replica.mirror.purging


async def test_what_shares_a_commit_is_bounded_by_its_bytes(eu: Committing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.committer.BATCH_BYTES_MAX", 250)  # each write says that it has 100
    eu.write("a")
    eu.disk.begin()
    for name in "bcdef":
        eu.write(name)
    for done in ("a", "bc", "de", "f"):
        eu.disk.end()
        assert "".join(eu.told)[-len(done) :] == done
        if done != "f":
            eu.disk.begin()
    assert eu.commits == 4


async def test_who_was_cancelled_is_not_told_and_its_write_is_done(
    eu: Committing, caplog: pytest.LogCaptureFixture
) -> None:
    command = Command((Draft("a", operations(set={"n": 1})),))
    with trio.move_on_after(0) as gone:
        await eu.committer.submit([command])
    assert gone.cancelled_caught
    eu.write("b")
    eu.disk.begin()
    eu.disk.end()
    assert eu.seqs() == {"b": 2}
    assert not caplog.records


async def test_what_shares_a_commit_is_bounded_by_its_operations(
    eu: Committing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.committer.BATCH_OPERATIONS_MAX", 5)
    eu.write("a")
    eu.disk.begin()
    many = operations(add={"m": list("xyz")})
    eu.committer.enqueue([Command((Draft("b", many), Draft("c", many)))], 9, lambda told: eu.told.update(b=told[0]))
    eu.committer.enqueue([Command((Draft("d", merge={"n": 1, "m": 2}),))], 9, lambda told: eu.told.update(d=told[0]))
    for name in "efg":
        eu.write(name)
    eu.committer.enqueue([NewIncarnation("us.00000001", 9)], 9, lambda told: eu.told.update(new=told[0]))
    eu.write("h")
    for done in ("a", "b", "defgnew", "h"):  # a transaction is never split
        eu.disk.end()
        assert "".join(eu.told)[-len(done) :] == done
        if done != "h":
            eu.disk.begin()
    assert eu.commits == 4
