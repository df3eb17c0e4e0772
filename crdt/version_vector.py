"""Version vectors: which dots a writer had seen, as the newest seq of each origin.

Every set of dots here is downward closed per origin (I2: no gaps), so one number an origin states it exactly.
An origin that is absent stands at 0; no vector holds a 0, so that equal sets are equal mappings.

Source: Parker et al. 1983, "Detection of mutual inconsistency in distributed systems".
"""

from collections.abc import Mapping

from crdt.dot import Dot

VersionVector = Mapping[str, int]


def covers(vector: VersionVector, dot: Dot) -> bool:
    """Whether the dot lies within the vector."""
    return dot.seq <= vector.get(dot.origin, 0)


def includes(vector: VersionVector, other: VersionVector) -> bool:
    """Whether every dot of `other` lies within `vector`."""
    if vector == other:  # most often
        return True
    for origin, seq in other.items():  # noqa: SIM110  # every event asks this, and a generator takes thrice as long
        if seq > vector.get(origin, 0):
            return False
    return True


def join(left: VersionVector, right: VersionVector) -> dict[str, int]:
    """The least vector that includes both."""
    joined = dict(left)
    for origin, seq in right.items():
        if seq > joined.get(origin, 0):
            joined[origin] = seq
    return joined


def cut(vector: VersionVector, bound: VersionVector) -> dict[str, int]:
    """The greatest vector that both include: `vector` without what lies beyond `bound`."""
    return {origin: min(seq, bound[origin]) for origin, seq in vector.items() if origin in bound}
