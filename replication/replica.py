"""The replica: one region's store, and the turn that is the only way to change it.

The contract of a turn, in the order that loses nothing. It is the same code in production and in simulation.

1. The caller fills one turn at a time, and gives it the wall clock; the turn reads no clock, socket or chance.
2. The turn takes each job, in memory, against the state that the ones before it have reached: those of the turn
   before too, which may be on its way to the disk. A job that is refused has changed nothing (I8).
3. In one write transaction log, vectors, indexes and cells are put, then committed with the disk synced (I1, I2).
4. Only then memory follows: the mirror is replaced whole, or, where the commit failed, not at all. What was worked
   out on a turn that failed is stale, and is never committed.
5. The caller hands out the outcomes, refusals too, after the turn is committed.

A commit that fails otherwise than for room ends writing until the store is reopened: what the disk holds is then
known again.
"""

import gc
import hashlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import lmdb

from crdt.operations import Add, Operation, Remove
from replication import tables
from replication.admission import Arrived, LeftOut, Transaction, admit, decode_transaction
from replication.batch import Batch
from replication.command import Command, Written
from replication.errors import Refused, StoreFailed, StoreFull, StoreRefused, detached
from replication.event import FEATURE_LEVEL, SALT_BYTES
from replication.limits import MAP_BYTES, MAX_DRIFT_MS, PIECE_JOBS_MAX
from replication.origin import is_region
from replication.packing import pack
from replication.refold import refold_opaque
from replication.snapshot import Snapshot, read
from replication.store import Meta, Mirror, Store
from replication.tables import StreamRow
from replication.write import Writer, write

SECRET_BYTES = 32
SALTS_DRAWN = 64
"""Salts that are drawn at once: one at a time, each costs as much as an event's hash."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Transactions as a peer sent them, to be read in the turn: how many operations that is, shows then."""

    operations: ClassVar[int] = 0

    transactions: Sequence[Transaction]


