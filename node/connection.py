"""hypercorn's connection, but for one thing: a client that stops reading cannot hold the node.

hypercorn shields every write from cancellation, so one stalled reader blocks it, and the shutdown, for ever. Here a
write has a time, and may be cancelled; either way the connection is over then, since what was sent of the answer is
not known.
"""

import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio import run
from hypercorn.trio.tcp_server import TCPServer

from node.limits import WRITE_TIMEOUT_S


class Connection(TCPServer):
    """One client's connection."""

    async def protocol_send(self, event: Event) -> None:
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.fail_after(WRITE_TIMEOUT_S):
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                await trio.aclose_forcefully(self.stream)
                await self.protocol.handle(Closed())
            except trio.Cancelled:
                await trio.aclose_forcefully(self.stream)
                raise


def use_in_hypercorn() -> None:
    """Have hypercorn's trio worker make connections of this kind: it has no parameter for that."""
    assert hasattr(run, "TCPServer"), "this version of hypercorn makes its connections elsewhere"
    run.TCPServer = Connection
