"""Whether a transaction that arrived may be applied: checked here, from the event, whoever forwarded it (I3, I8).

A receiver holds a contiguous, causal prefix of every origin. It takes a transaction only when that stays so: its
predecessor and everything its writer had `seen` are held, with the same hashes. What fails is left out with a
reason and is not kept: the sender has it, and the next exchange brings it again.

    gap, missing      something that it depends on has not arrived: not wrong, only early
    held-back         stamped too far ahead of this node's wall clock: due later
    fork              another event holds this dot, or one that it depends on (I7)
    broken-chain      it does not follow what it claims to follow
    uncovered-context its context names what its writer could not have seen
    malformed         it is not a transaction
    too-many-origins  the store knows as many origins as it may

Source: Petersen et al. 1997, "Flexible update propagation" (the prefix property); DESIGN, section 3.
"""

from dataclasses import dataclass
from itertools import pairwise

import msgspec

from crdt.dot import Dot
from crdt.hybrid_clock import milliseconds
from crdt.version_vector import includes
from replication.batch import Batch
from replication.errors import Malformed, TooManyOrigins
from replication.event import MARK_BYTES, Encoded, Entry, Header, genesis
from replication.event_codec import decode_body, decode_header
from replication.limits import EVENT_BYTES_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_EVENTS_MAX
from replication.log import append
from replication.tables import Head

EARLY = frozenset({"gap", "missing"})
"""Reasons that say nothing against a transaction."""

Transaction = tuple[Encoded, ...]


@dataclass(eq=False)
class LeftOut(Exception):
    """A transaction that was not applied, and why. Shape: `due_ms` is when a held-back one may be tried again."""

    origin: str
    seq: int
    reason: str
    detail: str
    due_ms: int = 0


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """A transaction as it was sent, read: right in itself, whatever this store holds.

    Shape: `operations` counts those that are known here.
    """

    entries: tuple[Entry, ...]
    operations: int

    @property
    def first(self) -> Header:
        return self.entries[0].header


def decode_transaction(transaction: Transaction) -> Arrived | LeftOut:
    """Read a transaction, and check what can be checked of it alone."""
    entries: list[Entry] = []
    header: Header | None = None
    size = operations = 0
    try:
        if not 1 <= len(transaction) <= TRANSACTION_EVENTS_MAX:
            raise Malformed(f"a transaction has 1 to {TRANSACTION_EVENTS_MAX} events")
        for encoded in transaction:
            one = encoded.size
            size += one
            if one > EVENT_BYTES_MAX:
                raise Malformed(f"an event has {one} bytes; at most {EVENT_BYTES_MAX} are allowed")
            if size > TRANSACTION_BYTES_MAX:
                raise Malformed(f"a transaction has at most {TRANSACTION_BYTES_MAX} bytes")
            header = decode_header(encoded.header)
            body = decode_body(header, encoded.body)
            entries.append(Entry(header, encoded.chain, encoded, body))
            if body is not None and body.operations is not None:
                operations += len(body.operations)
        _check_shape(entries)
    except Malformed as error:
        first = entries[0].header if entries else header
        return LeftOut(*(first.dot if first else ("", 0)), "malformed", str(error))
    return Arrived(tuple(entries), operations)


def admit(batch: Batch, arrived: Arrived, cluster: str, max_drift_ms: int, now_ms: int) -> int:
    """Append an arrived transaction to the batch; how many events that was. One that is held counts none.

    Raises: LeftOut, before anything was put.
    """
    first = arrived.first
    head = batch.heads.get(first.origin)
    if head is not None and first.seq <= head.seq:
        _check_held(batch, arrived)
        return 0
    try:
        _check_follows(first, head, cluster)
        if first.seen:
            _check_seen(batch, first)
        _check_stamp(first, max_drift_ms, now_ms)
        for entry in arrived.entries:
            if entry.header.context:
                _check_context(batch, entry.header)
        if head is None:
            batch.check_room_for(first.origin)
    except Malformed as error:
        raise LeftOut(first.origin, first.seq, "malformed", str(error)) from None
    except TooManyOrigins as error:
        raise LeftOut(first.origin, first.seq, "too-many-origins", str(error)) from None
    for entry in arrived.entries:
        append(batch, entry)
    return len(arrived.entries)


