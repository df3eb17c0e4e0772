"""What this node will not take now, and until when: told to peers in every digest, so that they send the rest.

A held-back transaction is due when its stamp is no longer too far ahead. One that was refused for itself, such as
a fork, is tried again from time to time: its sender may have been mended. What merely came early needs no memory.
"""

from collections.abc import Iterable

from replication.admission import EARLY, LeftOut
from replication.limits import LEFT_OUT_MAX, LEFT_OUT_RETRY_MS
from replication.messages import Withheld


class WithheldTransactions:
    """The newest refusal of each origin. Units: times in Unix milliseconds."""

    def __init__(self) -> None:
        self._by_origin: dict[str, tuple[LeftOut, int]] = {}

    def note(self, left_out: Iterable[LeftOut], now_ms: int) -> None:
        """Remember what an arrival left out."""
        for one in left_out:
            if one.reason not in EARLY and one.origin:
                self._by_origin.pop(one.origin, None)
                self._by_origin[one.origin] = (one, one.due_ms or now_ms + LEFT_OUT_RETRY_MS)
        while len(self._by_origin) > LEFT_OUT_MAX:
            del self._by_origin[next(iter(self._by_origin))]

    def current(self, now_ms: int) -> list[LeftOut]:
        """What is still withheld; what has fallen due is forgotten."""
        self._by_origin = {origin: kept for origin, kept in self._by_origin.items() if kept[1] > now_ms}
        return [one for one, _ in self._by_origin.values()]

    def stated(self, now_ms: int) -> tuple[Withheld, ...]:
        """The same, as a digest states it."""
        return tuple(Withheld(one.origin, one.seq, one.reason) for one in self.current(now_ms))
