"""What a node knows of one of its peers: what it holds, what others see to, how it answers.

A peer is due a push where it lacks anything that nobody else has promised it. A promise lapses by itself: whoever
made it may have failed, or lied.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from replication.exchange import is_behind
from replication.limits import MESSAGE_TARGET_BYTES, ORIGINS_MAX
from replication.messages import Claim, Digest
from replication.tables import Head


@dataclass(eq=False)
class Peer:
    """What is known of one peer.

    Shape: `digest` is the newest it sent; None before the first. Since `called_at` it owes an answer. Until
    `pulls_until`, if `pulled` is not set before, it is being given the same by a pull. `byte_limit` is what a message
    to or from it holds at most, as its link allows. `promises` is what others said that it has or is being sent: by
    who said so, with when that lapses.
    """

    url: str
    origin: str | None = None
    digest: Digest | None = None
    failures: int = 0
    error: str | None = None
    last_answer_ms: int | None = None
    answers: int = 0
    is_pulled_from: bool = False
    retry_at: float = 0.0
    pulls_until: float = 0.0
    byte_limit: int = MESSAGE_TARGET_BYTES
    called_at: float = math.inf
    promises: dict[str, tuple[Mapping[str, Claim], float]] = field(default_factory=dict)
    pulled: trio.Event = field(default_factory=trio.Event)
    wake: trio.Event = field(default_factory=trio.Event)
    heard: trio.Event = field(default_factory=trio.Event)

    def is_due(self, heads: Mapping[str, Head]) -> bool:
        """Whether it lacks anything of these that nobody else said to be sending it."""
        if self.digest is None or not is_behind(self.digest, heads):
            return False
        for promised, lapses in self.promises.values():
            if trio.current_time() < lapses:
                heads = {origin: head for origin, head in heads.items() if not _reaches(promised, origin, head.seq)}
        return is_behind(self.digest, heads)

    def note_promise(self, promiser: str, heads: Mapping[str, Claim], seconds: float) -> None:
        """Whom another sees to needs nothing from here, for about as long as pulls take to mend what that misses."""
        now = trio.current_time()
        self.promises = {other: one for other, one in self.promises.items() if now < one[1]}
        if len(self.promises) < ORIGINS_MAX or promiser in self.promises:
            self.promises[promiser] = heads, now + seconds


def _reaches(heads: Mapping[str, Claim], origin: str, seq: int) -> bool:
    return origin in heads and heads[origin].seq >= seq
