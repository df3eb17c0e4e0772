"""HTTP/1.1 byte by byte, on a real socket: each case against this project's protocol and against stock hypercorn's.

What both must agree on is whether a request is taken, and how the answer is framed; where ours is stricter, the case
says so. An application of a few lines stands behind both, so that nothing but the protocol is under test.
"""

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trustme
from hypercorn.trio import serve as hypercorn_serve

from node.connection import ServerConfig, use_in_hypercorn
from node.http1.answer import Dates
from node.http1.connection import Connection
from node.http1.exchange import Exchange
from node.http1.parser import Message, Parser
from node.server import listen
from tests.helpers import NOW

KINDS = ("httptools", "hypercorn")
HOST = b"Host: x\r\n"


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
    if path == "/waits":  # for the client to go
        while (await receive())["type"] != "http.disconnect":
            pass
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
HUGE = b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000000\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"

TAKEN: dict[str, tuple[bytes, list[bytes]]] = {
    "a plain request": (GET, [b"GET /a?b=c "]),
    "two in one packet, in order": (GET + GET.replace(b"/a", b"/z"), [b"GET /a?b=c ", b"GET /z?b=c "]),
    "a body": (b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", [b"POST /a? abc"]),
    "a body, then another request": (
        b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc" + GET,
        [b"POST /a? abc", b"GET /a?b=c "],
    ),
    "a chunked body": (
        b"POST /a HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n",
        [b"POST /a? abcde"],
    ),
    "an absolute target": (b"GET http://x/a?b=c HTTP/1.1\r\n" + HOST + b"\r\n", [b"/a?b=c "]),
    "percent-encoded": (b"GET /%C3%A9 HTTP/1.1\r\n" + HOST + b"\r\n", ["GET /é? ".encode()]),
    "a body under an upgrade, as Java's client sends it, then another request": (
        b"POST /a HTTP/1.1\r\n" + HOST + UPGRADE + b"Content-Length: 3\r\n\r\nabc" + GET,
        [b"POST /a? abc", b"GET /a?b=c "],
    ),
    "HTTP/1.0 without a host": (b"GET /a HTTP/1.0\r\n\r\n", [b"GET /a? "]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TAKEN)
async def test_what_is_right_is_answered_alike(kind: str, name: str) -> None:
    request, expected = TAKEN[name]
    async with serving(kind) as server:
        heard = await server.say(request, end=False, seconds=0.3)
        assert statuses(heard) == [200] * len(expected), heard
        places = [heard.find(part) for part in expected]
        assert -1 not in places, heard
        assert places == sorted(places), heard
        split = await server.say(*(request[at : at + 7] for at in range(0, len(request), 7)), end=False, seconds=0.3)
        assert statuses(split) == [200] * len(expected), split


BODY = b"POST /a HTTP/1.1\r\n" + HOST

REFUSED: dict[str, tuple[bytes, set[int]]] = {
    "two content-lengths": (BODY + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", {400}),
    "a content-length that is none": (BODY + b"Content-Length: +3\r\n\r\nabc", {400}),
    "another transfer-encoding": (BODY + b"Transfer-Encoding: gzip\r\n\r\n", {400, 501}),
    "a transfer-encoding in disguise": (BODY + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "two transfer-encodings": (
        BODY + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        {400, 501},
    ),
    "a blank before the colon": (BODY + b"Content-Length : 3\r\n\r\nabc", {400}),
    "a chunk's size that is none": (BODY + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", {400}),
    "a header with a NUL": (b"GET /a HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n", {400}),
    "no host": (b"GET /a HTTP/1.1\r\n\r\n", {400}),
    "two hosts": (b"GET /a HTTP/1.1\r\n" + HOST + HOST + b"\r\n", {400}),
    "something else than HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01", {400}),
}
STRICTER: dict[str, tuple[bytes, set[int]]] = {
    "a version that is none": (b"GET /a HTTP/9.9\r\n" + HOST + b"\r\n", {400, 505}),
    "a first line without end": (b"GET /" + b"a" * 200_000, {400, 431}),
    "a header without end": (b"GET /a HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 200_000, {400, 431}),
    "a length beside a transfer-encoding": (
        BODY + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "one content-length twice": (BODY + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", {400}),
    "a list of content-lengths": (BODY + b"Content-Length: 3, 3\r\n\r\nabc", {400}),
    "bare line feeds": (b"GET /a HTTP/1.1\nHost: x\n\n", {400}),
    "a bare line feed after a header": (b"GET /a HTTP/1.1\r\n" + HOST + b"A: b\nC: d\r\n\r\n", {400}),
    "a folded line": (b"GET /a HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", {400}),
    "a bare line feed after a chunk's size": (BODY + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", {400}),
    "a trailer without end": (BODY + b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"v" * 200_000, {400, 431}),
    "a proxy's request": (b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n", {501}),
    "an expectation that is none": (BODY + b"Expect: x\r\nContent-Length: 0\r\n\r\n", {417}),
    "too many headers": (b"GET /a HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n", {431}),
    "a transfer-encoding in HTTP/1.0": (
        b"POST /a HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "HTTP/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {505}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_wrong_is_refused_and_the_connection_ends(kind: str, name: str) -> None:
    request, allowed = REFUSED[name]
    async with serving(kind) as server:
        heard = await server.say(request, GET, end=False, seconds=3.0)
        assert {*statuses(heard)[-1:]} & allowed, heard
        assert b"GET /a?b=c" not in heard, "what follows is another request to somebody"


@pytest.mark.parametrize("name", STRICTER)
async def test_what_two_could_read_in_two_ways_is_refused(name: str) -> None:
    request, allowed = STRICTER[name]
    async with serving("httptools") as server:
        heard = await server.say(request, GET, end=False, seconds=3.0)
        assert len(statuses(heard)) == 1, heard
        assert {*statuses(heard)} <= allowed, heard
        assert b"application/problem+json" in heard
        assert b"connection: close" in heard
        assert statuses(await server.say(GET, end=False, seconds=0.3)) == [200], "one connection ends, not the server"


async def test_what_came_before_something_wrong_is_answered_first() -> None:
    async with serving("httptools") as server:
        heard = await server.say(GET + b"nonsense\r\n\r\n", end=False, seconds=3.0)
        assert statuses(heard) == [200, 400], heard


@pytest.mark.parametrize("kind", KINDS)
async def test_http2_ends_its_connection_and_not_the_server(kind: str) -> None:
    async with serving(kind) as server:
        for _ in range(3):
            assert 200 not in statuses(await server.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", seconds=1.0))
        heard = await server.say(b"GET /a HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n", end=False, seconds=0.3)
        assert statuses(heard) == [200], "an upgrade is let be"
        assert statuses(await server.say(GET, end=False, seconds=0.3)) == [200]


@pytest.mark.parametrize("kind", KINDS)
async def test_keep_alive_and_close(kind: str) -> None:
    async with serving(kind) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            for _ in range(3):
                await stream.send_all(GET)
                assert statuses(await hear(stream, 0.2)) == [200]
            await stream.send_all(GET.replace(HOST, HOST + b"Connection: close\r\n"))
            heard = await hear(stream, 3.0)
            assert statuses(heard) == [200]
            assert b"connection: close" in heard.lower()
        old = await server.say(b"GET /a HTTP/1.0\r\n" + HOST + b"\r\n", end=False, seconds=3.0)
        assert statuses(old) == [200]


async def test_keep_alive_is_said_to_those_of_http_1_0_who_ask_for_it() -> None:
    async with serving("httptools") as server:
        old = b"GET /a HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n"
        heard = await server.say(old, old, end=False, seconds=0.3)
        assert statuses(heard) == [200, 200]
        assert heard.count(b"connection: keep-alive\r\n") == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_head_and_204_have_no_body(kind: str) -> None:
    async with serving(kind) as server:
        heard = await server.say(b"HEAD /a HTTP/1.1\r\n" + HOST + b"\r\n", end=False, seconds=0.3)
        assert statuses(heard) == [200]
        assert heard.endswith(b"\r\n\r\n")
        assert b"content-length: 9" in heard.lower()
        heard = await server.say(b"GET /none HTTP/1.1\r\n" + HOST + b"\r\n", end=False, seconds=0.3)
        assert statuses(heard) == [204]
        assert heard.endswith(b"\r\n\r\n")
        assert b"transfer-encoding" not in heard.lower()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_of_unknown_length_is_chunked_and_in_http_1_0_ends_with_the_connection(kind: str) -> None:
    async with serving(kind) as server:
        heard = await server.say(b"GET /chunks HTTP/1.1\r\n" + HOST + b"\r\n", end=False, seconds=0.3)
        assert b"transfer-encoding: chunked" in heard.lower()
        assert heard.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), heard
        heard = await server.say(b"GET /chunks HTTP/1.0\r\n" + HOST + b"\r\n", end=False, seconds=3.0)
        assert heard.endswith(b"\r\n\r\nonetwo"), heard


@pytest.mark.parametrize("kind", KINDS)
async def test_expect_is_met_when_the_body_is_asked_for(kind: str) -> None:
    request = b"POST %b HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with serving(kind) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(request % b"/a")
            assert statuses(await hear(stream, 0.3)) == [100]
            await stream.send_all(b"abc")
            assert (await hear(stream, 0.3)).endswith(b"POST /a? abc")


async def test_nothing_is_said_of_an_expectation_inside_an_answer_or_to_those_of_http_1_0() -> None:
    async with serving("httptools") as server:
        old = b"POST /a HTTP/1.0\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        assert statuses(await server.say(old, b"abc", end=False)) == [200]
        head = b"POST /begun HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        heard = await server.say(head, b"abc", end=False)
        assert statuses(heard) == [200], heard
        assert heard.endswith(b"\r\n\r\n5\r\nbegun\r\n3\r\nabc\r\n0\r\n\r\n")


async def test_an_answer_before_the_body_ends_the_connection_and_is_not_lost() -> None:
    async with serving("httptools") as server:
        request = b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 500000\r\n\r\n"
        heard = await server.say(request, b"x" * 500_000, end=False, seconds=3.0)
        assert statuses(heard) == [200]
        assert heard.endswith(b"early")
        assert b"connection: close" in heard
        request = b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 20000000\r\n\r\n"
        heard = await server.say(request, b"x" * 20_000_000, end=False, seconds=3.0)
        assert statuses(heard) == [200], "a proxy that sends on would say that it had no answer"
        early = b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
        heard = await server.say(early + GET, end=False, seconds=0.3)
        assert statuses(heard) == [200, 200], "a body that is there already costs nobody a connection"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_says_it_is_done_is_still_answered(kind: str) -> None:
    async with serving(kind) as server:
        heard = await server.say(GET, end=True, seconds=3.0)
        assert kind == "hypercorn" or heard.endswith(b"GET /a?b=c "), heard


async def test_a_body_that_breaks_off_is_no_request() -> None:
    async with serving("httptools") as server:
        for framed in (b"Content-Length: 9\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc"):
            heard = await server.say(b"POST /a HTTP/1.1\r\n" + HOST + framed, seconds=3.0)
            assert statuses(heard) == [400]
            assert b"broke off" in heard


@pytest.mark.parametrize("kind", KINDS)
async def test_an_application_that_fails_answers_500_and_the_server_lives_on(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(kind) as server:
        heard = await server.say(b"GET /fails HTTP/1.1\r\n" + HOST + b"\r\n", end=False, seconds=0.5)
        assert statuses(heard) == [500]
        assert statuses(await server.say(GET, end=False, seconds=0.3)) == [200]


@pytest.mark.parametrize("kind", KINDS)
async def test_half_an_answer_ends_with_its_connection(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(kind) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(b"GET /half HTTP/1.1\r\n" + HOST + b"\r\n")
            heard = b""
            with trio.fail_after(5):
                while data := await stream.receive_some():
                    heard += data
        assert heard.endswith(b"\r\n\r\n4\r\nhalf\r\n"), "it does not look whole"
        assert statuses(await server.say(GET, end=False, seconds=0.3)) == [200]


async def test_waits_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("connection.HEAD_READ_S", "exchange.BODY_READ_S", "connection.CONNECTION_IDLE_S"):
        monkeypatch.setattr(f"node.http1.{name}", 0.5)
    monkeypatch.setattr("node.http1.connection.OVERSIGHT_S", 0.2)
    async with serving("httptools") as server:
        assert statuses(await server.say(b"GET /a HT", end=False)) == [408]
        assert statuses(await server.say(BODY + b"Content-Length: 3\r\n\r\na", end=False)) == [408]
        with trio.fail_after(3):
            assert await server.say(b"", end=False) == b""
            assert statuses(await server.say(GET, end=False)) == [200]


async def test_an_application_has_longer_to_answer_than_a_client_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.http1.exchange.BODY_READ_S", 0.8)
    monkeypatch.setattr("node.http1.connection.OVERSIGHT_S", 0.1)
    async with serving("httptools") as server:
        head = b"POST /slow HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n"
        heard = await server.say(head, b"abc", end=False, seconds=0.3)
        assert heard.endswith(b"POST /slow? abc"), heard


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reader_that_stalls_holds_nobody_for_long(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.http1.wire.WRITE_TIMEOUT_S", 0.3)
    monkeypatch.setattr("node.connection.WRITE_TIMEOUT_S", 0.3)
    with trio.fail_after(10):
        async with serving(kind) as server:
            stalled = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with stalled:
                await stalled.send_all(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
                await trio.sleep(0.6)
                assert statuses(await server.say(GET, end=False, seconds=0.3)) == [200]
                while not await comes_to_an_end(stalled, 16_000_000):
                    await trio.sleep(0.6)
            stalled = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with stalled:
                await stalled.send_all(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
                await trio.sleep(0.1)
                server.stop.set()


async def comes_to_an_end(stream: trio.SocketStream, most: int) -> bool:
    """Whether the server ends the connection within so many bytes: those that were on their way before."""
    while most > 0:
        data = await stream.receive_some(65_536)
        if not data:
            return True
        most -= len(data)
    return False


async def test_a_client_that_sends_is_slowed_down_when_nobody_reads() -> None:
    """What one connection holds is about one read, whatever it is sent."""
    async with serving("httptools") as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
            sent = 0
            with trio.move_on_after(0.7):
                while True:
                    await stream.send_all(GET * 1000)
                    sent += len(GET) * 1000
        assert sent < 20_000_000


@pytest.mark.parametrize(("begin", "more"), [(b"", GET * 1000), (HUGE, b"x" * 65_536)], ids=["requests", "a body"])
async def test_what_is_sent_ahead_is_not_read_without_end(begin: bytes, more: bytes) -> None:
    """While the application waits for the client to go: what was read would be held for later."""
    async with serving("httptools") as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n" + begin)
            sent, slowed_down = 0, False
            while not slowed_down and sent < 60_000_000:
                with trio.move_on_after(0.5) as sending:
                    await stream.send_all(more)
                sent, slowed_down = sent + len(more), sending.cancelled_caught
        assert slowed_down


async def test_after_a_refusal_nothing_more_comes_and_what_still_comes_is_dropped_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving("httptools") as server:
        with trio.fail_after(10):
            monkeypatch.setattr("node.http1.wire.DRAIN_S", 60.0)
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with stream:
                await stream.send_all(b"nonsense\r\n\r\n")
                while await stream.receive_some():
                    pass  # it ends, while the other direction is open
            monkeypatch.setattr("node.http1.wire.DRAIN_S", 0.3)
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with stream:
                with pytest.raises(trio.BrokenResourceError):
                    await send_for_ever(stream, b"nonsense\r\n\r\n")


async def send_for_ever(stream: trio.SocketStream, data: bytes) -> None:
    while True:
        await stream.send_all(data)
        await trio.sleep(0.01)


async def test_shutdown_ends_idle_connections_at_once() -> None:
    with trio.fail_after(10):
        async with serving("httptools", graceful_timeout=60.0) as server:
            idle = await trio.open_tcp_stream("127.0.0.1", server.port)
            await trio.sleep(0.05)
            server.stop.set()
            assert await hear(idle) == b""
            await idle.aclose()


async def test_shutdown_lets_an_answer_under_way_finish_and_be_the_last() -> None:
    with trio.fail_after(10):
        async with serving("httptools", graceful_timeout=60.0) as server:
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with stream:
                await stream.send_all(GET.replace(b"/a", b"/slow") + GET)
                await trio.sleep(0.1)
                server.stop.set()
                heard = await hear(stream, 3.0)
        assert statuses(heard) == [200], heard
        assert b"connection: close" in heard
        assert heard.endswith(b"GET /slow?b=c ")


async def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    files = {"certfile": str(tmp_path / "server.pem"), "keyfile": str(tmp_path / "server.pem")}
    async with serving("httptools", **files) as server:
        plain = await trio.open_tcp_stream("127.0.0.1", server.port)
        stream = trio.SSLStream(plain, trusting, server_hostname="localhost", https_compatible=True)
        async with stream:
            await stream.send_all(GET)
            assert (await hear(stream)).endswith(b"GET /a?b=c ")
            assert stream.selected_alpn_protocol() == "http/1.1"


def test_a_url_without_a_path_asks_for_the_root() -> None:
    parser = Parser()
    parser.feed(b"GET http://x?a=b HTTP/1.1\r\n" + HOST + b"\r\n")
    assert parser.ready[0].target == b"/?a=b"


def test_a_trailer_is_no_header() -> None:
    parser = Parser()
    parser.feed(BODY + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nHost: y\r\nContent-Type: z\r\n\r\n")
    [message] = parser.ready
    assert message.complete
    assert message.headers == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


def test_a_header_cannot_smuggle_another_line_in() -> None:
    message = Message()
    message.complete = True
    connection = object.__new__(Connection)
    connection.closing = connection.head_sent = False
    connection.dates = Dates(lambda: NOW)
    exchange = Exchange(connection, message)
    with pytest.raises(RuntimeError, match="line feed"):
        exchange._make_head({"status": 200, "headers": [(b"a", b"b\r\nc: d")]}, 0, False)
