"""The way to `/scim/v2`, which is loaded when it is first asked for, or was asked for before this start.

SCIM's models take twice as long to make as all the rest of a node takes to start, so a node that is asked for streams
alone never makes them, and one that serves a directory is back sooner for everything else. They are made in a thread:
meanwhile the node goes on, with half of Python's lock.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import cache

import trio

from node.directory.names import CLAIMS
from node.interface.reply import Rendered
from node.interface.request import Request
from node.service import Node

log = logging.getLogger("atoll.scim")

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@cache
def load() -> Callable[[Request], Awaitable[Rendered]]:
    """What answers, loaded if it has not been."""
    from node.interface.scim import scim  # that it is loaded here is what this is for

    return scim


async def load_if_in_use(node: Node) -> None:
    """Load it where names have been given: whoever had them will ask for more."""
    with node.replica.read() as snapshot:
        in_use = bool(snapshot.prefix(CLAIMS))
    if in_use:
        try:
            await trio.to_thread.run_sync(load)
        except Exception:  # whoever asks for it is told; everything else is served
            log.exception("/scim/v2 cannot be loaded")


async def scim(request: Request) -> Rendered:
    """Users and groups by SCIM 2.0; /scim/v2/ServiceProviderConfig says what is served."""
    if not load.cache_info().currsize:
        await trio.to_thread.run_sync(load)
    return await load()(request)
