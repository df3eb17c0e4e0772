"""Unique values, without a lock that regions would have to share.

Whoever takes a name claims it in the same transaction: an element in the claim's set, on the condition that the set
is as it was when nobody held the name. So a region never gives a name twice. Two regions that are cut from each other
can; both are accepted, and when they meet, the earliest claim (timestamp, origin, seq) holds everywhere, since that
order is the same everywhere. The other user stays, reachable by id, and is listed until it is renamed.

A claim counts as long as its user exists and still has the value, so a claim that was overtaken needs no repair.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from crdt.version_vector import VersionVector
from node.directory.names import CLAIMS, HOLDERS, claim_stream, is_resource
from node.views.folding import fold
from node.views.state import state_of
from node.views.view import State
from replication.errors import Refused
from replication.event_codec import decode_header
from replication.queries import live_additions, live_members
from replication.snapshot import Snapshot
from replication.tables import StreamRow

USER_NAME, EXTERNAL_ID = "userName", "externalId"


class HomeOutOfReach(Refused):
    """The region that gives a name cannot be asked (`node.directory.homes`)."""


class Claim(NamedTuple):
    """A claim that counts. The least is the one that holds."""

    timestamp: int
    origin: str
    seq: int
    stream: str


def compared(attribute: str, value: str) -> str:
    """What values of an attribute are compared by."""
    return fold(value) if attribute == USER_NAME else value


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims on a value. Shape: `counting` has the one that holds first; `vector` is their stream's state."""

    stream: str
    counting: tuple[Claim, ...] = ()
    overtaken: tuple[str, ...] = ()
    vector: VersionVector = field(default_factory=dict)


def claims_on(snapshot: Snapshot, attribute: str, value: str) -> Claims:
    """The claims on a value."""
    name = claim_stream(attribute, compared(attribute, value))
    row = snapshot.stream(name)
    if row is None or row.opaque:
        return Claims(name)
    counting: list[Claim] = []
    overtaken: list[str] = []
    for holder, live in live_members(snapshot, row, HOLDERS):
        if live and has(state_of(snapshot, holder), attribute, value):
            counting.append(_claim(snapshot, row, holder))
        elif live:
            overtaken.append(holder)
    return Claims(name, tuple(sorted(counting)), tuple(overtaken), row.vector)


def _claim(snapshot: Snapshot, row: StreamRow, holder: str) -> Claim:
    """A holder's earliest addition."""
    made: list[Claim] = []
    for dot in live_additions(snapshot, row, HOLDERS, holder):
        stored = snapshot.event(dot)
        assert stored is not None, f"{dot} is in a set and not in the log"
        made.append(Claim(decode_header(stored.encoded.header).timestamp, dot.origin, dot.seq, holder))
    return min(made)


def has(state: State | None, attribute: str, value: str) -> bool:
    """Whether a stream is a user that exists and has this value."""
    return is_resource(state) and compared(attribute, state.text(attribute)) == compared(attribute, value)


def ranked(snapshot: Snapshot, attribute: str, value: str, streams: Iterable[str]) -> list[str]:
    """Those of the streams that have a value, the one whose claim holds first; without a claim last, by name."""
    claims = claims_on(snapshot, attribute, value).counting
    order = {claim.stream: place for place, claim in enumerate(claims)}
    having = (stream for stream in streams if has(state_of(snapshot, stream), attribute, value))
    return sorted(having, key=lambda stream: (order.get(stream, len(order)), stream))


def contested(snapshot: Snapshot, name: str) -> tuple[str, str, tuple[Claim, ...]] | None:
    """The attribute, the value and the claims of a claim's stream, where more than one of them counts."""
    row = snapshot.stream(name)
    if row is None or row.opaque:
        return None
    attribute = name.removeprefix(CLAIMS).partition("/")[0]
    for holder, live in live_members(snapshot, row, HOLDERS):
        state = state_of(snapshot, holder) if live else None
        value = state.text(attribute) if state is not None else ""
        if value and claim_stream(attribute, compared(attribute, value)) == name:
            claims = claims_on(snapshot, attribute, value).counting
            return (attribute, value, claims) if len(claims) > 1 else None
    return None
