"""One LMDB environment: opening, refusing, reading a snapshot, committing a batch.

`sync=True`: a commit returns once the disk has it, and readers see it only then (I1). Nothing above this file and
the two beside it (`snapshot`, `batch`) knows LMDB.

A store remembers the identity of its own file. A copy has another one, so a clone or a restored backup is known
at once and its node takes a new incarnation before it writes (I6); a file rolled back in place is known when a
peer offers events of this node's own origin beyond its log.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import lmdb
import msgspec

from replication import tables
from replication.errors import StoreFailed, StoreFull, StoreRefused
from replication.limits import MAP_BYTES, READERS_MAX, ROOM_LEAST_BYTES
from replication.packing import DECODE_ERRORS, pack
from replication.tables import STORE_FORMAT, TABLES, Head, OriginNumbers

LOCK_FILE = "lock"
READER_BYTES = 64
"""What LMDB keeps of a reader."""


@dataclass(slots=True)
class Mirror:
    """What memory keeps of the store. A batch works on a copy, which replaces it once the commit has happened.

    Shape: `heads` by origin, and their `numbers`; `clock`, `position`, `streams` are the highest timestamp, arrival
    position and stream number given out; `purging` is whether dead element rows wait to be cleared away;
    `transaction` is the one that left the store so: whoever reads what it left need not read the heads again.
    """

    origin: str
    heads: dict[str, Head]
    clock: int
    position: int
    streams: int
    purging: bool
    numbers: OriginNumbers
    transaction: int = -1

    def copy(self) -> "Mirror":
        return replace(self, heads=dict(self.heads), numbers=OriginNumbers(self.heads))

    @property
    def vector(self) -> dict[str, int]:
        """Everything this node holds."""
        return {origin: head.seq for origin, head in self.heads.items()}


@dataclass(frozen=True, slots=True)
class Meta:
    """What a store is. Shape: `identity` is the inode of its file."""

    cluster: str
    region: str
    origin: str
    identity: int
    feature_level: int
    format: int = STORE_FORMAT


class _Format(msgspec.Struct):
    """What every version's `Meta` has."""

    format: int


