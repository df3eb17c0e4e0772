"""HTTP/1.1 for an ASGI application, on one trio stream: httptools parses, and nothing here costs a task a request.

A connection is one loop: read until a request's head is there, call the application, answer, go on. More is read only
when somebody asks for it (the next request, or the body's next part), so a client is slowed down by TCP itself and
what a connection holds is bounded by one read. Requests that came in one packet are answered in order.

Framing follows RFC 9112 and takes no chances: what two parsers could read in two ways (a Content-Length that is
repeated, or stands beside Transfer-Encoding; another coding than chunked; a bare line feed; a folded line) is refused
with 400 and the connection is closed. An Upgrade is not taken, and HTTP/2 by prior knowledge is refused with 505.
"""

import json
import logging
import math
import os
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
import trio

from node.limits import (
    BODY_READ_S,
    CONNECTION_IDLE_S,
    DRAIN_BYTES_MAX,
    DRAIN_S,
    HEAD_BYTES_MAX,
    HEAD_READ_S,
    HEADERS_MAX,
    OVERSIGHT_S,
    PIPELINED_MAX,
    READ_BYTES,
    WRITE_TIMEOUT_S,
)

log = logging.getLogger("atoll.http")

Event = MutableMapping[str, Any]
Application = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]
"""ASGI 3."""

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HTTP2_PREFACE = b"PRI * HTTP/2.0"
BODILESS = {204, 304}


class BadRequest(Exception):
    """Bytes that are no request that this server takes."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Message:
    """A request as it was read so far."""

    __slots__ = ("chunks", "complete", "headers", "http11", "keep_alive", "method", "target", "waits_for_continue")

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.http11 = True
        self.keep_alive = True
        self.waits_for_continue = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.complete = False


class Parser:
    """Requests out of bytes. `ready` holds those whose head is complete, in order."""

    def __init__(self) -> None:
        self.ready: deque[Message] = deque()
        self._parser = httptools.HttpRequestParser(self)
        self._message: Message | None = None
        self._head_bytes = 0
        self._in_head = False
        self._heard_body = False
        self._refused: BadRequest | None = None

    @property
    def in_head(self) -> bool:
        """Whether a request has begun whose head is not complete."""
        return self._in_head

    def feed(self, data: bytes) -> None:
        """Read on. Raises: BadRequest; what came before it in the same bytes is in `ready`."""
        self._heard_body = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request stands; what follows it is not read, and the connection ends with its answer.
            if self.ready:
                self.ready[-1].keep_alive = False
        except httptools.HttpParserError as error:
            if self._refused is not None:
                raise self._refused from None
            if data.startswith(HTTP2_PREFACE):
                raise BadRequest(505, "this server speaks HTTP/1.1") from None
            raise BadRequest(400, f"not a request: {error}") from None
        self._bound(len(data))

    def _bound(self, size: int) -> None:
        """Refuse a head, a trailer or a chunk's line that goes on and on."""
        if self._message is None or self._message.complete or self._heard_body:
            self._head_bytes = 0
            return
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            raise BadRequest(431, f"the request's head has more than {HEAD_BYTES_MAX} bytes")

    def _refuse(self, status: int, detail: str) -> None:
        self._refused = BadRequest(status, detail)
        raise self._refused

    # --- what httptools calls

    def on_message_begin(self) -> None:
        self._message = Message()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        assert self._message is not None
        self._message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        message = self._message
        assert message is not None
        if not self._in_head:
            return  # a trailer: read, and let be
        message.headers.append((name.lower(), value))
        if len(message.headers) > HEADERS_MAX:
            self._refuse(431, f"the request has more than {HEADERS_MAX} headers")

    def on_headers_complete(self) -> None:
        message, parser = self._message, self._parser
        assert message is not None
        self._in_head = False
        message.method = parser.get_method().decode("ascii")
        message.keep_alive = parser.should_keep_alive()
        version = parser.get_http_version()
        if version != "1.1":
            message.http11 = False
            if version != "1.0":
                self._refuse(505, f"HTTP/{version} is not spoken here")
        self._check(message)
        self.ready.append(message)

    def _check(self, message: Message) -> None:
        hosts = 0
        for name, value in message.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    self._refuse(501, "the only transfer-encoding taken is chunked")
                if not message.http11:
                    self._refuse(400, "HTTP/1.0 has no transfer-encoding")
            elif name == b"expect":
                if value.strip().lower() != b"100-continue":
                    self._refuse(417, "the only expectation met is 100-continue")
                message.waits_for_continue = message.http11
        if hosts != 1 and (hosts or message.http11):
            self._refuse(400, "a request has one Host header")
        if message.method == "CONNECT":
            self._refuse(501, "this is no proxy")
        if not message.target.startswith(b"/"):
            message.target = self._origin_form(message.target)

    def _origin_form(self, target: bytes) -> bytes:
        """Source: RFC 9112, section 3.2."""
        scheme, separator, rest = target.partition(b"://")
        if separator and scheme.lower() in (b"http", b"https"):
            path = rest[len(rest.partition(b"/")[0].partition(b"?")[0]) :]
            return path if path.startswith(b"/") else b"/" + path
        if target != b"*":
            self._refuse(400, "the request's target is neither a path nor a URL")
        return target

    def on_body(self, body: bytes) -> None:
        assert self._message is not None
        self._heard_body = True
        self._message.chunks.append(body)

    def on_message_complete(self) -> None:
        assert self._message is not None
        self._message.complete = True