def _check_shape(entries: list[Entry]) -> None:
    """Whole and in order: one origin and timestamp, consecutive seqs chained to each other, one event a stream."""
    count = len(entries)
    for place, entry in enumerate(entries):
        if entry.header.count != count or entry.header.index != place:
            raise Malformed("a transaction is not whole, or not in order")
    if count == 1:
        return
    if len({entry.header.stream for entry in entries}) != count:
        raise Malformed("a transaction has one event a stream")
    for before, after in pairwise(entries):
        one, header = before.header, after.header
        if header.seen:
            raise Malformed("only a transaction's first event names what was seen")
        if (header.origin, header.seq, header.timestamp) != (one.origin, one.seq + 1, one.timestamp):
            raise Malformed("a transaction has one origin, one timestamp and consecutive seqs")
        if header.previous != before.chain:
            raise Malformed("a transaction's chain is broken")


def _check_held(batch: Batch, arrived: Arrived) -> None:
    """That what the store has at these dots is this very transaction.

    Raises: LeftOut.
    """
    for entry in arrived.entries:
        dot, chain = entry.header.dot, entry.chain
        held = batch.event(dot)
        if held is None or held.chain != chain:
            ours = held.chain.hex() if held else "nothing"
            raise LeftOut(*dot, "fork", f"{dot} is {ours} here and {chain.hex()} there")


def _check_follows(first: Header, head: Head | None, cluster: str) -> None:
    held = head.seq if head else 0
    if first.seq != held + 1:
        raise LeftOut(first.origin, first.seq, "gap", f"{first.origin} is held up to {held} only")
    if head is None and first.previous != genesis(cluster, first.origin):
        raise LeftOut(first.origin, 1, "broken-chain", "the first event does not start this cluster's chain")
    if head is not None and first.previous != head.chain:
        before = Dot(first.origin, held)
        detail = f"{before} is {head.chain.hex()} here and {first.previous.hex()} there"
        raise LeftOut(*before, "fork", detail)
    if head is not None and first.timestamp <= head.timestamp:
        raise Malformed("a timestamp is not above that of its origin's previous transaction")


def _check_seen(batch: Batch, first: Header) -> None:
    """That what the writer had seen is held, and was stamped before."""
    timestamps: list[int] = []
    for origin, seq, mark in first.seen:
        if origin == first.origin:
            raise Malformed("an event's seen names its own origin")
        row = batch.event(Dot(origin, seq))
        if row is None:
            raise LeftOut(first.origin, first.seq, "missing", f"its writer had {origin}.{seq}, which is not held")
        if row.chain[:MARK_BYTES] != mark:
            detail = f"it depends on another {origin}.{seq}: {row.chain.hex()} here, {mark.hex()}… there"
            raise LeftOut(first.origin, first.seq, "fork", detail)
        head = batch.heads[origin]
        timestamps.append(head.timestamp if head.seq == seq else decode_header(row.encoded.header).timestamp)
    if first.timestamp <= max(timestamps):
        raise Malformed("a timestamp is not above those of what its writer had seen")


def _check_stamp(first: Header, max_drift_ms: int, now_ms: int) -> None:
    due_ms = milliseconds(first.timestamp) - max_drift_ms
    if due_ms > now_ms:
        detail = f"stamped {due_ms - now_ms + max_drift_ms} ms ahead of this node's wall clock"
        raise LeftOut(first.origin, first.seq, "held-back", f"{detail} (limit {max_drift_ms})", due_ms)


def _check_context(batch: Batch, header: Header) -> None:
    row = batch.stream(header.stream)
    if row is None or not includes(row.vector, header.context):
        detail = f"{header.dot} names events of {header.stream!r} that its writer cannot have seen"
        raise LeftOut(header.origin, header.seq, "uncovered-context", detail)
