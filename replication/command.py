"""What a client asks the replica to write, and what it is told.

A command is one transaction: a draft for each of its events, the conditions under which it may happen, and the
name under which it may be asked again. Both are checked as they are made, so the turn only meets well-formed ones.
"""

from collections.abc import Mapping

import msgspec

from crdt.dot import Dot
from crdt.operations import JSON, Operation
from crdt.version_vector import VersionVector
from replication.errors import Invalid, TooLarge
from replication.event import Source
from replication.limits import ACTOR_BYTES_MAX, FIELD_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, TRANSACTION_EVENTS_MAX
from replication.stream_name import check_stream
from replication.values import check_operations, check_text, check_value


class Draft(msgspec.Struct, frozen=True, gc=False):
    """One event to be.

    Shape: `merge` is a merge-patch (RFC 7396) onto the registers, worked out against the state that the turn has
    reached. `context` is what the author has seen of this stream; None: everything this node holds of it.
    Raises: Invalid, naming what is wrong.
    """

    stream: str
    operations: tuple[Operation, ...] = ()
    merge: Mapping[str, JSON] | None = None
    context: VersionVector | None = None

    def __post_init__(self) -> None:
        check_stream(self.stream)
        if self.operations or not self.merge:
            check_operations(list(self.operations))
        for field_name, value in (self.merge or {}).items():
            check_text(field_name, "merge-patch", FIELD_BYTES_MAX)
            check_value(value, field_name)


class Command(msgspec.Struct, frozen=True, gc=False):
    """A transaction to write, all or none.

    Shape: `expect` maps a stream or prefix to the states of which it must be in one, exactly. `present` and `absent`
    are streams that must exist, or not. `request` is an idempotency key and the fingerprint of what was asked.
    Raises: Invalid or TooLarge, saying what is wrong.
    """

    drafts: tuple[Draft, ...]
    actor: str = "anonymous"
    expect: Mapping[str, tuple[VersionVector, ...]] = {}
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    request: tuple[str, bytes] | None = None
    occurred_at: str | None = None
    source: Source | None = None

    def __post_init__(self) -> None:
        check_text(self.actor, "actor", ACTOR_BYTES_MAX)
        if self.request is not None:
            check_text(self.request[0], "idempotency key", IDEMPOTENCY_KEY_BYTES_MAX)
        if not self.drafts:
            raise Invalid("events", "must hold at least one event")
        if len(self.drafts) > TRANSACTION_EVENTS_MAX:
            count = len(self.drafts)
            raise TooLarge(f"a transaction has {count} events; at most {TRANSACTION_EVENTS_MAX} are allowed")
        names: set[str] = set()
        for draft in self.drafts:
            if draft.stream in names:
                raise Invalid("events", f"stream {draft.stream!r} comes twice; a transaction has one event a stream")
            names.add(draft.stream)

    @property
    def operations(self) -> int:
        """How many there are in all."""
        return sum([len(draft.operations or draft.merge or ()) for draft in self.drafts])


class WrittenEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a transaction that was written.

    Shape: `vector` is the stream's state after it; `context` is what its author has now seen, or None where no vector
    states that exactly (the author had not seen an earlier event of this origin).
    """

    stream: str
    dot: Dot
    vector: VersionVector
    context: VersionVector | None


class Written(msgspec.Struct, frozen=True, gc=False):
    """A transaction that is on disk. `repeated`: it was there before this command, which asked for it again."""

    timestamp: int
    events: tuple[WrittenEvent, ...]
    repeated: bool = False
