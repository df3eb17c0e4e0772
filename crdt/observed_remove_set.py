"""An observed-remove set without tombstones, one element at a time.

An element's cell holds the dots of its live additions: those that no other addition, removal or delete observed.
The element is in the set while one is left. A removal takes out exactly the additions it observed, so one that
is concurrent with it survives.

Source: Bieniusa et al. 2012, "An optimized conflict-free replicated set", section 4.
"""

from crdt.dot import Dot
from crdt.version_vector import VersionVector

Additions = tuple[Dot, ...]
"""The live additions of one element, in no order that shows."""


def removed(additions: Additions, context: VersionVector) -> Additions:
    """The additions left by a removal (or a delete) whose author had observed `context`."""
    seen = context.get
    return tuple([dot for dot in additions if dot.seq > seen(dot.origin, 0)])


def added(additions: Additions, context: VersionVector, dot: Dot) -> Additions:
    """The additions after one more, whose author had observed `context`."""
    return (*removed(additions, context), dot) if additions else (dot,)