class Dates:
    """The Date header, written anew each second."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        second = self._now_ms() // 1000
        if second != self._second:
            self._second = second
            self._line = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


class Wire:
    """Bytes to and from a client. A read gives nothing once the client is gone, and a write then does nothing.

    A plain socket is read and written without a detour through trio's scheduler where it is ready.
    """

    def __init__(self, stream: Any) -> None:
        self.gone = False
        self._heard_at = -math.inf
        self._stream = stream
        self._fd = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else -1

    async def read(self) -> bytes:
        try:
            if self._fd < 0:
                return bytes(await self._stream.receive_some(READ_BYTES))
            while not self.gone:
                await trio.lowlevel.wait_readable(self._fd)
                self._heard_at = trio.current_time()
                try:
                    return os.read(self._fd, READ_BYTES)
                except BlockingIOError:
                    continue
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
                with trio.move_on_after(WRITE_TIMEOUT_S) as waiting:
                    await trio.lowlevel.wait_writable(self._fd)
                if waiting.cancelled_caught and self._heard_at < trio.current_time() - WRITE_TIMEOUT_S:
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
        left = DRAIN_BYTES_MAX
        with trio.move_on_after(DRAIN_S):
            while left > 0 and (data := await self.read()):
                left -= len(data)


class Connection:
    """One client's connection."""

    def __init__(self, app: Application, wire: Wire, dates: Dates, scope: Event) -> None:
        """`scope` holds what all of its requests have in common."""
        self._app = app
        self._scope = scope
        self.wire = wire
        self.dates = dates
        self.parser = Parser()
        self.closing = False
        self.head_sent = False
        self._answering = False
        self._waits_until = math.inf
        self._bad: BadRequest | None = None

    async def run(self, stopping: Callable[[], Awaitable[None]]) -> None:
        """Serve requests until the client goes, is too slow, or the server stops."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._oversee, stopping, nursery.cancel_scope)
            await self._serve()
            nursery.cancel_scope.cancel()

    async def _oversee(self, stopping: Callable[[], Awaitable[None]], serving: trio.CancelScope) -> None:
        """End what takes too long, and what idles when the server stops.

        Moving a cancel scope's deadline for each request would cost more than parsing it.
        """
        while self._waits_until > (now := trio.current_time()):
            with trio.move_on_at(min(self._waits_until, now + OVERSIGHT_S)):
                await stopping()
                self.closing = True
                if self._answering:
                    await trio.sleep_forever()  # the answer under way is the last
                serving.cancel()
        if not self.head_sent and (self._answering or self.parser.in_head):
            self.wire.write_if_ready(self._plain(BadRequest(408, "the request took too long to arrive")))
        serving.cancel()

    async def _serve(self) -> None:
        ready = self.parser.ready
        while True:
            while not ready and self._bad is None:
                self.allow(HEAD_READ_S if self.parser.in_head else CONNECTION_IDLE_S)
                if not await self.read_on():
                    return
            self._waits_until = math.inf
            if not ready:
                await self.refuse()
                return
            message = ready.popleft()
            self._answering = True
            await self._answer(message)
            self._answering = self.head_sent = False
            if self.closing or self.wire.gone:
                if not message.complete:
                    await self.wire.linger()
                return

    def allow(self, seconds: float) -> None:
        """Give the client so long for what it sends next."""
        self._waits_until = trio.current_time() + seconds

    def allow_all_time(self) -> None:
        """Wait for the application now, not for the client."""
        self._waits_until = math.inf

    async def read_on(self) -> bool:
        """Read more of what the client sends; whether there was more."""
        data = await self.wire.read()
        if not data:
            return False
        if self._bad is None:
            try:
                self.parser.feed(data)
            except BadRequest as error:
                self._bad = error
        return True

    async def refuse(self) -> None:
        """Say what is wrong with what the client sent last; nothing after it is read."""
        assert self._bad is not None
        self.head_sent = self.closing = True
        await self.wire.write(self._plain(self._bad))
        await self.wire.linger()

    @property
    def has_read_enough_ahead(self) -> bool:
        """Whether to read on would be to hold more: of requests, or of the body of one, that nobody asks for yet."""
        ready = self.parser.ready
        return self.broken or len(ready) >= PIPELINED_MAX or bool(ready and not ready[-1].complete)

    @property
    def broken(self) -> bool:
        """Whether what the client sent last cannot be read."""
        return self._bad is not None

    async def _answer(self, message: Message) -> None:
        exchange = Exchange(self, message)
        path, _, query = message.target.partition(b"?")
        text = path.decode("latin-1")
        scope = {
            **self._scope,
            "http_version": "1.1" if message.http11 else "1.0",
            "method": message.method,
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "headers": message.headers,
        }
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:  # the application's own mistake: this request ends, and the server lives on
            log.exception("%s %r failed", message.method, path)
        await exchange.finish()

    def _plain(self, error: BadRequest) -> bytes:
        problem = {
            "type": "about:blank",
            "title": HTTPStatus(error.status).phrase,
            "status": error.status,
            "detail": error.detail,
        }
        body = json.dumps(problem).encode() + b"\n"
        head = STATUS_LINES[error.status] + self.dates.line() + b"connection: close\r\n"
        head += b"content-type: application/problem+json\r\ncontent-length: " + str(len(body)).encode()
        return head + b"\r\n\r\n" + body


class Exchange:
    """One request and its answer, as the application sees them."""

    __slots__ = ("_chunked", "_connection", "_done", "_ended", "_message", "_start")

    def __init__(self, connection: Connection, message: Message) -> None:
        self._connection = connection
        self._message = message
        self._start: Event | None = None
        self._chunked = False
        self._ended = False
        self._done = False

    async def receive(self) -> Event:
        """The body's next part, then, once the client is gone, that it is."""
        message, connection = self._message, self._connection
        while not self._ended and not connection.wire.gone:
            if message.chunks or message.complete:
                body = b"".join(message.chunks)
                message.chunks.clear()
                self._ended = message.complete
                return {"type": "http.request", "body": body, "more_body": not message.complete}
            if connection.broken:
                break
            if message.waits_for_continue:
                message.waits_for_continue = False
                if not connection.head_sent:
                    await connection.wire.write(CONTINUE)
            connection.allow(BODY_READ_S)
            if not await connection.read_on():
                break
            connection.allow_all_time()
        else:
            while not self._done and not connection.wire.gone:
                if connection.has_read_enough_ahead:
                    await trio.sleep_forever()  # until the application has answered, and ends this
                if not await connection.read_on():
                    break
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        """Take a part of the answer. Head and body go out together where they can."""
        if event["type"] == "http.response.start":
            if self._start is not None:
                raise RuntimeError("the answer has been started before")
            self._start = event
            return
        if event["type"] != "http.response.body":
            raise RuntimeError(f"an event of type {event['type']!r} is not expected here")
        if self._start is None or self._done:
            raise RuntimeError("a body comes after its start, and nothing after its end")
        body, more = event.get("body", b""), event.get("more_body", False)
        head = b"" if self._connection.head_sent else self._make_head(self._start, len(body), more)
        status = self._start["status"]
        if self._message.method == "HEAD" or status in BODILESS:
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self._done = not more
        await self._connection.wire.write(head + body)
        if more:
            await trio.lowlevel.checkpoint()

    def _make_head(self, start: Event, size: int, more: bool) -> bytes:
        message, connection = self._message, self._connection
        connection.head_sent = True
        status, headers = start["status"], start.get("headers", ())
        names = {name for name, _ in headers}
        lines = [STATUS_LINES[status], *[b"%b: %b\r\n" % header for header in headers if header[0] != b"connection"]]
        if b"connection" in names:
            connection.closing = connection.closing or any(header == (b"connection", b"close") for header in headers)
        if not message.keep_alive or not message.complete:
            connection.closing = True
        if b"content-length" not in names and status not in BODILESS:
            if not more:
                lines.append(b"content-length: %d\r\n" % size)
            elif message.http11:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                connection.closing = True
        if b"date" not in names:
            lines.append(connection.dates.line())
        if connection.closing:
            lines.append(b"connection: close\r\n")
        elif not message.http11:
            lines.append(b"connection: keep-alive\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines):
            raise RuntimeError("a header holds a line feed")
        return head + b"\r\n"

    async def finish(self) -> None:
        """See that the client has an answer, or that its connection ends."""
        if self._done or self._connection.wire.gone:
            return
        self._connection.closing = True
        if not self._connection.head_sent and self._connection.broken and not self._message.complete:
            await self._connection.refuse()
        elif not self._connection.head_sent:
            self._start = {"status": 500}
            await self.send({"type": "http.response.body"})
        else:
            self._connection.wire.gone = True  # half an answer: the client learns by the end of the connection
