"""The store: what it refuses to open, what a full map or a failed commit leaves, what a reader sees (I1, I2)."""

import errno
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from replication.batch import Batch
from replication.command import Command, Draft, Written
from replication.errors import Refused, StoreFailed, StoreFull, StoreRefused
from replication.limits import PURGE_ROWS_MAX, READERS_MAX
from replication.replica import Replica
from replication.snapshot import Snapshot, read
from replication.store import Store
from replication.verify import verify
from tests.helpers import Node, operations

Make = Callable[..., Node]
SECRET = b"s" * 32


def opened(directory: Path, region: str = "eu", cluster: str = "test") -> Replica:
    return Replica.open(directory, region=region, cluster=cluster, secret=SECRET)


def test_a_store_of_another_cluster_region_or_format_is_refused(workplace: Path) -> None:
    opened(workplace / "s").close()
    with pytest.raises(StoreRefused, match="cluster 'test', not to 'other'"):
        opened(workplace / "s", cluster="other")
    with pytest.raises(StoreRefused, match="region 'eu', not to 'us'"):
        opened(workplace / "s", region="us")
    with pytest.raises(StoreRefused, match="a-z, 0-9"):
        opened(workplace / "t", region="EU")
    store = Store(workplace / "s")
    with store.writing() as transaction:
        fields = store.get(transaction, "meta", b"store") or b""
        transaction.put(b"store", fields.replace(b"\xa6format\x03", b"\xa6format\x07"), db=store.dbs["meta"])
        transaction.drop(store.dbs["milestones"])  # another format has other tables
    store.close()
    before = (workplace / "s" / "data.mdb").read_bytes()
    for use in (opened, verify):
        with pytest.raises(StoreRefused, match="format 7; this version reads 3"):
            use(workplace / "s")
    assert (workplace / "s" / "data.mdb").read_bytes() == before


def test_a_store_whose_description_is_spoilt_is_refused_or_verified(workplace: Path) -> None:
    opened(workplace / "s").close()
    store = Store(workplace / "s")
    with store.reading() as transaction:
        row = store.get(transaction, "meta", b"store") or b""
    store.close()
    refused = 0
    for place in range(len(row)):
        store = Store(workplace / "s")
        with store.writing() as transaction:
            spoilt = row[:place] + bytes([row[place] ^ 0x80]) + row[place + 1 :]
            transaction.put(b"store", spoilt, db=store.dbs["meta"])
        store.close()
        try:
            verify(workplace / "s")
        except StoreRefused:
            refused += 1
        with lmdb.open(str(workplace / "s"), max_dbs=16) as env, env.begin(write=True) as writing:
            writing.put(b"store", row, db=env.open_db(b"meta", writing))
    assert refused > len(row) / 2
    opened(workplace / "s").close()


@pytest.mark.parametrize("row", [b"\0\0", b"\x90", b"\x95\xa1\xff", b"\x93\0\0\xa0"])
@pytest.mark.parametrize(("table", "key"), [("origins", b"\0\0\0\0"), ("origins", b"short"), ("meta", b"counters")])
def test_a_store_whose_origins_are_spoilt_is_refused(workplace: Path, table: str, key: bytes, row: bytes) -> None:
    opened(workplace / "s").close()
    store = Store(workplace / "s")
    with store.writing() as transaction:
        transaction.put(key, row, db=store.dbs[table])
    store.close()
    with pytest.raises(StoreRefused, match="of its origins cannot be read"):
        opened(workplace / "s")
    assert "cannot be read" in verify(workplace / "s").problems[0]


