"""The ASGI application that the server runs: it answers what is asked most, and what is wrong; Quart the rest.

Both read the one route table and call the same handlers, so where a request is answered shows in nothing but its
cost. A framework gives a stream's read or write nothing that it needs, and takes most of its time.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any

import trio

from node.interface.application import Application
from node.interface.dispatch import dispatch
from node.interface.reply import Rendered, Stream
from node.interface.request import ClientGone, Request
from node.interface.routes import is_hot, locate
from node.service import Node

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
STREAMED = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))
"""Headers of an answer that goes on: nobody keeps it, and nginx hands on each part as it comes."""


class Gate:
    """One node's HTTP interface, as an ASGI application."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rest = Application(node)

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        place = locate(scope["raw_path"]) if scope["type"] == "http" else None
        if place is None or not is_hot(scope["method"], place):
            await self._rest(scope, receive, send)  # type: ignore[arg-type]  # it names the protocol's types its own way
            return
        headers = read_headers(scope["headers"])
        body = _Body(headers, receive)
        asked = Request(self._node, scope["method"], scope["raw_path"], "", {}, headers, body)
        try:
            answer = await dispatch(asked, place, scope["query_string"])
            if isinstance(answer, Rendered):
                if not await asked.drain():
                    answer.headers["connection"] = "close"
                await _send_whole(answer, scope["method"] == "HEAD", send)
            else:
                await _send_stream(answer, scope["method"] == "HEAD", receive, send)
        except ClientGone:
            return


def read_headers(raw: Collection[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; those that come twice are joined. Source: RFC 9110, section 5.3."""
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in raw}
    if len(headers) == len(raw):
        return headers
    headers.clear()
    for key, value in raw:
        name, text = key.decode("latin-1"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


class _Body:
    """A request's body, part by part as it is asked for; the client waits meanwhile."""

    def __init__(self, headers: Mapping[str, str], receive: Receive) -> None:
        self._receive = receive
        self._more = "content-length" in headers or "transfer-encoding" in headers

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._more:
            raise StopAsyncIteration
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        self._more = event.get("more_body", False)
        body: bytes = event.get("body", b"")
        return body


async def _send_whole(answer: Rendered, head_only: bool, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.status != 304:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head_only else answer.body})


async def _send_stream(answer: Stream, head_only: bool, receive: Receive, send: Send) -> None:
    """Send as long as there is something to send, and the client is there."""
    headers = [(b"content-type", answer.media_type.encode()), *STREAMED]
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def send_part(part: bytes) -> None:
        await send({"type": "http.response.body", "body": part, "more_body": True})

    if answer.reads_on:
        await answer.produce(send_part)
    elif not head_only:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_with_client, receive, nursery.cancel_scope)
            await answer.produce(send_part)
            nursery.cancel_scope.cancel()
    await send({"type": "http.response.body"})


async def _end_with_client(receive: Receive, answering: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()
