"""An event as meaning sees it: who wrote it, when, having observed what, and what it does to its stream."""

from dataclasses import dataclass

from crdt.dot import Dot
from crdt.operations import Operation
from crdt.version_vector import VersionVector


@dataclass(slots=True)
class Event:
    """An immutable, atomic change of one stream. (Freezing it by force would cost as much as folding it.)

    `context` holds dots of this stream's events only, never the event's own.
    """

    dot: Dot
    timestamp: int
    context: VersionVector
    operations: tuple[Operation, ...]

    @property
    def order(self) -> tuple[int, str, int]:
        """Where the event stands wherever an order shows (I4). Causes come before their effects."""
        return (self.timestamp, self.dot.origin, self.dot.seq)
