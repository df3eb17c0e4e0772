"""The server's connections: hypercorn listens, speaks TLS and runs the application's life; the connection is ours.

Either of two serves HTTP/1.1 on it. `httptools`: our own (`node.http1`), several times faster. `hypercorn`: its
protocol on h11, as it is, but for a write that has a time and can be cancelled; hypercorn shields it, so that one
reader that stalls would hold the shutdown for ever.

Neither speaks HTTP/2: hypercorn's trio worker dies whole when clients vanish with streams in flight, and one
connection must never end the process. It is not offered by ALPN, refused by prior knowledge, and not upgraded to.
"""

from collections.abc import Callable
from typing import Any

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from hypercorn.trio import run, tcp_server
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.utils import parse_socket_addr

from node.http1.answer import STATUS_LINES, Dates
from node.http1.connection import Connection as Http1Connection
from node.http1.wire import Wire
from node.interface.content import dump_json
from node.interface.problems import Problem
from node.limits import CONNECTIONS_MAX, REFUSAL_S, WRITE_TIMEOUT_S

_FULL = dump_json(
    Problem("overloaded", "as many clients as may be are connected; try again, or another region").document
)
NO_ROOM = STATUS_LINES[503] + (
    b"connection: close\r\nretry-after: 1\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%b" % (len(_FULL), _FULL)
)


class ServerConfig(Config):
    """hypercorn's configuration, which protocol serves HTTP/1.1, and how many connections there may be and are."""

    http = "httptools"
    now_ms: Callable[[], int]
    connections_max = CONNECTIONS_MAX
    connections = 0


class Connection(TCPServer):
    """One client's connection."""

    async def run(self) -> None:
        assert isinstance(self.config, ServerConfig)
        self.config.connections += 1
        try:
            if self.config.connections > self.config.connections_max:
                await self._refuse()
            elif self.config.http == "hypercorn":
                await super().run()
            else:
                await self._run(self.config)
        finally:
            self.config.connections -= 1

    async def _refuse(self) -> None:
        """Say that there is no room, and go; what the client has sent is read first, or it might not hear that."""
        wire = Wire(self.stream)
        with trio.move_on_after(REFUSAL_S):
            await wire.read()
        wire.write_if_ready(NO_ROOM)
        await trio.aclose_forcefully(self.stream)

    async def _run(self, config: ServerConfig) -> None:
        try:
            await self._run_http1(config)
        except OSError:
            pass  # the client is gone
        finally:
            await self._close()

    async def _run_http1(self, config: ServerConfig) -> None:
        stream: Any = self.stream
        socket, scheme = stream, "http"
        if isinstance(stream, trio.SSLStream):
            socket, scheme = stream.transport_stream, "https"
            try:
                with trio.fail_after(config.ssl_handshake_timeout):
                    await stream.do_handshake()
            except (trio.BrokenResourceError, trio.TooSlowError):
                return
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": scheme,
            "root_path": config.root_path,
            "client": parse_socket_addr(socket.socket.family, socket.socket.getpeername()),
            "server": parse_socket_addr(socket.socket.family, socket.socket.getsockname()),
            "state": self.state,
            "extensions": {},
        }
        app = self.app.app  # type: ignore[attr-defined]  # hypercorn's wrapper of ASGI applications, the only kind here
        connection = Http1Connection(app, Wire(stream), Dates(config.now_ms), scope)
        await connection.run(self.context.terminated.wait)

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()  # else a client that is gone stays for as long as one may idle

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


class _Http1Alone(H11Protocol):
    """hypercorn's HTTP/1.1, which lets an upgrade to HTTP/2 be."""

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.method == b"PRI":
            raise H2ProtocolAssumedError(b"")


class _Protocol(ProtocolWrapper):
    """hypercorn's choice between protocols, of which there is one."""

    def __init__(self, *arguments: Any) -> None:
        common = arguments[:9]  # all but what ALPN settled on
        super().__init__(*common)
        self.protocol = _Http1Alone(*common)

    async def handle(self, event: Event) -> None:
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError:
            await self.send(Closed())


def use_in_hypercorn() -> None:
    """Have hypercorn's trio worker make connections of this kind: it has no parameter for that."""
    assert hasattr(run, "TCPServer"), "this version of hypercorn makes its connections elsewhere"
    assert hasattr(tcp_server, "ProtocolWrapper"), "this version of hypercorn chooses its protocol elsewhere"
    run.TCPServer = Connection
    tcp_server.ProtocolWrapper = _Protocol
