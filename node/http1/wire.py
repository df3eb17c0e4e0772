"""Bytes to and from one client, with an end to every wait for it to read."""

import os
from typing import Any

import trio

from node.limits import DRAIN_S, READ_BYTES, WRITE_TIMEOUT_S


class Wire:
    """Bytes to and from a client. A read gives nothing once the client is gone, and a write then does nothing.

    A plain socket is read and written without a detour through trio's scheduler where it is ready.
    """

    def __init__(self, stream: Any) -> None:
        self.gone = False
        self._heard = False
        self._stream = stream
        self._fd = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else -1

    async def read(self) -> bytes:
        try:
            if self._fd < 0:
                return bytes(await self._stream.receive_some(READ_BYTES))
            await trio.lowlevel.checkpoint()
            while not self.gone:
                try:
                    data = os.read(self._fd, READ_BYTES)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._fd)
                    continue
                self._heard = True
                return data
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.gone = True
        return b""

    async def write(self, data: bytes) -> None:
        """Write all of it, as fast as the client reads; one that neither reads nor sends for a while is gone."""
        if self.gone:
            return
        try:
            if self._fd < 0:
                with trio.fail_after(WRITE_TIMEOUT_S):
                    await self._stream.send_all(data)
                return
            sent = self._try(data)
            while sent < len(data):
                self._heard = False
                with trio.move_on_after(WRITE_TIMEOUT_S) as waiting:
                    await trio.lowlevel.wait_writable(self._fd)
                if waiting.cancelled_caught and not self._heard:
                    raise trio.TooSlowError
                sent += self._try(memoryview(data)[sent:])
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self.gone = True
            await trio.aclose_forcefully(self._stream)

    def write_if_ready(self, data: bytes) -> None:
        """A last word, if it can be said at once."""
        if self._fd >= 0 and not self.gone:
            try:
                os.write(self._fd, data)
            except OSError:
                self.gone = True

    def _try(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    async def linger(self) -> None:
        """Say that nothing more comes, and drop what the client still sends: its answer would be lost else."""
        if self.gone or self._fd < 0:
            return
        try:
            await self._stream.send_eof()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            return
        with trio.move_on_after(DRAIN_S):
            while await self.read():
                pass
