"""Anti-entropy: comparing what two nodes hold, and choosing what the other lacks, in an order that it can apply.

Heads carry hashes, and each origin's log is a hash chain: whoever is ahead looks up its own hash at the other's
seq; a difference is a fork (I7). What the other lacks is walked by arrival position, which is a causal order (I3),
and sent as whole transactions up to a byte limit. What the other will not take now, a fork or a held-back
transaction, is skipped with all that depends on it, so that it cannot crowd out the rest.

Loss, duplication, reordering and relays are harmless: the receiver checks everything itself (`admission`), and
there is no reorder buffer. Source: Demers et al. 1987, "Epidemic algorithms", section 1.3 (anti-entropy).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from crdt.dot import Dot
from replication.admission import Transaction
from replication.event import MARK_BYTES, Encoded
from replication.event_codec import Place, decode_dot, decode_place
from replication.limits import MESSAGE_TARGET_BYTES, SEQ_MAX
from replication.messages import Claim, Digest, Fork
from replication.origin import is_origin
from replication.packing import DECODE_ERRORS
from replication.queries import missing
from replication.snapshot import Snapshot
from replication.tables import Head


def claims(heads: Mapping[str, Head]) -> dict[str, Claim]:
    """Heads as a digest states them."""
    return {origin: Claim(head.seq, head.chain) for origin, head in heads.items()}


def find_forks(snapshot: Snapshot, theirs: Digest) -> tuple[Fork, ...]:
    """The dots that a peer's digest names with another hash than this node's, which the forks carry."""
    named = [(origin, claim.seq, claim.chain) for origin, claim in theirs.heads.items()] + list(theirs.forks)
    forks: dict[Fork, None] = {}
    for origin, seq, chain in named:
        ours = _chain(snapshot, origin, seq)
        if ours is not None and ours != chain:
            forks[Fork(origin, seq, ours)] = None
    return tuple(forks)


def _chain(snapshot: Snapshot, origin: str, seq: int) -> bytes | None:
    """The chain hash of one event; most often it is asked for a head's, which needs no look into the log."""
    head = snapshot.heads.get(origin)
    if head is not None and head.seq == seq:
        return head.chain
    row = snapshot.event(Dot(origin, seq))
    return None if row is None else row.chain


def is_behind(theirs: Digest, heads: Mapping[str, Head | Claim]) -> bool:
    """Whether a peer lacks any event of these heads."""
    return any(origin not in theirs.heads or theirs.heads[origin].seq < head.seq for origin, head in heads.items())


def heads_after(heads: Mapping[str, Claim], transactions: Iterable[Transaction]) -> dict[str, Claim]:
    """The heads of who holds these, once it has taken the transactions too: up to one that cannot be read."""
    last: dict[str, tuple[int, Encoded]] = {}
    with suppress(*DECODE_ERRORS, IndexError):
        for transaction in transactions:
            dot = decode_dot(transaction[-1].header)
            known = last.get(dot.origin)
            if known is None or dot.seq > known[0]:
                last[dot.origin] = dot.seq, transaction[-1]
    after = dict(heads)
    for origin, (seq, encoded) in last.items():
        held = after[origin].seq if origin in after else 0
        if is_origin(origin) and held < seq <= SEQ_MAX:
            after[origin] = Claim(seq, encoded.chain)
    return after


def lacking(snapshot: Snapshot, theirs: Digest, byte_limit: int = MESSAGE_TARGET_BYTES) -> tuple[Transaction, ...]:
    """The next transactions that a peer lacks and could apply: whole ones, causes first, about `byte_limit` bytes."""
    if not is_behind(theirs, snapshot.heads):
        return ()
    blocked = {fork.origin for fork in find_forks(snapshot, theirs)}
    blocked |= {withheld.origin for withheld in theirs.left_out}
    reach = _Reach({origin: claim.seq for origin, claim in theirs.heads.items()}, blocked)
    chosen: list[Transaction] = []
    size = 0
    for first, transaction in _transactions(snapshot, theirs, blocked):
        if not reach.takes(snapshot, first, len(transaction)):
            continue
        chosen.append(transaction)
        size += sum(event.size for event in transaction)
        if size >= byte_limit:
            break
    return tuple(chosen)


def _transactions(snapshot: Snapshot, theirs: Digest, blocked: set[str]) -> Iterator[tuple[Place, Transaction]]:
    start = {origin: _boundary(snapshot, origin, claim.seq) for origin, claim in theirs.heads.items()}
    pending: list[Encoded] = []
    first: Place | None = None
    for row in missing(snapshot, start, blocked):
        if first is None:
            first = decode_place(row.encoded.header)
        pending.append(row.encoded)
        if len(pending) == first.count:
            yield first, tuple(pending)
            pending, first = [], None


def _boundary(snapshot: Snapshot, origin: str, seq: int) -> int:
    """The last seq up to `seq` that ends a transaction: a claim that is honest stands at one."""
    row = snapshot.event(Dot(origin, seq + 1))
    return seq if row is None else seq - decode_place(row.encoded.header).index


class _Reach:
    """What the peer will hold once it has what was chosen so far; blocked origins stay where they are."""

    def __init__(self, held: dict[str, int], blocked: set[str]) -> None:
        self._held = held
        self._blocked = blocked

    def takes(self, snapshot: Snapshot, first: Place, events: int) -> bool:
        """Whether the peer could apply this transaction next; if not, its origin is blocked from here on."""
        origin = first.origin
        if any(not self._has(snapshot, *seen) for seen in first.seen):
            self._blocked.add(origin)
            return False
        self._held[origin] = max(self._held.get(origin, 0), first.seq + events - 1)
        return True

    def _has(self, snapshot: Snapshot, origin: str, seq: int, mark: bytes) -> bool:
        row = snapshot.event(Dot(origin, seq))
        return row is not None and row.chain[:MARK_BYTES] == mark and seq <= self._held.get(origin, 0)