class Store:
    """An open environment. Close it with `close`; a store that is not closed loses nothing that was committed."""

    def __init__(self, directory: Path, map_bytes: int = MAP_BYTES, *, readonly: bool = False) -> None:
        """Open the store in `directory`, which is made where it is absent.

        Raises: StoreRefused, where another process writes to it, or it is not a store.
        """
        self.directory = directory
        self._file = directory / "data.mdb"
        self._lock_fd = -1
        if not readonly:
            self._lock_fd = _lock(directory)
        try:
            self._open(readonly, map_bytes)
        except lmdb.MemoryError:
            self._unlock()
            why = f"the system gives no {map_bytes:,} bytes of address space: raise `ulimit -v`, or lower map_bytes"
            raise StoreRefused(f"{directory} cannot be opened as a store: {why}") from None
        except (lmdb.Error, OSError) as error:
            self._unlock()
            raise StoreRefused(f"{directory} cannot be opened as a store: {error}") from None
        except StoreRefused:
            self._unlock()
            raise

    def _open(self, readonly: bool, map_bytes: int) -> None:
        if readonly and not self._file.is_file():
            raise StoreRefused(f"{self.directory} holds no store (no data.mdb)")
        _make_room_for_readers(self.directory)
        self.env = lmdb.open(
            str(self.directory),
            map_size=map_bytes,
            max_dbs=len(TABLES),
            max_readers=READERS_MAX,
            readonly=readonly,
            create=not readonly,
            readahead=False,
            meminit=False,
        )
        mapped = self._mapped()  # before the length: a node that is looked at may have both grow
        file = self._file.stat()
        held, self._opened = file.st_size, file.st_ino
        try:
            if held < mapped:
                self._fill_up(held, mapped, readonly)
            self.env.reader_check()
            self._check_ours()
            self.dbs = {"meta": self.env.open_db(b"meta", create=not readonly)}
            with self.reading() as transaction:
                self.read_meta(transaction)  # of another format: to be refused before a table is missed, or made
            self.dbs |= {name: self.env.open_db(name.encode(), create=not readonly) for name in TABLES}
        except lmdb.Error as error:
            why = f"{self.directory} is not a store of Atoll's: {error}"
            if held < mapped and isinstance(error, lmdb.CorruptedError):
                why = self._cut_short(held, mapped)
                os.truncate(self._file, held)
            self.env.close()
            raise StoreRefused(why) from None
        except BaseException:
            self.env.close()
            raise

    def _mapped(self) -> int:
        """How long the file has to be for every page that the environment counts."""
        pages: int = self.env.info()["last_pgno"] + 1
        return pages * int(self.env.stat()["psize"])

    def _fill_up(self, held: int, mapped: int, readonly: bool) -> None:
        """Have the file hold whatever may be read through the map: else the system ends who reads it (SIGBUS).

        Pages beyond its end were free and never written, or a copy broke off: those read as damaged now.
        """
        if readonly:
            raise StoreRefused(self._cut_short(held, mapped))
        os.truncate(self._file, mapped)

    def _cut_short(self, held: int, mapped: int) -> str:
        there = f"{held} of {mapped} bytes are there"
        return f"{self.directory} is cut short, as by a copy that broke off: {there}"

    def _check_ours(self) -> None:
        """An environment that holds something, and not our tables, is somebody else's: nothing may be put there."""
        with self.env.begin() as transaction:
            if transaction.stat()["entries"] and transaction.get(b"meta") is None:
                raise lmdb.InvalidError("it holds tables that are not ours")

    def close(self) -> None:
        """Close the environment. No transaction may be open."""
        self.env.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def last_transaction(self) -> int:
        """The transaction that left the store as it is."""
        transaction: int = self.env.info()["last_txnid"]
        return transaction

    @property
    def identity(self) -> int:
        """What tells this file from a copy of it."""
        return self._file.stat().st_ino

    def reading(self) -> lmdb.Transaction:
        """A read transaction: one committed state, for as long as it is open. To be used with `with`, or aborted."""
        return self.env.begin(buffers=False)

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction]:
        """A write transaction, committed and synced when the block ends, rolled back when it raises.

        Raises: StoreFull where the map has no room; StoreFailed where the commit failed otherwise.
        """
        if not self._is_in_place():
            raise StoreFailed(f"{self._file} was removed, or replaced, under the running node")
        try:
            self.env.reader_check()  # one that was killed would keep every page of its time from being used again
            transaction = self.env.begin(write=True)
        except lmdb.Error as error:
            raise StoreFailed(f"the store cannot begin a write: {error}") from None
        try:
            yield transaction
            self._commit(transaction)
        except lmdb.MapFullError:
            transaction.abort()
            raise StoreFull("the store's map is full: raise map_bytes") from None
        except lmdb.Error as error:
            transaction.abort()
            if self._has_no_room(error):
                raise StoreFull(f"the disk is full: free some of it; the store went no further: {error}") from None
            raise StoreFailed(f"the store failed: {error}") from error
        except BaseException:
            transaction.abort()
            raise

    def _is_in_place(self) -> bool:
        """Whether the file is where the next process will look for it: what is written to another is lost then."""
        try:
            return self.identity == self._opened
        except OSError:
            return False

    def _has_no_room(self, error: lmdb.Error) -> bool:
        """Whether a commit came to nothing because its pages found no room; the next may find some.

        LMDB says EIO, too, where the system wrote less than it was given: as on a disk that is about to be full.
        """
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        try:
            disk = os.statvfs(self.directory)
        except OSError:
            return False
        return os.strerror(errno.EIO) in str(error) and disk.f_bavail * disk.f_frsize < ROOM_LEAST_BYTES

    def _commit(self, transaction: lmdb.Transaction) -> None:
        """The instant in which a turn becomes durable. A simulated disk has its faults here."""
        transaction.commit()

    def get(self, transaction: lmdb.Transaction, table: str, key: bytes) -> bytes | None:
        return cast("bytes | None", transaction.get(key, db=self.dbs[table]))  # buffers=False: never a view

    def read_meta(self, transaction: lmdb.Transaction) -> Meta | None:
        """What this store is, or None where it is new.

        Raises: StoreRefused, where it has another format, or is spoilt.
        """
        row = self.get(transaction, "meta", b"store")
        if row is None:
            return None
        try:
            found = msgspec.msgpack.decode(row, type=_Format).format
            if found != STORE_FORMAT:
                raise StoreRefused(
                    f"{self.directory} is a store of format {found}; this version reads {STORE_FORMAT}"
                )
            return msgspec.msgpack.decode(row, type=Meta)
        except DECODE_ERRORS as error:
            raise StoreRefused(f"{self.directory}: what the store says of itself cannot be read: {error}") from None

    def write_meta(self, transaction: lmdb.Transaction, meta: Meta) -> None:
        fields = {name: getattr(meta, name) for name in Meta.__slots__}
        transaction.put(b"store", pack(fields), db=self.dbs["meta"])

    def read_mirror(self, transaction: lmdb.Transaction, origin: str) -> Mirror:
        """What memory keeps, as this transaction sees it. Raises: StoreRefused, where its rows are spoilt."""
        try:
            heads = dict(
                tables.decode_origin(cast(bytes, key), cast(bytes, row))
                for key, row in transaction.cursor(db=self.dbs["origins"])
            )
            counters = self.get(transaction, "meta", b"counters")
            clock, position, streams = _decode_counters(counters) if counters else (0, 0, 0)
        except (*DECODE_ERRORS, struct.error) as error:
            raise StoreRefused(
                f"{self.directory}: what the store says of its origins cannot be read: {error}"
            ) from None
        purging = transaction.cursor(db=self.dbs["purge"]).first()
        return Mirror(origin, heads, clock, position, streams, purging, OriginNumbers(heads))

    def write_counters(self, transaction: lmdb.Transaction, mirror: Mirror) -> None:
        counters = [mirror.clock, mirror.position, mirror.streams]
        transaction.put(b"counters", pack(counters), db=self.dbs["meta"])


_decode_counters = msgspec.msgpack.Decoder(tuple[int, int, int]).decode


def _make_room_for_readers(directory: Path) -> None:
    """Give LMDB's table of readers its room on the disk, before it is mapped.

    LMDB makes it a hole: on a full disk the system would end who writes itself into it (SIGBUS).
    """
    try:
        with (directory / "lock.mdb").open("ab") as readers:
            os.posix_fallocate(readers.fileno(), 0, READER_BYTES * (READERS_MAX + 2))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):  # of a store that is only to be read, it is only read
            raise


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreRefused(f"{directory} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise StoreRefused(f"{directory} is in use by another process") from None
    return fd