@dataclass(frozen=True, slots=True)
class NewIncarnation:
    """Somebody holds events of this node's own origin up to `beyond`: beyond its log, if it was rolled back."""

    operations: ClassVar[int] = 0

    origin: str
    beyond: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an arrival. Shape: `events` counts those that were new, `operations` all that were read."""

    events: int = 0
    left_out: tuple[LeftOut, ...] = ()
    operations: int = 0


Job = Command | Arrival | NewIncarnation
Outcome = Written | Applied | Refused


@dataclass(eq=False, slots=True)
class Turn:
    """Jobs that are to share a commit, done in memory so far.

    Shape: `base` is what memory keeps of the turn before. `error` says why it comes to nothing; without a `batch` it
    never could. Units: `now_ms` is the wall clock when the last of them was done.
    """

    batch: Batch | None
    base: Mirror
    now_ms: int = 0
    error: Refused | None = None

    def abandon(self) -> None:
        """Forget it; nothing was written."""
        if self.batch is not None:
            self.batch.transaction.abort()


class Replica:
    """One region's replica. `vector`, `origin` and reads may be used from any thread; turns from one at a time."""

    def __init__(self, store: Store, meta: Meta, mirror: Mirror, secret: bytes, max_drift_ms: int) -> None:
        self.store = store
        self.meta = meta
        self.max_drift_ms = max_drift_ms
        self._mirror = mirror
        self._secret = secret
        self._before: Batch | None = None  # what is on its way to the disk
        self._failed: StoreFailed | None = None
        self._incarnations = 0
        self._rolled_back = ""
        self._writer = Writer(meta.cluster, max_drift_ms // 2, self._salt)
        self._salts = ("", 0), b""

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        region: str,
        cluster: str,
        secret: bytes,
        max_drift_ms: int = MAX_DRIFT_MS,
        map_bytes: int = MAP_BYTES,
        open_store: Callable[[Path, int], Store] = Store,
    ) -> "Replica":
        """Open the store in `directory`, making it where it is absent.

        `secret` is 32 fresh random bytes: salts and incarnations are drawn from it.
        Raises: StoreRefused, where the store is another's, in use, or unreadable.
        """
        assert len(secret) == SECRET_BYTES
        if not (is_region(region) and is_region(cluster)):
            raise StoreRefused(f"region {region!r} and cluster {cluster!r} must be of a-z, 0-9 and '-', 1 to 32 long")
        store = open_store(directory, map_bytes)
        try:
            with store.writing() as transaction:
                meta = _meta(store, store.read_meta(transaction), region, cluster, secret)
                mirror = store.read_mirror(transaction, meta.origin)
                batch = Batch(store, transaction, mirror)
                if meta.feature_level < FEATURE_LEVEL:
                    refold_opaque(batch)
                    batch.flush(transaction, 0)
                store.write_meta(transaction, replace(meta, feature_level=FEATURE_LEVEL))
            batch.mirror.transaction = store.last_transaction
        except StoreFailed as error:
            store.close()
            raise StoreRefused(str(error)) from None
        except BaseException:
            store.close()
            raise
        return cls(store, replace(meta, feature_level=FEATURE_LEVEL), batch.mirror, secret, max_drift_ms)

    def close(self) -> None:
        """Close the store. Nothing that was acknowledged depends on it."""
        self.store.close()

    @property
    def origin(self) -> str:
        """This node's own incarnation."""
        return self._mirror.origin

    @property
    def mirror(self) -> Mirror:
        """What memory keeps of the last commit. Not to be changed; a turn replaces it whole."""
        return self._mirror

    @property
    def vector(self) -> dict[str, int]:
        """Everything this node holds."""
        return self._mirror.vector

    @property
    def failed(self) -> bool:
        """Whether writing has ended until the store is reopened."""
        return self._failed is not None

    def read(self) -> Snapshot:
        """A snapshot of what is committed, for the length of a `with`."""
        return read(self.store, self._mirror)

    def turn(self, jobs: Sequence[Job], now_ms: int) -> list[Outcome]:
        """Do all of the jobs in one commit; the outcome of each, in order. See the contract above.

        Units: `now_ms` is the wall clock in Unix milliseconds.
        """
        turn = self.begin()
        try:
            outcomes = self.take(turn, jobs, now_ms)
        except BaseException:
            turn.abandon()
            raise
        for _ in self.commit(turn):
            pass
        return outcomes if turn.error is None else [turn.error for _ in jobs]

    def begin(self) -> Turn:
        """An empty turn, on what the turn before has reached, which may be on its way to the disk."""
        before = self._before  # first: where it is committed meanwhile, the mirror and the store have it
        base, below = (self._mirror, None) if before is None else (before.mirror, before.written)
        error = self._failed
        if error is None:
            try:
                return Turn(Batch(self.store, self.store.reading(), base, below), base)
            except lmdb.Error as reason:
                error = StoreFailed(f"the store cannot be read: {reason}")
        return Turn(None, base, error=error)

    def take(self, turn: Turn, jobs: Sequence[Job], now_ms: int) -> list[Outcome]:
        """Do jobs in a turn, in memory; the outcome of each, in order, to be told once the turn is committed.

        A turn that this fails in, for a mistake of ours, can only be abandoned.
        """
        turn.now_ms = now_ms
        batch = turn.batch
        if batch is None:
            assert turn.error is not None
            return [turn.error for _ in jobs]
        with collector_standing_still():
            # Whoever learned that it was rolled back must not write under its old name first (I6), nor later, where
            # the new one found no room on the disk.
            if batch.mirror.origin == self._rolled_back:
                self._reincarnate(batch)
            for job in jobs:
                if isinstance(job, NewIncarnation):
                    self._do(batch, job, now_ms)
            outcomes: list[Outcome] = []
            for start in range(0, len(jobs), PIECE_JOBS_MAX):
                outcomes += self._take_piece(batch, jobs[start : start + PIECE_JOBS_MAX], now_ms)
            return outcomes

    def _take_piece(self, batch: Batch, jobs: Sequence[Job], now_ms: int) -> list[Outcome]:
        """Do so many jobs that their rows are near until they are encoded again."""
        drafts = [draft for job in jobs if isinstance(job, Command) for draft in job.drafts]
        if with_sets := batch.prefetch({draft.stream for draft in drafts}):
            changes = [(draft.stream, draft.operations) for draft in drafts]
            batch.prefetch_additions(_element_keys(with_sets, changes))
        outcomes = [self._do(batch, job, now_ms) for job in jobs]
        batch.settle()
        return outcomes

    def is_stale(self, turn: Turn) -> bool:
        """Whether what a turn was worked out on came to nothing."""
        return turn.base is not self._mirror

    def commit(self, turn: Turn) -> Generator[None, None, None]:
        """Commit a turn, in two steps: it stops once, when everything is put and only the disk is to be waited for.

        From there on the next turn may begin. The turn has the `error`, where it came to nothing.
        """
        if turn.batch is None:
            return
        assert not self.is_stale(turn)
        turn.abandon()  # it only reads
        try:
            yield from self._commit(turn.batch, turn.now_ms)
        except StoreFull as error:
            turn.error = error
        except StoreFailed as error:
            turn.error = self._failed = error
        finally:
            self._before = None

    def _commit(self, batch: Batch, now_ms: int) -> Generator[None, None, None]:
        meta = self.meta
        with self.store.writing() as transaction:
            with collector_standing_still():
                batch.flush(transaction, now_ms)
            if meta.origin != batch.mirror.origin:
                meta = replace(meta, origin=batch.mirror.origin)
                self.store.write_meta(transaction, meta)
            self._before = batch
            yield
        self.meta = meta
        batch.mirror.transaction = self.store.last_transaction
        self._mirror = batch.mirror

    def _do(self, batch: Batch, job: Job, now_ms: int) -> Outcome:
        match job:
            case Command():
                try:
                    return write(batch, job, self._writer, now_ms)
                except Refused as refusal:
                    return detached(refusal)
            case NewIncarnation(origin, beyond):
                head = batch.heads.get(origin)
                if origin == batch.mirror.origin and beyond > (head.seq if head else 0):
                    self._reincarnate(batch)
                return Applied()
            case Arrival(transactions):
                return self._apply(batch, transactions, now_ms)

    def _apply(self, batch: Batch, transactions: Sequence[Transaction], now_ms: int) -> Applied:
        events = operations = 0
        read = [decode_transaction(transaction) for transaction in transactions]
        entries = [entry for one in read if isinstance(one, Arrived) for entry in one.entries]
        if with_sets := batch.prefetch({entry.header.stream for entry in entries}):
            changes = [(entry.header.stream, (entry.body and entry.body.operations) or ()) for entry in entries]
            batch.prefetch_additions(_element_keys(with_sets, changes))
        left_out: list[LeftOut] = []
        for arrived in read:
            if isinstance(arrived, LeftOut):
                left_out.append(arrived)
                continue
            operations += arrived.operations
            try:
                new = admit(batch, arrived, self.meta.cluster, self.max_drift_ms, now_ms)
            except LeftOut as reason:
                left_out.append(detached(reason))
                new = reason.reason == "gap"
            else:
                events += new
            # Our own events, beyond our log: either way, these numbers were used.
            if new and arrived.first.origin == batch.mirror.origin:
                self._reincarnate(batch)
        return Applied(events, tuple(left_out), operations)

    def _reincarnate(self, batch: Batch) -> None:
        """Take a new incarnation: this node's log was rolled back, and its numbers must not be used again (I6)."""
        self._rolled_back = batch.mirror.origin
        taken = batch.heads.keys() | {batch.mirror.origin}
        self._incarnations += 1
        batch.mirror.origin = fresh_origin(self.meta.region, self._secret, taken, self._incarnations)

    def _salt(self, origin: str, seq: int) -> bytes:
        block, place = divmod(seq, SALTS_DRAWN)
        drawn_for, salts = self._salts
        if drawn_for != (origin, block):
            name = self._secret + pack(["salt", origin, block])
            salts = hashlib.shake_256(name).digest(SALTS_DRAWN * SALT_BYTES)
            self._salts = (origin, block), salts
        return salts[place * SALT_BYTES : (place + 1) * SALT_BYTES]


