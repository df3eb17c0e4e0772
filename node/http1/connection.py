"""One client's connection: a loop that reads a request, has it answered, and goes on; and what ends it."""

import json
import logging
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import unquote

import trio

from node.http1.answer import STATUS_LINES, Dates
from node.http1.exchange import Application, Event, Exchange
from node.http1.parser import BadRequest, Message, Parser
from node.http1.wire import Wire
from node.limits import CONNECTION_IDLE_S, HEAD_READ_S, OVERSIGHT_S, PIPELINED_MAX

log = logging.getLogger("atoll.http")


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
            in_head = False
            while not ready and self._bad is None:
                if not in_head:  # a head has its time as a whole: by drops it would take days
                    in_head = self.parser.in_head
                    self.allow(HEAD_READ_S if in_head else CONNECTION_IDLE_S)
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
            if self.parser.in_body and self._bad is None:
                self._bad = BadRequest(400, "the request's body broke off")
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
