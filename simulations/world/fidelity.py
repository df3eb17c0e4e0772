"""How a request reaches the production code: `direct` calls its functions, `http` goes through the real HTTP stack.

Direct is for searching: the interface's own dispatch and the exchange's own functions. Http puts the real ASGI
application behind the real httpx client, over a wire in memory, so that what they do is under test too. The network
in between is the same, and counts the same bytes, so both leave the same trace.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import httpx

from node.interface.dispatch import dispatch
from node.interface.gate import Gate
from node.interface.reply import Rendered
from node.interface.request import Request
from node.interface.routes import locate
from node.seams import Transport, Unreachable
from node.service import Node
from node.transport import MEDIA_TYPE, SENT, HttpTransport


class Asked(NamedTuple):
    """A client's request. Shape: `target` is path and query."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Told(NamedTuple):
    """What was answered. Shape: `link` is where the next page is, if there is one."""

    status: int
    etag: str
    link: str
    body: bytes


ADDED = ("host", "content-length")
"""Headers that httpx adds of its own."""

Exchange = Callable[[str, bytes], Awaitable[bytes]]
"""Carries a message to a region's node, and its answer back. Raises: Unreachable."""
Asking = Callable[[str, Asked], Awaitable[Told]]
"""Carries a request to a region's node, and its answer back. Raises: Unreachable."""


class Door(Protocol):
    """One running node, as those outside reach it."""

    async def ask(self, asked: Asked) -> Told: ...
    async def answer(self, message: bytes) -> bytes: ...


def open_door(fidelity: str, node: Node) -> Door:
    return HttpDoor(node) if fidelity == "http" else DirectDoor(node)


def make_transport(fidelity: str, exchange: Exchange, ask: Asking) -> Transport:
    """A node's way to its peers."""
    return HttpTransport(Wire(exchange, ask)) if fidelity == "http" else DirectTransport(exchange, ask)


def region_of_url(url: str) -> str:
    return urlsplit(url).hostname or ""


class DirectDoor:
    """Calls the interface's dispatch and the exchange's answer."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ask(self, asked: Asked) -> Told:
        path, _, query = asked.target.encode().partition(b"?")
        headers = {**asked.headers, "content-length": str(len(asked.body))}
        request = Request(self._node, asked.method, path, "", {}, headers, _chunks(asked.body))
        answer = await dispatch(request, locate(path), query)
        assert isinstance(answer, Rendered), "the simulator's clients ask for nothing that goes on"
        return Told(answer.status, answer.headers.get("etag", ""), answer.headers.get("link", ""), answer.body)

    async def answer(self, message: bytes) -> bytes:
        data, _ = await self._node.gossip.answer(message)
        return data


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


class DirectTransport:
    """Hands messages to the network as they are."""

    def __init__(self, exchange: Exchange, ask: Asking) -> None:
        self._exchange = exchange
        self._ask = ask

    async def call(self, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        if sent is not None:
            sent()
        return await self._exchange(region_of_url(url), message)

    async def ask(self, url: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        told = await self._ask(region_of_url(url), Asked("POST", path, headers, body))
        return told.status, told.body


class HttpDoor:
    """The node's ASGI application, asked through httpx."""

    def __init__(self, node: Node) -> None:
        wire = httpx.ASGITransport(cast(Any, Gate(node)))  # each names the protocol's types in its own way
        self._client = httpx.AsyncClient(transport=wire, base_url="http://node", trust_env=False)

    async def ask(self, asked: Asked) -> Told:
        response = await self._client.request(
            asked.method, asked.target, headers=dict(asked.headers), content=asked.body
        )
        headers = response.headers
        return Told(response.status_code, headers.get("etag", ""), headers.get("link", ""), response.content)

    async def answer(self, message: bytes) -> bytes:
        response = await self._client.post("/gossip", headers={"content-type": MEDIA_TYPE}, content=message)
        return response.content


class Wire(httpx.AsyncBaseTransport):
    """Carries a node's own httpx requests over the simulated network."""

    def __init__(self, exchange: Exchange, ask: Asking) -> None:
        self._exchange = exchange
        self._ask = ask

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        message = await request.aread()
        if "trace" in request.extensions:
            await request.extensions["trace"](SENT, {})
        try:
            if request.url.path != "/gossip":
                headers = {name: value for name, value in request.headers.items() if name not in ADDED}
                told = await self._ask(request.url.host, Asked("POST", request.url.path, headers, message))
                return httpx.Response(told.status, stream=httpx.ByteStream(told.body))
            answer = await self._exchange(request.url.host, message)
        except Unreachable as error:
            raise httpx.ReadTimeout(str(error), request=request) from None
        return httpx.Response(200, headers={"content-type": MEDIA_TYPE}, stream=httpx.ByteStream(answer))