def test_a_store_in_use_by_another_process_is_refused_and_can_be_verified(workplace: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from replication.replica import Replica;"
        f"Replica.open(Path(sys.argv[1]), region='eu', cluster='test', secret={SECRET!r});"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(workplace / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreRefused, match="in use by another process"):
            opened(workplace / "s")
        assert verify(workplace / "s").problems == []
        other.communicate("")
    opened(workplace / "s").close()


def test_what_is_no_store_is_refused(workplace: Path) -> None:
    (workplace / "file").write_text("x")
    with pytest.raises(StoreRefused):
        opened(workplace / "file")
    (workplace / "s").mkdir()
    (workplace / "s" / "data.mdb").write_bytes(b"this is not LMDB" * 1000)
    with pytest.raises(StoreRefused, match="cannot be opened"):
        opened(workplace / "s")
    with pytest.raises(StoreRefused, match="holds no store"):
        verify(workplace / "nothing")
    lmdb.open(str(workplace / "other"), map_size=1 << 20).close()
    with pytest.raises(StoreRefused, match="not a store"):
        verify(workplace / "other")
    with lmdb.open(str(workplace / "foreign"), max_dbs=1) as foreign:
        foreign.open_db(b"their table")
    before = (workplace / "foreign" / "data.mdb").read_bytes()
    for _ in range(2):
        with pytest.raises(StoreRefused, match="not ours"):
            opened(workplace / "foreign")
    assert (workplace / "foreign" / "data.mdb").read_bytes() == before


def test_a_file_that_is_cut_short_is_refused_and_left_as_it_is(node: Make, workplace: Path) -> None:
    """Not read: the system ends whoever reads a mapped file beyond its end."""
    eu = node("eu")
    for number in range(40):
        eu.write(f"s/{number}", set={"n": "x" * 1000})
    whole = (eu.directory / "data.mdb").read_bytes()
    for length in range(8192, len(whole), len(whole) // 5 // 4096 * 4096):
        short = workplace / f"short{length}"
        short.mkdir()
        (short / "data.mdb").write_bytes(whole[:length])
        for opening in (verify, opened):
            with pytest.raises(StoreRefused, match=rf"cut short.*: {length} of {len(whole)} bytes"):
                opening(short)
        assert (short / "data.mdb").read_bytes() == whole[:length]


def test_a_file_that_ends_before_pages_which_hold_nothing_is_whole(node: Make, workplace: Path) -> None:
    eu = node("eu")
    for number in range(7):
        eu.write("s", set={"n": "x" * 100_000 if number == 0 else number})
    store = eu.replica.store
    with store.writing() as transaction:
        transaction.put(b"large", bytes(400_000), db=store.dbs["meta"])
    with store.writing() as transaction:
        transaction.delete(b"large", db=store.dbs["meta"])
    for number in range(20):
        eu.write("s", set={"n": number})
    data = (eu.directory / "data.mdb").read_bytes()
    short = workplace / "short"
    short.mkdir()
    (short / "data.mdb").write_bytes(data[:-4096] + bytes(4096))
    assert not verify(short).problems, "nothing lies on the last page"
    (short / "data.mdb").write_bytes(data[:-4096])
    copy = opened(short)
    assert copy.vector == eu.replica.vector
    copy.close()
    assert not verify(short).problems


def test_a_map_that_finds_no_room_is_told(workplace: Path) -> None:
    opens = f"""
import resource
from pathlib import Path
from replication.store import Store
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
Store(Path({str(workplace / "eu")!r}))
"""
    done = subprocess.run([sys.executable, "-c", opens], capture_output=True, text=True, check=False)
    assert "the system gives no 274,877,906,944 bytes of address space" in done.stderr.splitlines()[-1]


def test_readers_find_room_on_a_full_disk(node: Make) -> None:
    """Their table is mapped, too: a hole in it, and no room to fill it, would end who reads."""
    store = node("eu").replica.store
    table = (store.directory / "lock.mdb").stat()
    assert table.st_blocks * 512 >= table.st_size
    assert store.env.max_readers() >= READERS_MAX


@pytest.mark.parametrize(
    ("number", "free", "error"),
    [
        (errno.ENOSPC, 1 << 40, StoreFull),
        (errno.EDQUOT, 1 << 40, StoreFull),
        (errno.EIO, 0, StoreFull),  # a write that was cut short
        (errno.EIO, 1 << 40, StoreFailed),
        (errno.EACCES, 0, StoreFailed),
    ],
)
def test_a_full_disk_refuses_writes_until_there_is_room(
    node: Make, monkeypatch: pytest.MonkeyPatch, number: int, free: int, error: type[Refused]
) -> None:
    def commit(store: Store, transaction: lmdb.Transaction) -> None:
        raise lmdb.Error(f"mdb_txn_commit: {os.strerror(number)}")

    eu = node("eu")
    eu.write("s", set={"n": 1})
    before = eu.dump()
    disk = os.statvfs_result((4096, 4096, 1, 1, free // 4096, 1, 1, 1, 0, 255))
    with monkeypatch.context() as broken:
        broken.setattr(Store, "_commit", commit)
        broken.setattr(os, "statvfs", lambda _: disk)
        with pytest.raises(error, match=os.strerror(number)):
            eu.write("s", set={"n": 2})
    assert eu.dump() == before
    assert eu.replica.failed is (error is StoreFailed)
    if error is StoreFull:
        eu.write("s", set={"n": 3})
        eu.check_answers()


def test_a_reader_that_was_killed_does_not_keep_the_file_growing(node: Make) -> None:
    eu = node("eu")
    reads = f"""
import time
from pathlib import Path
from replication.store import Store
transaction = Store(Path({str(eu.directory)!r}), readonly=True).reading()
print("reading", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", reads], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        eu.write("s", set={"n": 0})
        assert str(reader.pid) in eu.replica.store.env.readers()
        reader.kill()
    eu.write("s", set={"n": 1})
    assert str(reader.pid) not in eu.replica.store.env.readers()


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_acknowledged_that_the_next_process_would_not_find(node: Make, replaced: bool) -> None:
    eu = node("eu")
    eu.write("s", set={"n": 1})
    file, aside = eu.directory / "data.mdb", eu.directory / "aside"
    file.rename(aside)
    if replaced:
        file.write_bytes(aside.read_bytes())
    with pytest.raises(StoreFailed, match="was removed, or replaced, under the running node"):
        eu.write("s", set={"n": 2})
    assert eu.replica.failed
    aside.rename(file)
    with pytest.raises(StoreFailed):
        eu.write("s", set={"n": 2})


def test_a_full_map_refuses_writes_and_goes_on_reading(node: Make) -> None:
    eu = node("eu", map_bytes=1 << 20)
    eu.write("s", set={"n": 1})
    big = [Command((Draft(f"s/{n}", operations(set={"n": "x" * 100_000})),)) for n in range(20)]
    before = eu.dump()
    outcomes = eu.replica.turn(big, eu.now_ms)
    assert {type(outcome) for outcome in outcomes} == {StoreFull}
    assert eu.dump() == before
    assert not eu.replica.failed
    eu.check_answers()
    assert isinstance(eu.replica.turn(big[:1], eu.now_ms)[0], Written)


def test_a_commit_that_fails_ends_writing_until_the_store_is_reopened(
    node: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    eu = node("eu")
    eu.write("s", set={"n": 1})
    mirror, before = eu.replica.mirror, eu.dump()

    class Failing:
        """A transaction whose commit the disk refuses."""

        def __init__(self, transaction: Any) -> None:
            self._transaction = transaction

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transaction, name)

        def commit(self) -> None:
            raise lmdb.DiskError("mdb_txn_commit: Input/output error")

    class FailingEnvironment(Failing):
        def begin(self, **options: Any) -> Any:
            transaction = self._transaction.begin(**options)
            return Failing(transaction) if options.get("write") else transaction

    whole = eu.replica.store.env
    monkeypatch.setattr(eu.replica.store, "env", FailingEnvironment(whole))
    with pytest.raises(StoreFailed, match="Input/output"):
        eu.write("s", set={"n": 2})
    monkeypatch.setattr(eu.replica.store, "env", whole)
    assert eu.replica.failed
    with pytest.raises(StoreFailed):
        eu.write("s", set={"n": 2})
    assert eu.replica.mirror is mirror, "memory follows the disk, or nothing"
    assert eu.dump() == before
    eu.replica.close()
    eu.reopen()
    assert eu.write("s", set={"n": 2}).events[0].dot.seq == 2


def test_our_own_mistake_in_a_turn_rolls_back_memory_and_disk(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    eu = node("eu")
    eu.write("s", set={"n": 1})
    mirror, before = eu.replica.mirror, eu.dump()
    monkeypatch.setattr("replication.batch.Batch.flush", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        eu.write("t", set={"n": 2})
    monkeypatch.undo()
    assert eu.replica.mirror is mirror
    assert eu.dump() == before
    assert eu.write("t", set={"n": 2}).events[0].dot.seq == 2


def test_a_process_that_is_killed_loses_nothing_that_it_acknowledged(workplace: Path) -> None:
    script = """
import sys, os, signal
from pathlib import Path
from crdt.operations import Set
from replication.command import Command, Draft
from replication.replica import Replica
replica = Replica.open(Path(sys.argv[1]), region="eu", cluster="test", secret=os.urandom(32))
for number in range(1000):
    [written] = replica.turn([Command((Draft("s", (Set("n", number),)),))], 1_700_000_000_000)
    print(written.events[0].dot.seq, flush=True)
"""
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(workplace / "s")], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            acknowledged = 0
            for _ in range(37):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
        report = verify(workplace / "s")
        assert report.problems == []
        assert report.events >= acknowledged


def test_a_turn_leaves_no_cycles_behind(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows point at what numbers origins; were that the batch, which holds the rows, none would ever be freed."""
    batches: list[weakref.ref[Batch]] = []
    begin = Batch.__init__

    def noted(batch: Batch, *arguments: Any) -> None:
        batches.append(weakref.ref(batch))
        begin(batch, *arguments)

    monkeypatch.setattr(Batch, "__init__", noted)
    node = Node(workplace / "s", "eu")
    gc.collect()
    gc.disable()
    try:
        for number in range(5):
            node.write("users/4", set={"n": number}, add={"m": [str(number)]}, remove={"m": ["gone"]})
        with pytest.raises(Refused):
            node.write("users/4", add={"m": ["x"]}, context={"us.00000000": 1})
        node.write("users/4", delete=True)
        assert [batch() for batch in batches] == [None] * len(batches)
    finally:
        gc.enable()
    node.close()


def test_what_memory_keeps_of_a_commit_is_not_read_again(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once a store is opened, nor after a commit that moved no head: the heads are the greater part of a read."""
    walked: list[str] = []
    walk = Snapshot.walk

    def noted(snapshot: Snapshot, table: str, *bounds: Any) -> Any:
        walked.append(table)
        return walk(snapshot, table, *bounds)

    def reads() -> list[str]:
        walked.clear()
        with eu.replica.read() as snapshot:
            assert snapshot.heads == eu.replica.mirror.heads
            row = snapshot.stream("s")
            assert row is not None
            assert row.vector == {origin: head.seq for origin, head in snapshot.heads.items()}
        return walked

    monkeypatch.setattr(Snapshot, "walk", noted)
    eu = node("eu")
    eu.write("s", set={"n": 1}, add={"m": [str(number) for number in range(4 * PURGE_ROWS_MAX)]})
    assert reads() == []
    eu.replica.close()
    eu.reopen()
    assert reads() == []
    eu.write("s", delete=True)
    eu.write("s", set={"n": 2})
    assert reads() == []
    assert eu.replica.mirror.purging
    for _ in range(5):  # the last of which has nothing to do
        eu.replica.turn([], eu.now_ms)
        assert reads() == []
    with eu.replica.read() as snapshot:
        assert not list(walk(snapshot, "elements"))


def test_a_read_between_a_commit_and_what_memory_keeps_of_it_reads_the_heads(node: Make) -> None:
    eu = node("eu")
    eu.write("s", set={"n": 1})
    replica, before = eu.replica, eu.replica.mirror
    turn = replica.begin()
    replica.take(turn, [Command((Draft("s", operations({"n": 2})),))], eu.now_ms)
    commit = replica.commit(turn)
    next(commit)
    with replica.read() as early:
        assert early.heads == before.heads
        assert list(commit) == []
        with read(replica.store, before) as late:
            assert late.heads == replica.mirror.heads != before.heads
            number = late.heads[replica.origin].number
            assert late.numbers.origin(number) == early.numbers.origin(number) == replica.origin
        assert early.heads == before.heads
