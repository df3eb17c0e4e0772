"""How long an HTTP/1.1 connection waits, how much it takes in meanwhile, and how it ends."""

import json
from contextlib import suppress

import pytest
import trio

from node.connection import ServerConfig
from tests.http1 import BODY, GET, HOST, KINDS, hear, serving, statuses
from tests.serving import counting_turns


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


async def test_a_head_that_comes_by_drops_has_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.http1.connection.HEAD_READ_S", 0.5)
    monkeypatch.setattr("node.http1.connection.OVERSIGHT_S", 0.1)
    async with serving("httptools") as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)

        async def drip() -> None:
            await stream.send_all(GET + b"GET /")
            with suppress(trio.BrokenResourceError):
                while True:
                    await trio.sleep(0.05)
                    await stream.send_all(b"a")

        with trio.fail_after(5):
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(drip)
                assert statuses(await hear(stream, 2.0)) == [200, 408]


async def test_who_ends_in_the_middle_of_a_head_is_not_answered() -> None:
    async with serving("httptools") as server:
        assert await server.say(GET[:-2]) == b""


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


@pytest.mark.parametrize("kind", KINDS)
async def test_one_client_too_many_is_told_so(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServerConfig, "connections_max", 2)
    with trio.fail_after(10):
        async with serving(kind) as server:
            one, other = [await trio.open_tcp_stream("127.0.0.1", server.port) for _ in range(2)]
            async with one, other:
                for stream in (one, other):
                    await stream.send_all(GET)
                    assert statuses(await hear(stream, 0.1)) == [200]
                for said in (GET, b""):
                    refused = await server.say(said, end=False)
                    assert statuses(refused) == [503]
                    assert b"\r\nconnection: close\r\n" in refused
                    problem = json.loads(refused.partition(b"\r\n\r\n")[2])
                    assert (problem["status"], problem["type"]) == (503, "urn:atoll:problem:overloaded")
                await other.aclose()
                while statuses(await server.say(GET, end=False, seconds=0.3)) != [200]:
                    pass


async def test_an_answer_of_many_parts_lets_others_have_a_turn() -> None:
    async with serving("httptools") as server, counting_turns() as turns:
        before = turns()
        heard = await server.say(b"GET /parts HTTP/1.1\r\n" + HOST + b"\r\n", end=False, seconds=0.1)
        assert heard.count(b"1\r\nx\r\n") == 1000
        assert turns() - before > 900


async def test_a_client_that_asks_for_more_meanwhile_is_not_gone() -> None:
    async with serving("httptools") as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n")
            await trio.sleep(0.05)
            await stream.send_all(GET)
            with trio.move_on_after(0.3) as silence:
                await stream.receive_some()
        assert silence.cancelled_caught


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


@pytest.mark.parametrize(
    ("begin", "more"),
    [(b"", GET * 1000), (BODY + b"Content-Length: 1000000000\r\n\r\n", b"x" * 65_536)],
    ids=["requests", "a body"],
)
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