@contextmanager
def collector_standing_still() -> Iterator[None]:
    """Keep Python's cycle collector from walking, again and again, the many objects that a batch needs until its end.

    None of them is part of a cycle. On batches of thousands of events this is a third of the turn's time.
    """
    was_running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_running:
            gc.enable()


def _meta(store: Store, meta: Meta | None, region: str, cluster: str, secret: bytes) -> Meta:
    origin = fresh_origin(region, secret, meta.origin if meta else ())
    if meta is None:
        return Meta(cluster, region, origin, store.identity, FEATURE_LEVEL)
    if meta.cluster != cluster:
        raise StoreRefused(f"{store.directory} belongs to cluster {meta.cluster!r}, not to {cluster!r}")
    if meta.region != region:
        raise StoreRefused(f"{store.directory} belongs to region {meta.region!r}, not to {region!r}")
    if meta.identity != store.identity:
        return replace(meta, origin=origin, identity=store.identity)
    return meta


def fresh_origin(region: str, secret: bytes, taken: Collection[str], attempt: int = 0) -> str:
    """An incarnation of the region that none of `taken` is; another one for each first `attempt`."""
    while True:
        origin = f"{region}.{_draw(secret, 'incarnation', str(attempt), 4).hex()}"
        if origin not in taken:
            return origin
        attempt += 1


def _draw(secret: bytes, purpose: str, name: str, size: int) -> bytes:
    return hashlib.blake2b(pack([purpose, name]), key=secret, digest_size=size).digest()


def _element_keys(
    with_sets: Mapping[str, StreamRow], changes: Iterable[tuple[str, Sequence[Operation]]]
) -> Iterator[bytes]:
    """Those of the element rows that changes of these streams will touch."""
    for name, operations in changes:
        if (row := with_sets.get(name)) is not None:
            for operation in operations:
                if isinstance(operation, Add | Remove) and operation.field in row.field_numbers:
                    number = row.field_numbers[operation.field]
                    yield tables.element_key(row.number, number, operation.element)
