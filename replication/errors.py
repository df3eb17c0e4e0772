"""Who is at fault, and whether anything changed.

- `Refused`: the request cannot be done as it stands. Nothing changed (I8).
- `PeerError`: a peer's message cannot be taken at all. Nothing changed.
- `StoreRefused`: the directory cannot be opened as asked. Nothing changed.
- `StoreFull`: there is no room for it. Nothing changed; the next may find some.
- `StoreFailed`: the disk failed under a commit. Writing has ended until the store is reopened.

An assertion that fails is our own mistake.
"""

from collections.abc import Mapping
from typing import TypeVar

from crdt.version_vector import VersionVector

E = TypeVar("E", bound=BaseException)

FIELD_SHOWN_MAX = 256
"""Characters of what is wrong that an error repeats: a client may send megabytes."""


class Refused(Exception):
    """A request that cannot be done; the store is as it was."""


def detached(error: E) -> E:
    """The error without the frames that it came through: they hold all rows of its turn, which it outlives."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


class Invalid(Refused):
    """A request that is wrong in itself.

    Shape: `field` is the path of what is wrong, as the client wrote it, or how that begins.
    """

    def __init__(self, field: str, detail: str) -> None:
        if len(field) > FIELD_SHOWN_MAX:
            field = f"{field[:FIELD_SHOWN_MAX]}…"
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field = field
        self.detail = detail


class TooLarge(Refused):
    """A request beyond a limit."""


class UnknownStream(Refused):
    """The stream does not exist, whether or not it ever had events."""

    def __init__(self, stream: str, vector: VersionVector) -> None:
        super().__init__(f"stream {stream!r} does not exist")
        self.stream = stream
        self.vector = vector


class ConditionFailed(Refused):
    """A stream or prefix is not in the state that the client named."""

    def __init__(self, name: str, vector: VersionVector, detail: str) -> None:
        super().__init__(detail)
        self.name = name
        self.vector = vector


class ContextAhead(Refused):
    """A context names events that this node does not hold."""

    def __init__(self, missing: VersionVector) -> None:
        super().__init__("the context names events that this node does not hold")
        self.missing = missing


class RequestMismatch(Refused):
    """An idempotency key that was used for another request."""


class Unfoldable(Refused):
    """The stream holds events of a format or operation that this node does not know."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"stream {stream!r} holds events that this version cannot fold; upgrade this node")
        self.stream = stream


class ClockAhead(Refused):
    """The next timestamp would be too far ahead of this node's wall clock."""

    def __init__(self, ahead_ms: int, limit_ms: int) -> None:
        super().__init__(f"the next timestamp is {ahead_ms} ms ahead of this node's wall clock (limit {limit_ms})")
        self.ahead_ms = ahead_ms


class TooManyOrigins(Refused):
    """The store knows as many origins as it may."""


class StoreFull(Refused):
    """The map, or the disk, has no room for this write. Reads go on."""


class StoreFailed(Refused):
    """A commit failed otherwise than for room: writing has ended until the store is reopened."""


class PeerError(Exception):
    """A peer's message that cannot be taken. Shape: `reason` is one of a fixed list of words."""

    def __init__(self, reason: str, detail: str, extra: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.extra = dict(extra or {})


class StoreRefused(Exception):
    """A store that cannot be opened as asked, and why."""


class Malformed(Exception):
    """Bytes that are not an event, a transaction or a message of this protocol."""
