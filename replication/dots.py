"""A stream's events that a vector does not cover, newest first within each origin, at a cost of just those.

Each row of the log names the same origin's event before it on the same stream, and the stream's vector names the
last of each origin.
"""

from collections.abc import Iterator

from crdt.dot import Dot
from crdt.version_vector import VersionVector
from replication.snapshot import Snapshot
from replication.tables import LogRow


def walk_back(snapshot: Snapshot, stream: VersionVector, covered: VersionVector) -> Iterator[LogRow]:
    """The rows of a stream with this vector, of events that `covered` does not cover."""
    for origin, newest in stream.items():
        seq = newest
        while seq > covered.get(origin, 0):
            row = snapshot.event(Dot(origin, seq))
            assert row is not None, f"{origin}.{seq} is in a stream's vector and not in the log"
            yield row
            seq = row.earlier
