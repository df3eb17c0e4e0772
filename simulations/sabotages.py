"""Named bugs, put into the product while it is simulated: what checks the checkers.

Each is a trap that replicated stores of this kind have fallen into. A search has to find every one of them, and to
make its case small; one that it does not find is a hole in the workloads, the faults or the checkers.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import lmdb
import msgspec
import trio

import crdt.fold
import node.directory.builtin_views
import node.directory.names
import node.directory.search
import node.directory.storage
import node.gossip
import node.interface.streams
import node.interface.writing
import node.views.query
import replication.admission
import replication.batch
import replication.exchange
import replication.replica
import replication.tables
import replication.write
from crdt.dot import Dot
from crdt.observed_remove_set import Additions
from crdt.register import Register, Write
from crdt.version_vector import VersionVector, join
from node.directory.claims import Claims, claims_on, ranked
from node.errors import BadArguments
from node.service import Node
from node.views.index import Index
from node.views.query import Hit
from node.views.view import Row, State, View
from node.views.views import Views
from replication.admission import Arrived, LeftOut, Transaction
from replication.admission import admit as admit_once
from replication.batch import Batch
from replication.cells import StoredCells, fold_into
from replication.command import Command
from replication.event import Entry, Header
from replication.event_codec import Place, decode_header, decode_place
from replication.exchange import lacking as lacking_in_full
from replication.messages import Digest
from replication.queries import missing
from replication.replica import Replica
from replication.snapshot import Snapshot
from replication.store import Meta, Mirror, Store
from replication.tables import Head
from replication.tokens import format_token as format_token_in_full
from simulations.world.disk import Condition, Crash, SimulatedDisk, SimulatedStore

Replacement = tuple[object, str, Any]


class Sabotage(NamedTuple):
    """One bug: what it is, what it puts in the place of what, and the workload and faults that find it."""

    summary: str
    replacements: Callable[[], list[Replacement]]
    workload: str = "mixed"
    faults: tuple[str, ...] | None = None


def _tie_by_arrival() -> list[Replacement]:
    def written(concurrent: Register, write: Write) -> Register:
        return tuple(sorted((write, *concurrent), key=lambda one: one.timestamp, reverse=True))

    return [(replication.tables, "written", written), (crdt.fold, "written", written)]


def _loser_forgotten() -> list[Replacement]:
    def written(concurrent: Register, write: Write) -> Register:
        return (max((write, *concurrent), key=lambda one: one[:3]),)

    return [(replication.tables, "written", written), (crdt.fold, "written", written)]


def _remove_without_context() -> list[Replacement]:
    return [(crdt.fold, "removed", lambda additions, context: ())]


def _add_keeps_superseded() -> list[Replacement]:
    def added(additions: Additions, context: VersionVector, dot: Dot) -> Additions:
        return (*additions, dot)

    return [(crdt.fold, "added", added)]


def _delete_takes_all() -> list[Replacement]:
    real = StoredCells.clear

    def clear(cells: StoredCells, context: VersionVector) -> None:
        real(cells, join(context, cells.row.vector))

    return [(StoredCells, "clear", clear)]


def _purge_takes_all() -> list[Replacement]:
    return [(replication.batch, "removed", lambda additions, context: ())]


def _no_clock_merge() -> list[Replacement]:
    real = Batch.put_event

    def put_event(batch: Batch, entry: Entry, *rest: Any) -> None:
        before = batch.mirror.clock
        real(batch, entry, *rest)
        if entry.header.origin != batch.mirror.origin:
            batch.mirror.clock = before

    return [(Batch, "put_event", put_event)]


def _clock_restarts() -> list[Replacement]:
    real = Store.read_mirror

    def read_mirror(store: Store, transaction: lmdb.Transaction, origin: str) -> Mirror:
        mirror = real(store, transaction, origin)
        mirror.clock = 0
        return mirror

    return [(Store, "read_mirror", read_mirror)]


def _drift_ignored() -> list[Replacement]:
    return [(replication.admission, "_check_stamp", lambda first, max_drift_ms, now_ms: None)]


def _sync_later() -> list[Replacement]:
    """A commit is answered and gossiped at once, and synced with the eighth after it."""
    real = SimulatedDisk.commit
    synced: dict[int, bytes] = {}

    def commit(disk: SimulatedDisk, transaction: lmdb.Transaction, file: Path) -> None:
        condition: Condition = disk._condition
        if disk.commits % 8 == 0:
            synced[id(condition)] = file.read_bytes()
        doomed = condition.doomed
        try:
            real(disk, transaction, file)
        except Crash:
            if doomed == "during":
                condition.torn = synced[id(condition)]
            raise

    return [(SimulatedDisk, "commit", commit)]


def _heads_lag_on_disk() -> list[Replacement]:
    """The newest head is written with the next commit, so a node that stopped goes on from the one before."""
    real = Store.read_mirror

    def read_mirror(store: Store, transaction: lmdb.Transaction, origin: str) -> Mirror:
        mirror = real(store, transaction, origin)
        head = mirror.heads.get(origin)
        if head is not None and head.seq > 1:
            snapshot = Snapshot(store, transaction)
            before = snapshot.event(Dot(origin, head.seq - 1))
            assert before is not None
            mirror.heads[origin] = msgspec.structs.replace(head, seq=head.seq - 1, chain=before.chain)
        return mirror

    return [(Store, "read_mirror", read_mirror)]


def _same_incarnation_after_restore() -> list[Replacement]:
    real = replication.replica._meta

    def meta(store: Store, meta: Meta | None, *rest: Any) -> Meta:
        return meta or real(store, meta, *rest)

    return [(replication.replica, "_meta", meta), (Replica, "_reincarnate", lambda replica, batch: None)]


def _rollback_unnoticed() -> list[Replacement]:
    return [(Replica, "_reincarnate", lambda replica, batch: None)]


def _seen_unchecked() -> list[Replacement]:
    return [
        (replication.admission, "_check_seen", lambda batch, first: None),
        (replication.exchange._Reach, "_has", lambda reach, snapshot, origin, seq, mark: True),
    ]


def _transaction_cut() -> list[Replacement]:
    def transactions(snapshot: Snapshot, theirs: Digest, blocked: set[str]) -> Iterator[tuple[Place, Transaction]]:
        held = {origin: claim.seq for origin, claim in theirs.heads.items()}
        for row in missing(snapshot, held, blocked):
            yield decode_place(row.encoded.header), (row.encoded,)

    return [
        (replication.exchange, "_transactions", transactions),
        (replication.admission, "_check_shape", lambda entries: None),
        (replication.admission, "_check_follows", _follows_within),
        (replication.admission, "_check_stamp", lambda first, max_drift_ms, now_ms: None),
    ]


def _follows_within(first: Header, head: Head | None, cluster: str) -> None:
    if first.seq != (head.seq if head else 0) + 1:
        raise LeftOut(first.origin, first.seq, "gap", "sabotaged")


def _vector_ahead() -> list[Replacement]:
    """Heads are committed on their own, and the log after them."""
    real = SimulatedStore._commit

    def commit(store: SimulatedStore, transaction: lmdb.Transaction) -> None:
        if store._disk._condition.doomed == "before":
            rows = [(bytes(key), bytes(row)) for key, row in transaction.cursor(db=store.dbs["origins"])]
            transaction.abort()
            with store.env.begin(write=True) as heads:
                heads.cursor(db=store.dbs["origins"]).putmulti(rows)
            store._disk._condition.doomed = ""
            store._disk._die()
        real(store, transaction)

    return [(SimulatedStore, "_commit", commit)]


def _no_relay() -> list[Replacement]:
    real = lacking_in_full

    def lacking(snapshot: Snapshot, theirs: Digest, byte_limit: int) -> tuple[Transaction, ...]:
        meta = snapshot.store.read_meta(snapshot.transaction)
        chosen = real(snapshot, theirs, byte_limit)
        return tuple(one for one in chosen if meta and decode_header(one[0].header).origin == meta.origin)

    return [(node.gossip, "lacking", lacking)]


def _applied_twice() -> list[Replacement]:
    real = admit_once

    def admit(batch: Batch, arrived: Arrived, *rest: Any) -> int:
        new = real(batch, arrived, *rest)
        if not new:
            for entry in arrived.entries:
                header, body = entry.header, entry.body
                if body is not None and body.operations is not None:
                    fold_into(batch, batch.stream_to_change(header.stream), header, body.operations)
        return new

    return [(replication.replica, "admit", admit)]


def _token_short() -> list[Replacement]:
    real = format_token_in_full

    def format_token(name: str, vector: VersionVector) -> str:
        return real(name, dict(sorted(vector.items())[:-1]) if len(vector) > 1 else vector)

    return [(node.interface.streams, "format_token", format_token)]


def _no_waiting() -> list[Replacement]:
    async def wait_for(node: Node, vector: VersionVector, seconds: float) -> None:
        await trio.lowlevel.checkpoint()

    return [(Node, "wait_for", wait_for)]


def _requests_forgotten() -> list[Replacement]:
    real = Store.read_mirror

    def read_mirror(store: Store, transaction: lmdb.Transaction, origin: str) -> Mirror:
        transaction.drop(store.dbs["requests"], delete=False)
        return real(store, transaction, origin)

    return [(Store, "read_mirror", read_mirror)]


def _conditions_before_the_turn() -> list[Replacement]:
    real = replication.write._check_conditions

    def check(batch: Batch, command: Command) -> None:
        committed = Snapshot(batch.store, batch.transaction)
        real(committed, command)  # type: ignore[arg-type]  # reads only

    return [(replication.write, "_check_conditions", check)]


def _turn_blind() -> list[Replacement]:
    real = Batch.__init__

    def begin(
        batch: Batch, store: Store, transaction: lmdb.Transaction, mirror: Mirror, below: object = None
    ) -> None:
        real(batch, store, transaction, mirror)

    return [(Batch, "__init__", begin)]


def _stale_turn_kept() -> list[Replacement]:
    return [(Replica, "is_stale", lambda replica, turn: False)]


def _conflicts_hidden() -> list[Replacement]:
    return [(node.interface.streams, "conflicts", lambda live: {})]


def _claims_unchecked() -> list[Replacement]:
    def nobody(snapshot: Snapshot, attribute: str, value: str) -> Claims:
        return replace(claims_on(snapshot, attribute, value), counting=())

    return [
        (node.directory.storage, "claims_on", nobody),
        (node.directory.storage.DirectoryStorage, "_without_claim", lambda storage, *asked: []),
    ]


def _latest_claim_holds() -> list[Replacement]:
    def latest(*asked: Any) -> list[str]:
        return ranked(*asked)[::-1]

    return [(node.directory.search, "ranked", latest)]


def _home_not_asked() -> list[Replacement]:
    return [(node.directory.storage, "home_of", lambda homes, names: None)]


def _views_keep_what_is_gone() -> list[Replacement]:
    return [
        (Index, "remove", lambda index, build, entries: None),
        (node.views.query, "resolve", _unresolved),
    ]


def _unresolved(view: View, snapshot: Snapshot, entries: Iterable[tuple[str, str]]) -> Iterator[Hit]:
    """What the index says, as it says it."""
    return (Hit(stream, Row(key)) for key, stream in entries)


def _views_not_caught_up() -> list[Replacement]:
    async def at_once(views: Views, name: str, vector: VersionVector, seconds: float = 0.0) -> None:
        await wait_for(views, name, {}, PATIENCE_S)  # until there is something to ask

    def lag(views: Views) -> bool:
        if not all(build.serving for _, build in views.builds()):
            return step(views)
        views._lag = getattr(views, "_lag", 0) + 1  # type: ignore[attr-defined]  # of this sabotage alone
        return views._lag % LAG == 0 and step(views)  # type: ignore[attr-defined]

    step, wait_for = Views.step, Views.wait_for
    return [(Views, "wait_for", at_once), (Views, "step", lag)]


def _deleted_comes_back() -> list[Replacement]:
    real = node.directory.names.is_resource

    def is_resource(state: State | None) -> bool:
        if state is not None:
            registers = {name: value for name, value in state.registers.items() if name != "deleted"}
            state = State(state.stream, registers, state.sets) if registers else None
        return real(state)

    return [(node.directory.builtin_views, "is_resource", is_resource)]


LAG, PATIENCE_S = 20, 30.0
"""How seldom a lagging view does a piece of work; how long it may take to be built."""

SABOTAGES: dict[str, Sabotage] = {
    "tie-by-arrival": Sabotage("of writes with one timestamp, the last to arrive wins", _tie_by_arrival),
    "loser-forgotten": Sabotage("a concurrent write that loses is dropped at once", _loser_forgotten),
    "remove-without-context": Sabotage("a remove takes out additions it never saw", _remove_without_context),
    "add-keeps-superseded": Sabotage("an add leaves the additions it saw alive", _add_keeps_superseded),
    "delete-takes-all": Sabotage("a delete takes out what it never saw", _delete_takes_all),
    "purge-takes-all": Sabotage("clearing away after a delete takes live elements too", _purge_takes_all),
    "no-clock-merge": Sabotage("what arrives does not move the clock", _no_clock_merge),
    "clock-restarts": Sabotage("the clock's high mark does not survive a restart", _clock_restarts),
    "drift-ignored": Sabotage("any timestamp is taken, however far ahead", _drift_ignored),
    "gossip-before-sync": Sabotage("commits are answered and gossiped before the disk has them", _sync_later),
    "dot-reuse-after-power-loss": Sabotage("the newest head is not on disk when the node stops", _heads_lag_on_disk),
    "dot-reuse-after-restore": Sabotage("a copied disk goes on under its old name", _same_incarnation_after_restore),
    "dot-reuse-after-rollback": Sabotage("a node told that it was rolled back goes on", _rollback_unnoticed),
    "seen-unchecked": Sabotage("an event is taken before what its writer had seen", _seen_unchecked),
    "transaction-cut": Sabotage("a message ends inside a transaction, and is taken so", _transaction_cut),
    "vector-ahead": Sabotage("heads are committed before the log, on their own", _vector_ahead),
    "no-relay": Sabotage("a node sends on only its own events", _no_relay),
    "applied-twice": Sabotage("an event that comes again is folded again", _applied_twice),
    "token-short": Sabotage("a token leaves out one origin", _token_short),
    "no-waiting": Sabotage("a forced read does not wait", _no_waiting),
    "requests-forgotten": Sabotage("idempotency keys do not survive a restart", _requests_forgotten),
    "conditions-before-turn": Sabotage("conditions are checked against the last commit", _conditions_before_the_turn),
    "turn-blind": Sabotage("a turn does not see the commit that is on its way", _turn_blind),
    "stale-turn-kept": Sabotage(
        "what was worked out on a commit that failed is committed",
        _stale_turn_kept,
        faults=("disk-full", "slow-disk"),
    ),
    "conflicts-hidden": Sabotage("the writes that lost are not shown", _conflicts_hidden),
    "claims-unchecked": Sabotage("a name is given to whoever asks", _claims_unchecked, "directory"),
    "latest-claim-holds": Sabotage("of two who claim a name, the later one has it", _latest_claim_holds, "directory"),
    "home-not-asked": Sabotage("a name is given without asking its home", _home_not_asked, "directory"),
    "views-keep-what-is-gone": Sabotage("a view shows what it once held", _views_keep_what_is_gone, "directory"),
    "views-not-caught-up": Sabotage(
        "a view is asked before it shows what it is to", _views_not_caught_up, "directory"
    ),
    "deleted-comes-back": Sabotage("a write brings a deleted user back", _deleted_comes_back, "directory"),
}


def check_name(name: str) -> str:
    """The name itself. Raises: BadArguments."""
    if name and name not in SABOTAGES:
        raise BadArguments(f"sabotage {name!r} is not known; known are {', '.join(SABOTAGES)}")
    return name


@contextmanager
def sabotaged(name: str) -> Iterator[None]:
    """While this lasts, the product has the named bug; the empty name is none."""
    with ExitStack() as stack:
        for owner, attribute, replacement in SABOTAGES[name].replacements() if name else ():
            stack.enter_context(patch.object(owner, attribute, replacement))
        yield
