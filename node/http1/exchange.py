"""One request and its answer, as an ASGI application sees them."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import trio

from node.http1.answer import BODILESS, CONTINUE, STATUS_LINES, Dates
from node.http1.parser import Message
from node.http1.wire import Wire
from node.limits import BODY_READ_S

Event = MutableMapping[str, Any]
Application = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]
"""ASGI 3."""


class Carrier(Protocol):
    """The connection, as one of its exchanges needs it."""

    wire: Wire
    dates: Dates
    closing: bool
    head_sent: bool

    @property
    def broken(self) -> bool: ...
    @property
    def has_read_enough_ahead(self) -> bool: ...
    def allow(self, seconds: float) -> None: ...
    def allow_all_time(self) -> None: ...
    async def read_on(self) -> bool: ...
    async def refuse(self) -> None: ...


class Exchange:
    """One request and its answer, as the application sees them."""

    __slots__ = ("_chunked", "_connection", "_done", "_ended", "_message", "_start")

    def __init__(self, connection: Carrier, message: Message) -> None:
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
        status, headers = start["status"], start.get("headers", ())
        names = {name for name, _ in headers}
        lines = [STATUS_LINES[status], *[b"%b: %b\r\n" % header for header in headers if header[0] != b"connection"]]
        if b"connection" in names:
            connection.closing = connection.closing or any(header == (b"connection", b"close") for header in headers)
        if not message.keep_alive or not message.complete:
            connection.closing = True
        if b"content-length" not in names and status not in BODILESS:
            if not more:
                if size or message.method != "HEAD":  # else nobody knows how long what GET sends is
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
        if not head.count(b"\n") == head.count(b"\r") == len(lines):
            raise RuntimeError("a header holds the end of a line")
        connection.head_sent = True
        return head + b"\r\n"

    async def finish(self) -> None:
        """See that the client has an answer, or that its connection ends."""
        if self._done or self._connection.wire.gone:
            return
        self._connection.closing = True  # of half an answer the client learns by the end of its connection
        if self._connection.head_sent:
            return
        if self._connection.broken and not self._message.complete:
            await self._connection.refuse()
        else:
            self._start, self._chunked = {"status": 500}, False
            await self.send({"type": "http.response.body"})
