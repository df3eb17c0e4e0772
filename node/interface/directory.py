"""The way to `/scim/v2`, which is loaded when it is first asked for.

SCIM's models take twice as long to make as all the rest of a node takes to start, so a node that is asked for streams
alone never makes them, and one that serves a directory is back sooner for everything else. They are made in a thread:
meanwhile the node goes on, with half of Python's lock.
"""

from collections.abc import Awaitable, Callable
from functools import cache

import trio

from node.interface.reply import Rendered
from node.interface.request import Request

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@cache
def load() -> Callable[[Request], Awaitable[Rendered]]:
    """What answers, loaded if it has not been."""
    from node.interface.scim import scim  # that it is loaded here is what this is for

    return scim


async def scim(request: Request) -> Rendered:
    """Users and groups by SCIM 2.0; /scim/v2/ServiceProviderConfig says what is served."""
    if not load.cache_info().currsize:
        await trio.to_thread.run_sync(load)
    return await load()(request)
