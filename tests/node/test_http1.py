"""HTTP/1.1 byte by byte, on a real socket: each case against this project's protocol and against stock hypercorn's.

What both must agree on is whether a request is taken, and how the answer is framed; where ours is stricter, the case
says so. An application of a few lines stands behind both, so that nothing but the protocol is under test.
"""

import ssl
from pathlib import Path

import pytest
import trio
import trustme

from node.http1.parser import Parser
from node.interface.gate import read_headers
from tests.http1 import BODY, GET, HOST, KINDS, WRONG_HEADS, hear, serving, statuses

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
    "a target that is a word": (b"GET http HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "a target of another scheme": (b"GET ftp://x/a HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
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


@pytest.mark.parametrize("kind", KINDS)
async def test_an_application_may_close_the_connection(kind: str) -> None:
    async with serving(kind) as server:
        heard = await server.say(GET.replace(b"/a", b"/closes"), GET, end=False, seconds=2.0)
        assert statuses(heard) == [204]
        assert heard.lower().count(b"connection: close\r\n") == 1


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
        unread = b"POST /fails HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\na"
        assert statuses(await server.say(unread, end=False, seconds=0.5)) == [500]
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
            await stream.send_all(b"nonsense\r\n\r\n")
            assert statuses(await hear(stream)) == [400]


def test_a_url_without_a_path_asks_for_the_root() -> None:
    parser = Parser()
    parser.feed(b"GET http://x?a=b HTTP/1.1\r\n" + HOST + b"\r\n")
    assert parser.ready[0].target == b"/?a=b"


def test_headers_that_come_twice_are_one() -> None:
    raw = [(b"if-none-match", b'"a"'), (b"host", b"x"), (b"if-none-match", b'"b"'), (b"if-none-match", b'"c"')]
    assert read_headers(raw) == {"if-none-match": '"a", "b", "c"', "host": "x"}


def test_a_trailer_is_no_header() -> None:
    parser = Parser()
    parser.feed(BODY + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nHost: y\r\nContent-Type: z\r\n\r\n")
    [message] = parser.ready
    assert message.complete
    assert message.headers == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("path", WRONG_HEADS)
async def test_a_head_that_cannot_be_sent_is_answered_500(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A header that would smuggle in another line is one."""
    async with serving("httptools") as server:
        heard = await server.say(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n", end=False, seconds=0.3)
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"content-length: 0" in head
    assert b"chunked" not in head
    assert not body
