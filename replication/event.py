"""An event as it is stored and sent, and the hashes that bind it to its log (I5).

Chain hash = BLAKE2b-128(header); `previous` in a header is the chain hash of the event before it in its origin, so
that one hash proves a whole log, and a body can be erased while the chain still verifies (its salt keeps an erased
body from being guessed). `seen` names, on the first event of a transaction, what changed in the whole vector of its
writer since its previous transaction (I3).
"""

from hashlib import blake2b
from typing import NamedTuple

import msgspec

from crdt.dot import Dot
from crdt.event import Event
from crdt.operations import Operation
from crdt.version_vector import VersionVector
from replication.limits import SEQ_MAX, SOURCE_NAME_BYTES_MAX
from replication.packing import pack
from replication.values import check_text, is_count

FORMAT = 1
FEATURE_LEVEL = 1
"""Rises whenever this version folds what an earlier one could not."""

SET, ADD, REMOVE, DELETE = 1, 2, 3, 4
COUNTER, FLAG, ERASE, RETIRE, FEATURE = 5, 6, 7, 8, 9
"""Reserved operation numbers: carried, not yet folded."""
KNOWN_OPERATIONS = frozenset({SET, ADD, REMOVE, DELETE})
OPERATION_NUMBER_MAX = 0xFFFF

HASH_BYTES = 16
SALT_BYTES = 16
MARK_BYTES = 8
FINGERPRINT_BYTES = 16
OCCURRED_AT_BYTES_MAX = 40


class Seen(NamedTuple):
    """One entry of what a transaction's writer had seen. Shape: `mark` is the start of that event's chain hash."""

    origin: str
    seq: int
    mark: bytes


class Request(NamedTuple):
    """The request that made an event, for answering it again.

    Shape: `held` is the stream's vector before the write where that differs from the event's context.
    """

    key: str
    fingerprint: bytes
    held: VersionVector | None


class Source(NamedTuple):
    """Where an imported event came from."""

    name: str
    position: int | str


class Header(msgspec.Struct, frozen=True, gc=False):
    """What an event's place in its log, stream and transaction is."""

    format: int
    flags: int
    origin: str
    seq: int
    stream: str
    timestamp: int
    context: VersionVector
    previous: bytes
    body_hash: bytes
    index: int
    count: int
    seen: tuple[Seen, ...]

    @property
    def dot(self) -> Dot:
        return Dot(self.origin, self.seq)


class Body(msgspec.Struct, frozen=True, gc=False):
    """What an event does, and on whose behalf. Shape: `operations` is None where this version cannot fold them."""

    salt: bytes
    operations: tuple[Operation, ...] | None
    actor: str
    request: Request | None = None
    occurred_at: str | None = None
    source: Source | None = None


class Encoded(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """One event's bytes, as they are stored and sent."""

    header: bytes
    body: bytes

    @property
    def chain(self) -> bytes:
        """The chain hash, which names everything this origin wrote up to here."""
        return digest(self.header)

    @property
    def size(self) -> int:
        return len(self.header) + len(self.body)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event of a log, as bytes and read.

    Shape: `chain` is the hash of its header. `body` is None where this version cannot read it.
    """

    header: Header
    chain: bytes
    encoded: Encoded
    body: Body | None


def digest(data: bytes) -> bytes:
    """BLAKE2b-128."""
    hashed = _NOTHING_HASHED.copy()  # in less time than a new one is set up
    hashed.update(data)
    return hashed.digest()


_NOTHING_HASHED = blake2b(digest_size=HASH_BYTES)


def genesis(cluster: str, origin: str) -> bytes:
    """What the first event of an origin has for `previous`: chains of two clusters never meet."""
    return digest(pack(["atoll", cluster, origin]))


def meaning(header: Header, body: Body | None) -> Event | None:
    """The event as `crdt` folds it, or None where this version cannot fold it."""
    if body is None or body.operations is None:
        return None
    return Event(Dot(header.origin, header.seq), header.timestamp, header.context, body.operations)


def check_source(name: object, position: object) -> Source:
    """A source, if it is one.

    Raises: Invalid.
    """
    checked = check_text(name, "source.name", SOURCE_NAME_BYTES_MAX)
    if isinstance(position, int) and is_count(position, SEQ_MAX):
        return Source(checked, position)
    return Source(checked, check_text(position, "source.position", SOURCE_NAME_BYTES_MAX))
