"""A link between two regions of the demo: a TCP proxy that can be cut, healed and slowed down."""

import math
import re
from dataclasses import dataclass, field

import trio

CHUNKS_UNDER_WAY = 64
DELAY = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s)", re.ASCII)
UNITS = {"ms": 0.001, "s": 1.0}
DELAY_MAX_S = 60.0


@dataclass(eq=False)
class Link:
    """One direction of calling: whoever connects to the proxy reaches the target. Units: `delay_s`, each way."""

    target: tuple[str, int]
    cut: bool = False
    delay_s: float = 0.0
    _connections: set[trio.CancelScope] = field(default_factory=set)

    def set_cut(self, cut: bool) -> None:
        """Cut: break every connection and take no new one; or take them again."""
        self.cut = cut
        if cut:
            for scope in self._connections:
                scope.cancel()

    async def serve(self, listener: trio.SocketListener) -> None:
        """Take connections until cancelled."""
        await trio.serve_listeners(self._connect, [listener])

    async def _connect(self, near: trio.SocketStream) -> None:
        if self.cut:
            return
        with trio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                await self._join(near)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                return  # an end that broke off: the connection is over
            finally:
                self._connections.discard(scope)

    async def _join(self, near: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(*self.target) as far:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, near, far)
                    nursery.start_soon(self._pump, far, near)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # as above

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        """Carry bytes one way; each waits the delay, and they wait together."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](CHUNKS_UNDER_WAY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, receive, sink)
            async with send:
                async for chunk in source:
                    await send.send((trio.current_time() + self.delay_s, bytes(chunk)))

    async def _deliver(
        self, receive: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.SocketStream
    ) -> None:
        async for due, chunk in receive:
            await trio.sleep_until(due)
            await sink.send_all(chunk)
        await sink.send_eof()


def parse_delay(text: str) -> float:
    """Seconds, from `80ms` or `1.5s`.

    Raises: ValueError.
    """
    match = DELAY.fullmatch(text)
    seconds = float(match[1]) * UNITS[match[2]] if match else math.inf
    if seconds > DELAY_MAX_S:
        raise ValueError(text)
    return seconds
