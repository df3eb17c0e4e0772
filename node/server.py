"""Serving one node: a listening socket, the application on hypercorn's trio worker, and a clean end."""

import random
import resource
import socket
from collections.abc import Awaitable, Callable
from typing import cast

import trio
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework

from node.configuration import Configuration
from node.connection import ServerConfig, use_in_hypercorn
from node.errors import ListenError
from node.interface.directory import load_if_in_use
from node.interface.gate import Gate
from node.limits import BACKLOG, CONNECTION_IDLE_S, CONNECTIONS_MAX, GRACEFUL_S
from node.seams import Clock, Transport
from node.service import Node, run_node


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises: ListenError.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where the socket is reached on this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    configuration: Configuration,
    listener: socket.socket,
    clock: Clock,
    transport: Transport,
    entropy: random.Random,
    stop: Callable[[], Awaitable[None]],
    started: Callable[[Node], None] = lambda node: None,
) -> None:
    """Run a node and its HTTP server on an open socket until `stop` returns.

    `started` is called once the server listens. Raises: StoreRefused.
    """
    async with run_node(configuration, clock, transport, entropy) as node, trio.open_nursery() as nursery:

        async def shutdown() -> None:
            await stop()
            node.stop()

        nursery.start_soon(load_if_in_use, node)
        use_in_hypercorn()
        started(node)
        # hypercorn takes the descriptor for its own and closes it.
        config = _config(listener.detach(), configuration.http, clock)
        app = cast(ASGIFramework, Gate(node))  # each names the protocol's types in its own way
        await hypercorn_serve(app, config, shutdown_trigger=shutdown, mode="asgi")


def _config(descriptor: int, http: str, clock: Clock) -> ServerConfig:
    config = ServerConfig()
    config.http = http
    config.now_ms = clock.now_ms
    config.connections_max = min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    config.bind = [f"fd://{descriptor}"]
    config.alpn_protocols = ["http/1.1"]
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = GRACEFUL_S
    config.shutdown_timeout = GRACEFUL_S
    config.keep_alive_timeout = CONNECTION_IDLE_S
    config.include_server_header = False
    return config
