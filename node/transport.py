"""Messages to peers over HTTP: one POST to a peer's /gossip each, on connections that are kept."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache

import httpx
import trio

from node.limits import PEER_ANSWER_S, PEER_CALL_S, PEER_CONNECT_S, PEER_CONNECTION_IDLE_S, PEER_CONNECTIONS_MAX
from node.seams import Unreachable
from replication.limits import MESSAGE_BYTES_MAX

MEDIA_TYPE = "application/vnd.msgpack"
TIMEOUT = httpx.Timeout(PEER_ANSWER_S, connect=PEER_CONNECT_S)
LIMITS = httpx.Limits(max_keepalive_connections=PEER_CONNECTIONS_MAX, keepalive_expiry=PEER_CONNECTION_IDLE_S)
HEADERS = {"content-type": MEDIA_TYPE}
EXTENSIONS = {"timeout": TIMEOUT.as_dict()}
SENT = "http11.send_request_body.complete"
"""What httpx says of a request when its last byte is written."""


@lru_cache(maxsize=PEER_CONNECTIONS_MAX)
def _target(url: str) -> httpx.URL:
    return httpx.URL(f"{url.rstrip('/')}/gossip")


class HttpTransport:
    """Calls peers with httpx. Close it with `aclose`."""

    def __init__(self, wire: httpx.AsyncBaseTransport | None = None) -> None:
        """`wire` carries the requests where that is not a socket."""
        # Not through httpx's client: what that adds (redirects, cookies, authentication, proxies of the environment)
        # is for the web, and takes longer than the rest of an exchange.
        self._wire = wire or httpx.AsyncHTTPTransport(limits=LIMITS, trust_env=False)

    async def call(self, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        """Send one message; the peer's answer. `sent` is told as soon as it is on its way. Raises: Unreachable."""
        extensions = EXTENSIONS if sent is None else {**EXTENSIONS, "trace": _tracing(sent)}
        with _unreachable():
            response = await self._wire.handle_async_request(
                httpx.Request("POST", _target(url), headers=HEADERS, content=message, extensions=extensions)
            )
            try:
                return await _read(response)
            finally:
                await response.aclose()

    async def ask(self, url: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Post to a peer's interface; the status and body of its answer. Raises: Unreachable."""
        with _unreachable():
            target = httpx.URL(url.rstrip("/") + path)
            encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
            request = httpx.Request("POST", target, headers=encoded, content=body, extensions=EXTENSIONS)
            response = await self._wire.handle_async_request(request)
            try:
                return response.status_code, await _bytes(response)
            finally:
                await response.aclose()

    async def aclose(self) -> None:
        await self._wire.aclose()


@contextmanager
def _unreachable() -> Iterator[None]:
    """Bound a call, and have whatever ends it without an answer be one error. Raises: Unreachable."""
    try:
        with trio.fail_after(PEER_CALL_S):
            yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(str(error) or type(error).__name__) from None
    except trio.TooSlowError:
        raise Unreachable(f"no whole answer within {PEER_CALL_S:g} s") from None


def _tracing(sent: Callable[[], None]) -> Callable[[str, object], Awaitable[None]]:
    async def trace(step: str, _: object) -> None:
        if step == SENT:
            sent()

    return trace


async def _read(response: httpx.Response) -> bytes:
    """The answer's bytes, and no more than a message may have."""
    if not response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        raise Unreachable(f"the peer answered {response.status_code} and no message")
    return await _bytes(response)


async def _bytes(response: httpx.Response) -> bytes:
    data = bytearray()
    with trio.CancelScope() as enough:  # from inside: what httpx reads by are generators, which are to end in order
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > MESSAGE_BYTES_MAX:
                enough.cancel()
    if len(data) > MESSAGE_BYTES_MAX:
        raise Unreachable("the peer's answer is larger than a message may be")
    return bytes(data)
