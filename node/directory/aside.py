"""Work that takes long in one piece, done so that nobody else waits for it.

The library makes a model of each member of a group and of each operation of a bulk request, in one call: seconds, for
the largest. In a thread such a call shares Python's lock with the node's own (`node.limits.LOCK_WAIT_S`); what it is
given and what it gives must be nobody else's. One thread at a time, so that the node keeps half of the lock whatever
many clients send; what nobody waits for any more is left to end by itself.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

Args = TypeVarTuple("Args")
Made = TypeVar("Made")

_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("threads")


async def aside(large: bool, work: Callable[[*Args], Made], *args: *Args) -> Made:
    """What `work` returns or raises; from a thread, where it is large."""
    if not large:
        return work(*args)
    return await trio.to_thread.run_sync(work, *args, abandon_on_cancel=True, limiter=_limiter())


def _limiter() -> trio.CapacityLimiter:
    try:
        return _threads.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _threads.set(limiter)
        return limiter
