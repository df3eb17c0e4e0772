"""A last-writer-wins register that remembers whom it beat.

The cell holds the live writes: those that no other write, nor a delete, observed. The greatest by (timestamp,
origin, seq) is the value; the rest are concurrent writes that lost, and stay visible (I10) until superseded.

Source: Shapiro et al. 2011, "A comprehensive study of CRDTs", sections 3.2.1 (LWW) and 3.2.2 (multi-value), joined.
"""

from typing import NamedTuple

from crdt.dot import Dot
from crdt.operations import JSON
from crdt.version_vector import VersionVector


class Write(NamedTuple):
    """One live write. Compares by (timestamp, origin, seq), which no two writes share."""

    timestamp: int
    origin: str
    seq: int
    value: JSON

    @property
    def dot(self) -> Dot:
        """The event that wrote it."""
        return Dot(self.origin, self.seq)


Register = tuple[Write, ...]
"""The live writes, greatest first."""


def unobserved(register: Register, context: VersionVector) -> Register:
    """The writes that the context does not cover."""
    seen = context.get
    return tuple([write for write in register if write.seq > seen(write.origin, 0)])


def written(concurrent: Register, write: Write) -> Register:
    """The register after a write, from the live writes that its author had not observed."""
    return ordered((*concurrent, write)) if concurrent else (write,)


def ordered(writes: tuple[Write, ...]) -> Register:
    """Live writes in the register's order."""
    if len(writes) < 2:
        return writes
    return tuple(sorted(writes, key=lambda write: write[:3], reverse=True))
