"""An application of a few lines behind this project's HTTP/1.1 or stock hypercorn's, and a client that speaks in bytes."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
import trio.lowlevel
from hypercorn.trio import serve as hypercorn_serve

from node.connection import ServerConfig, use_in_hypercorn
from node.server import listen
from tests.helpers import NOW

KINDS = ("httptools", "hypercorn")
HOST = b"Host: x\r\n"
WRONG_HEADS: dict[str, dict[str, Any]] = {
    "/smuggles-a-line": {"status": 200, "headers": [(b"a", b"b\r\nc: d")]},
    "/smuggles-a-return": {"status": 200, "headers": [(b"a", b"b\rc: d")]},
    "/no-status": {"status": 299, "headers": []},
}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Echoes what it was asked; some paths answer in other ways."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    path = scope["path"]
    if path == "/early":  # an answer that does not wait for the body
        await answer(send, b"early")
        return
    if path == "/fails":
        raise RuntimeError("as it must")
    if path == "/closes":  # whatever the client would like
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body"})
        return
    if path in WRONG_HEADS:
        await send({"type": "http.response.start"} | WRONG_HEADS[path])
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    if path == "/waits":  # for the client to go
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if path == "/parts":  # as fast as they are taken
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})
        return
    if path == "/begun":  # an answer that begins before the body is read
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    body = await whole_body(receive)
    if body is None:
        return
    if path == "/slow":
        await trio.sleep(1.2)
    if path == "/begun":
        await send({"type": "http.response.body", "body": body})
    elif path in ("/chunks", "/endless", "/half", "/none"):
        await answer_otherwise(path, send)
    else:
        await answer(send, f"{scope['method']} {path}?{scope['query_string'].decode()} ".encode() + body)


async def answer_otherwise(path: str, send: Any) -> None:
    if path == "/none":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if path == "/chunks":
        for part in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
    if path == "/half":
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("as it must")
    while path == "/endless":
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await trio.lowlevel.checkpoint()


async def whole_body(receive: Any) -> bytes | None:
    """None once the client is gone."""
    body = b""
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        body += event.get("body", b"")
        more = event.get("more_body", False)
    return body


async def live(receive: Any, send: Any) -> None:
    event = {"type": ""}
    while event["type"] != "lifespan.shutdown":
        event = await receive()
        await send({"type": event["type"] + ".complete"})


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Server:
    """Where it listens, and how to stop it."""

    port: int
    stop: trio.Event

    async def say(self, *parts: bytes, end: bool = True, seconds: float = 5.0) -> bytes:
        """Send the parts, each for itself; all that is answered until the server hangs up or falls silent."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            for part in parts:
                await stream.send_all(part)
                await trio.sleep(0.01)
            if end:
                await stream.send_eof()
            return await hear(stream, seconds)


async def hear(stream: trio.abc.ReceiveStream, seconds: float = 0.3) -> bytes:
    """What comes until the server hangs up, or says nothing more for so long; it has longer to begin."""
    heard, patience = b"", 5.0
    while True:
        with trio.move_on_after(patience) as waiting:
            try:
                data = await stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return heard
        if waiting.cancelled_caught or not data:
            return heard
        heard, patience = heard + data, seconds


@asynccontextmanager
async def serving(kind: str, **options: Any) -> AsyncIterator[Server]:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = ServerConfig()
    config.http = kind
    config.now_ms = lambda: NOW
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = config.errorlog = None
    config.graceful_timeout = config.shutdown_timeout = 1.0
    config.alpn_protocols = ["http/1.1"]
    for name, value in options.items():
        setattr(config, name, value)
    use_in_hypercorn()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: hypercorn_serve(application, config, shutdown_trigger=stop.wait, mode="asgi"))
        await trio.sleep(0.05)
        yield Server(port, stop)
        stop.set()


def statuses(heard: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", heard)]


GET = b"GET /a?b=c HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = b"POST /a HTTP/1.1\r\n" + HOST
