"""Every clause of what bad input gets: status, problem type, the field it names, and a store that did not change."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from node.interface.problems import PREFIX
from node.limits import BODY_BYTES_MAX
from replication.errors import FIELD_SHOWN_MAX
from replication.limits import REQUEST_KEPT_MS
from replication.packing import pack
from replication.replica import Arrival
from replication.tokens import format_token
from tests.helpers import check_store, later_event
from tests.http1 import KINDS
from tests.serving import Served, serving

JSON_TYPE = {"content-type": "application/json"}
MSGPACK = {"content-type": "application/vnd.msgpack"}
STRANGER = "zz.00000001"
LOST = "yy.00000001"


@dataclass
class Case:
    """One bad request. Shape: `named` is None where no one field is wrong; `says` must stand in the detail."""

    clause: str
    method: str
    path: str
    status: int
    type: str
    named: str | None = None
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    says: str = ""


def post(clause: str, body: Any, field_name: str | None, type_: str = "invalid", says: str = "") -> Case:
    return Case(clause, "POST", "/streams/users/4", 400, type_, field_name, body, JSON_TYPE, says)


def packed(clause: str, body: bytes, field_name: str | None, type_: str = "malformed") -> Case:
    return Case(clause, "POST", "/streams/users/4", 400, type_, field_name, body, MSGPACK)


def get(clause: str, path: str, field_name: str | None, **headers: str) -> Case:
    return Case(
        clause, "GET", path, 400, "invalid", field_name, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def name(raw: str) -> Case:
    return Case(f"name {raw}", "GET", f"/streams/{raw}", 400, "invalid", "stream")


def written(clause: str, status: int, type_: str, field_name: str | None = None, **headers: str) -> Case:
    body = b'{"set":{"n":1}}'
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Case(clause, "POST", "/streams/users/4", status, type_, field_name, body, {**JSON_TYPE, **named})


OTHER_SCOPE = format_token("users/5", {})
AHEAD = format_token("users/4", {"eu.00000009": 7})
LOST_TOKEN = format_token("users/4", {LOST: 13})
EMPTY = format_token("users/4", {})
NOW_OR_NEVER = {"prefer": "wait=0"}

CASES = [
    # 400: what cannot be read
    post("malformed JSON", b"{", "body", "malformed", "line 1"),
    post("no JSON", b"", "body", "malformed"),
    post("two values", b"{}{}", "body", "malformed"),
    post("invalid UTF-8", b'{"set":{"n":"\xff"}}', "body", "malformed", "byte 13"),
    post("duplicate keys", b'{"set":{"n":1,"n":2}}', "n", "malformed", "twice"),
    post("duplicate keys outside", b'{"set":{"n":1},"set":{"n":1}}', "set", "malformed"),
    post("NaN", b'{"set":{"n":NaN}}', "body", "malformed", "NaN"),
    post("infinity", b'{"set":{"n":-Infinity}}', "body", "malformed"),
    post("a float beyond", b'{"set":{"n":1e999}}', "set.n", says="finite"),
    post("an integer beyond 64 bits", b'{"set":{"n":18446744073709551616}}', "set.n", says="64 bits"),
    post("a negative beyond 64 bits", b'{"set":{"n":-9223372036854775809}}', "set.n"),
    post("an integer of many digits", b'{"set":{"n":' + b"9" * 5000 + b"}}", "body", "malformed"),
    post("a lone surrogate", b'{"set":{"n":"\\ud800"}}', "set.n", says="surrogate"),
    post("a lone surrogate in a key", b'{"set":{"n":{"\\ud800":1}}}', "set.n"),
    post("a lone surrogate as field", b'{"set":{"\\udfff":1}}', None, says="surrogate"),
    post("a lone surrogate as element", b'{"add":{"m":["\\ud800"]}}', "add.m"),
    post("nesting too deep", b'{"set":{"n":' + b"[" * 33 + b"]" * 33 + b"}}", None, says="deeper"),
    post("nesting far too deep", b"[" * 100_000, "body", "malformed"),
    post("nesting too deep for any body", b'{"frob":' + b"[" * 40 + b"]" * 40 + b"}", "body", "malformed", "deeper"),
    packed("msgpack too deep for any body", b"\x81\xa4frob" + b"\x91" * 40 + b"\xc0", "body"),
    packed("malformed msgpack", b"\xc1", "body"),
    packed("msgpack and more", pack({"set": {"n": 1}}) + b"x", "body"),
    packed("msgpack, duplicate keys", b"\x82\xa3set\x81\xa1n\x01\xa3set\x81\xa1n\x01", "body"),
    packed("msgpack, invalid UTF-8", b"\x81\xa3set\x81\xa1n\xa1\xff", "body"),
    packed("msgpack, keys no text", b"\x81\x01\x02", "body"),
    packed("msgpack, bytes", pack({"set": {"n": b"x"}}), "set.n", "invalid"),
    packed("msgpack, NaN", pack({"set": {"n": float("nan")}}), "set.n", "invalid"),
    # 400: what is wrong in itself
    post("no object", b"[]", "body"),
    post("unknown key", b'{"sett":{"n":1}}', "sett", says="known are set"),
    post("empty event", b"{}", None, says="empty"),
    post("set of no object", b'{"set":[]}', "set"),
    post("set of nothing", b'{"set":{}}', "set"),
    post("add of no list", b'{"add":{"m":"x"}}', "add.m"),
    post("add of nothing", b'{"add":{"m":[]}}', "add.m"),
    post("add of a number", b'{"add":{"m":[7]}}', "add.m", says="element"),
    post("remove of no object", b'{"remove":null}', "remove"),
    post("an empty element", b'{"add":{"m":[""]}}', "add.m"),
    post("an empty field", b'{"set":{"":1}}', "set"),
    post("an element too long", json.dumps({"add": {"m": ["x" * 481]}}).encode(), "add.m", says="480"),
    post(
        "an error that could be as long as what it tells of",
        json.dumps({"add": {"f" * 300_000: [7]}}).encode(),
        f"add.{'f' * (FIELD_SHOWN_MAX - 4)}…",
    ),
    post("a field too long", json.dumps({"set": {"f" * 129: 1}}).encode(), "set", says="128"),
    post("the same cell twice", b'{"add":{"m":["x"]},"remove":{"m":["x"]}}', "m.x", says="twice"),
    post("the same element twice", b'{"add":{"m":["x","x"]}}', "m.x"),
    post("delete beside other operations", b'{"delete":true,"set":{"n":1}}', "delete", says="alone"),
    post("delete that is not true", b'{"delete":1}', "delete"),
    post("occurred_at that is no time", b'{"set":{"n":1},"occurred_at":"now"}', "occurred_at"),
    post("occurred_at that never was", b'{"set":{"n":1},"occurred_at":"2026-02-30T00:00:00Z"}', "occurred_at"),
    post("source of no object", b'{"set":{"n":1},"source":7}', "source"),
    post("source without position", b'{"set":{"n":1},"source":{"name":"f"}}', "source.position"),
    post("source of unknown key", b'{"set":{"n":1},"source":{"file":"f"}}', "source.file"),
    Case("patch of no object", "PATCH", "/streams/users/4", 400, "invalid", "body", b"[]", JSON_TYPE),
    Case("patch of nothing", "PATCH", "/streams/users/4", 400, "invalid", None, b"{}", JSON_TYPE),
    # 400: names
    *(name(raw) for raw in ("a//b", "%FF", "a%2Fb", "a%00", "a%0a", "%2e%2e", "%", "%4x", "x" * 256)),
    *(name(raw) for raw in ("a%C2%80", "/".join("x" * 17))),
    Case(
        "a prefix is not written", "POST", "/streams/users/", 405, "method-not-allowed", body=b"{}", headers=JSON_TYPE
    ),
    # 400: query parameters
    get("unknown parameter", "/streams/users/4?conflict=true", "conflict"),
    get("parameter twice", "/streams/users/4?conflicts=true&conflicts=true", "conflicts"),
    get("parameter no UTF-8", "/streams/users/4?set=%FF", "query"),
    get("flag that is none", "/streams/users/4?conflicts=yes", "conflicts"),
    get("limit of none", "/streams/?limit=0", "limit"),
    get("limit too large", "/streams/?limit=1001", "limit"),
    get("limit no number", "/streams/?limit=ten", "limit"),
    get("limit in other digits", "/streams/?limit=%EF%BC%91", "limit"),
    get("limit of thousands of digits", f"/streams/?limit={'1' * 5_000}", "limit"),
    get("cursor that is none", "/streams/?cursor=abc", "cursor"),
    get("cursor of no base64", "/streams/?cursor=%C3%A9", "cursor"),
    get("contains without set", "/streams/users/4?contains=x", "contains"),
    get("limit without set", "/streams/users/4?limit=1", "limit"),
    get("cursor without set", "/streams/users/4?cursor=abc", "cursor"),
    get("limit of one element", "/streams/users/4?set=mail&contains=x&limit=1", "limit"),
    get("conflicts of a set", "/streams/users/4?set=mail&conflicts=true", "conflicts"),
    get("a set of what was split off", "/streams/users/4?set=mail&follow=true", "follow"),
    get("what was split off as it was", "/streams/users/4?at=2026-01-01T00:00:00Z&follow=true", "follow"),
    get("a flag beside a set that is none", "/streams/users/4?set=mail&follow=maybe", "follow"),
    get("at with set", "/streams/users/4?at=2026-01-01T00:00:00Z&set=mail", "at"),
    get("at that is no time", "/streams/users/4?at=yesterday", "at"),
    get("at before time", "/streams/users/4?at=1969-12-31T23:59:59Z", "at"),
    get("at of another scope", f"/streams/users/4?at={OTHER_SCOPE}", "at"),
    get("prefix that is none", "/changes?prefix=a//b", "prefix"),
    get("after that is no token", "/changes?after=yesterday", "after"),
    get("after of another scope", f"/changes?prefix=users/4&after={OTHER_SCOPE}", "after"),
    get("form that is none", "/changes?form=short", "form"),
    get("wait too long", "/changes?wait=31", "wait"),
    get("conflicts of a stream", "/conflicts?prefix=users/4", "prefix"),
    get("dot that is none", "/dots/eu.12", "dot"),
    # 400: tokens and conditions
    written("If-Match that is no token", 400, "invalid", "If-Match", if_match='"abc"'),
    written("If-Match without quotes", 400, "invalid", "If-Match", if_match=EMPTY),
    written("If-Match half without quotes", 400, "invalid", "If-Match", if_match=f'"{EMPTY}", {EMPTY}'),
    written("If-Match of another scope", 400, "invalid", "If-Match", if_match=f'"{OTHER_SCOPE}"'),
    written("If-None-Match with a token", 400, "invalid", "If-None-Match", if_none_match=f'"{EMPTY}"'),
    written("Causal-Context that is no token", 400, "invalid", "Causal-Context", causal_context="x"),
    written("Causal-Context of another scope", 400, "invalid", "Causal-Context", causal_context=OTHER_SCOPE),
    written("context ahead", 400, "context-ahead", "Causal-Context", causal_context=AHEAD, prefer="wait=0"),
    written("Causal-After that is no token", 400, "invalid", "Causal-After", causal_after="x"),
    written("an idempotency key too long", 400, "invalid", "Idempotency-Key", idempotency_key="k" * 129),
    written("an actor too long", 400, "invalid", "Atoll-Actor", atoll_actor="a" * 129),
    # transactions and lists
    *(
        Case(f"transaction: {clause}", "POST", "/transactions", 400, "invalid", where, body, JSON_TYPE)
        for clause, body, where in (
            ("no events", b"{}", "events"),
            ("empty", b'{"events":[]}', "events"),
            ("unknown key", b'{"events":[],"when":1}', "when"),
            ("no stream", b'{"events":[{"set":{"n":1}}]}', "events[0].stream"),
            ("bad stream", b'{"events":[{"stream":"a//b","set":{"n":1}}]}', "events[0].stream"),
            ("bad event", b'{"events":[{"stream":"a","set":7}]}', "events[0].set"),
            ("unknown operation", b'{"events":[{"stream":"a","increment":{"n":1}}]}', "events[0].increment"),
            ("stream twice", b'{"events":[{"stream":"a","delete":true},{"stream":"a","delete":true}]}', "events"),
            ("expect of no object", b'{"events":[{"stream":"a","set":{"n":1}}],"expect":[]}', "expect"),
            ("expect of no token", b'{"events":[{"stream":"a","set":{"n":1}}],"expect":{"a":7}}', "expect.a"),
            (
                "expect of another scope",
                json.dumps({"events": [{"stream": "a", "set": {"n": 1}}], "expect": {"a": EMPTY}}).encode(),
                "expect.a",
            ),
        )
    ),
    Case(
        "transaction with If-Match",
        "POST",
        "/transactions",
        400,
        "invalid",
        "If-Match",
        b'{"events":[{"stream":"a","set":{"n":1}}]}',
        {**JSON_TYPE, "if-match": "*"},
    ),
    Case("transaction of no list", "POST", "/transactions", 400, "invalid", "events", b'{"events":7}', JSON_TYPE),
    Case("resolve of no list", "POST", "/resolve", 400, "invalid", "streams", b'{"streams":"a"}', JSON_TYPE),
    Case(
        "resolve of a bad name", "POST", "/resolve", 400, "invalid", "streams[1]", b'{"streams":["a","/"]}', JSON_TYPE
    ),
    # 404, 405, 406
    Case("unknown stream", "GET", "/streams/users/nobody", 404, "unknown-stream"),
    Case("unknown stream deleted", "DELETE", "/streams/users/nobody", 404, "unknown-stream"),
    Case(
        "unknown stream expected",
        "POST",
        "/streams/users/nobody",
        404,
        "unknown-stream",
        None,
        b'{"set":{"n":1}}',
        {**JSON_TYPE, "if-match": "*"},
    ),
    Case("unknown stream's log", "GET", "/events/users/nobody", 404, "unknown-stream"),
    Case("unknown dot", "GET", f"/dots/{STRANGER}.99", 404, "unknown-dot"),
    *(
        Case(f"unknown route {path}", "GET", path, 404, "unknown-route")
        for path in ("/x", "/streams", "/a//b", "/status/")
    ),
    Case("method", "PUT", "/streams/users/4", 405, "method-not-allowed"),
    Case("method of a list", "DELETE", "/status", 405, "method-not-allowed"),
    Case("no such form", "GET", "/streams/users/4", 406, "not-acceptable", headers={"accept": "text/html"}),
    Case("form refused", "GET", "/status", 406, "not-acceptable", headers={"accept": "application/json;q=0"}),
    written("no such form, written", 406, "not-acceptable", accept="text/html"),
    Case(
        "no such form, transaction",
        "POST",
        "/transactions",
        406,
        "not-acceptable",
        None,
        b'{"events":[{"stream":"users/4","set":{"n":1}}]}',
        {**JSON_TYPE, "accept": "application/x-ndjson"},
    ),
    # 410, 412
    written("lost dots", 410, "lost-dots", causal_after=LOST_TOKEN),
    Case("lost dots read", "GET", "/streams/users/4", 410, "lost-dots", headers={"causal-after": LOST_TOKEN}),
    Case("lost dots in a view", "GET", "/views/users", 410, "lost-dots", headers={"causal-after": LOST_TOKEN}),
    written("another state", 412, "condition-failed", if_match=f'"{EMPTY}"'),
    written("it exists", 412, "condition-failed", if_none_match="*"),
    # 413, 415
    Case(
        "an event too large",
        "POST",
        "/streams/users/4",
        413,
        "too-large",
        None,
        json.dumps({"set": {"n": "x" * 300_000}}).encode(),
        JSON_TYPE,
    ),
    Case(
        "too many streams",
        "POST",
        "/resolve",
        413,
        "too-large",
        None,
        json.dumps({"streams": ["a"] * 1001}).encode(),
        JSON_TYPE,
    ),
    Case(
        "too many events",
        "POST",
        "/transactions",
        413,
        "too-large",
        None,
        json.dumps({"events": [{"stream": f"s{n}", "delete": True} for n in range(1001)]}).encode(),
        JSON_TYPE,
    ),
    Case(
        "a form",
        "POST",
        "/streams/users/4",
        415,
        "unsupported-media-type",
        None,
        b"a=b",
        {"content-type": "application/x-www-form-urlencoded"},
        "curl -X POST -H 'content-type: application/json'",
    ),
    Case(
        "text", "POST", "/streams/users/4", 415, "unsupported-media-type", None, b"{}", {"content-type": "text/plain"}
    ),
    Case(
        "an encoding",
        "POST",
        "/streams/users/4",
        415,
        "unsupported-media-type",
        None,
        b"{}",
        {**JSON_TYPE, "content-encoding": "gzip"},
    ),
    Case("gossip of another type", "POST", "/gossip", 415, "unsupported-media-type", None, b"{}", JSON_TYPE),
    # 501, 503
    Case("an unknown format", "GET", "/streams/future", 501, "unfoldable"),
    Case("an unknown format, a set", "GET", "/streams/future?set=m", 501, "unfoldable"),
    Case("an unknown format, the past", "GET", "/streams/future?at=9999-01-01T00:00:00Z", 501, "unfoldable"),
    Case(
        "an unknown format, written",
        "POST",
        "/streams/future",
        501,
        "unfoldable",
        None,
        b'{"set":{"n":1}}',
        JSON_TYPE,
    ),
    Case(
        "not caught up",
        "GET",
        "/streams/users/4",
        503,
        "not-caught-up",
        headers={"causal-after": AHEAD, **NOW_OR_NEVER},
    ),
    written("not caught up to write", 503, "not-caught-up", causal_after=AHEAD, prefer="wait=0"),
    written("a state ahead", 503, "not-caught-up", if_match=f'"{AHEAD}"', prefer="wait=0"),
    Case("a past ahead", "GET", f"/streams/users/4?at={AHEAD}", 503, "not-caught-up", headers=NOW_OR_NEVER),
]


async def prepared(served: Served) -> None:
    """Something to be wrong about."""
    await served.write("users/4", set={"name": "Lisa"}, add={"mail": ["a"]})
    await served.node.submit([Arrival([(later_event("future", "atoll"),)])])


def check_problem(response: httpx.Response, case: Case) -> None:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (response.status_code, document["type"]) == (case.status, PREFIX + case.type), document
    assert document["status"] == case.status
    if case.named is not None:
        assert document.get("field") == case.named, document
    assert case.says in document["detail"], document
    assert response.content.endswith(b"\n")


async def test_every_clause(workplace: Path) -> None:
    """One node for all of them: whatever was asked, its store stays as it was."""
    async with serving(workplace / "eu", lost=[f"{LOST}.12"]) as served:
        await prepared(served)
        before = served.dump()
        for case in CASES:
            response = await served.client.request(case.method, case.path, content=case.body, headers=case.headers)
            try:
                check_problem(response, case)
                assert served.dump() == before
            except AssertionError as error:
                raise AssertionError(f"{case.clause}: {error}") from error
    check_store(workplace / "eu")


async def test_what_a_problem_tells(workplace: Path) -> None:
    async with serving(workplace / "eu", lost=[f"{LOST}.12"]) as served:
        await prepared(served)
        token = (await served.read("/streams/users/4"))["token"]
        failed = await served.client.post(
            "/streams/users/4", json={"set": {"n": 1}}, headers={"if-match": f'"{EMPTY}"'}
        )
        assert failed.json()["token"] == token
        assert failed.headers["etag"] == f'"{token}"'
        ahead = await served.client.get("/streams/users/4", headers={"causal-after": AHEAD, **NOW_OR_NEVER})
        assert ahead.json()["missing"] == {"eu.00000009": {"held": 0, "wanted": 7}}
        assert ahead.headers["retry-after"]
        method = await served.client.put("/streams/users/4")
        assert method.headers["allow"] == "DELETE, GET, HEAD, PATCH, POST"
        await served.client.delete("/streams/users/4")
        gone = await served.client.get("/streams/users/4")
        assert gone.status_code == 404
        assert gone.json()["token"] != token
        assert gone.headers["etag"] == f'"{gone.json()["token"]}"'


async def raw(served: Served) -> trio.SocketStream:
    """A connection on which the test writes bytes of its own."""
    host, port = served.url.removeprefix("http://").split(":")
    return await trio.open_tcp_stream(host, int(port))


@pytest.mark.parametrize("extra", [1, 2 * BODY_BYTES_MAX])
async def test_a_body_too_large_is_refused(workplace: Path, extra: int) -> None:
    async with serving(workplace / "eu") as served:

        def post() -> httpx.Response:
            with httpx.Client(base_url=served.url, trust_env=False) as client:
                return client.post("/streams/s", content=b"x" * (BODY_BYTES_MAX + extra), headers=JSON_TYPE)

        try:
            response = await trio.to_thread.run_sync(post)
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            assert extra > 1, "a little more than the limit is read, and the client is told"
        else:
            check_problem(response, Case("a body too large", "POST", "", 413, "too-large"))
        assert served.node.replica.vector == {}


@pytest.mark.parametrize("http", KINDS)
async def test_a_body_too_large_is_refused_before_it_ended(workplace: Path, http: str) -> None:
    """By its stated length at once; without one, when the limit is passed."""
    async with serving(workplace / "eu", http=http) as served:
        for path, status in ((b"/streams/s", b" 413 "), (b"/frob", b" 404 ")):
            async with await raw(served) as stream:
                await stream.send_all(
                    b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{"
                )
                told = await stream.receive_some(4096)
                assert status in told
                assert b"connection: close" in told.lower()
        async with await raw(served) as stream:
            await stream.send_all(b"POST /streams/s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(BODY_BYTES_MAX // 65_536 + 2):
                await stream.send_all(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            assert b" 413 " in await stream.receive_some(4096)
        assert served.node.replica.vector == {}


async def test_a_body_without_end_that_nobody_asked_for_ends_its_connection(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.interface.request.DRAIN_S", 60.0)
    async with serving(workplace / "eu") as served, await raw(served) as stream:
        await stream.send_all(b"POST /frob HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")

        async def go_on() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"10000\r\n" + b"x" * 65_536 + b"\r\n")

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(go_on)
                told = await stream.receive_some(4096)
                nursery.cancel_scope.cancel()
        assert b" 404 " in told
        assert b"connection: close" in told.lower()


@pytest.mark.parametrize("http", KINDS)
@pytest.mark.parametrize("path", ["/streams/s", "/frob"])
async def test_a_request_that_was_refused_unread_is_followed_by_the_next(
    workplace: Path, path: str, http: str
) -> None:
    refused = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 200000\r\n\r\n".encode()
    )
    async with serving(workplace / "eu", http=http) as served, await raw(served) as stream:
        for _ in range(3):
            await stream.send_all(refused + b"x" * 100_000)
            await stream.send_all(b"x" * 100_000 + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            heard = b""
            with trio.fail_after(5):
                while not heard.endswith(b'{"status":"ok"}\n'):
                    part = await stream.receive_some(65_536)
                    assert part, heard
                    heard += part
            assert heard.startswith((b"HTTP/1.1 415 ", b"HTTP/1.1 404 "))
        assert served.node.replica.vector == {}


@pytest.mark.parametrize("path", ["/streams/.", "/streams/a/../b", "/streams/a/./b"])
async def test_dot_segments_that_a_client_sends_as_they_are(workplace: Path, path: str) -> None:
    async with serving(workplace / "eu") as served:
        async with await raw(served) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            answer = await stream.receive_some(4096)
        assert b" 400 " in answer.splitlines()[0]


async def test_idempotency_keys(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(workplace / "eu") as served:
        key = {"idempotency-key": "k1"}
        first = await served.client.post("/streams/s", json={"set": {"n": 1}}, headers=key)
        again = await served.client.post("/streams/s", json={"set": {"n": 1}}, headers=key)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        before = served.dump()
        reused = await served.client.post("/streams/s", json={"set": {"n": 2}}, headers=key)
        check_problem(reused, Case("key reused", "POST", "", 422, "key-reused"))
        served.node.requests_in_flight.add(("anonymous", "k2"))
        busy = await served.client.post("/streams/s", json={"set": {"n": 2}}, headers={"idempotency-key": "k2"})
        check_problem(busy, Case("in flight", "POST", "", 409, "request-in-flight"))
        assert served.dump() == before


async def test_a_request_with_a_key_waits_for_what_it_names_until_it_was_answered_once(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        token = (await served.write("s", set={"n": 1}))["token"]
        answers: list[tuple[int, bytes]] = []
        for ahead, later_ms in ((2, 0), (1, 0), (99, 0), (99, REQUEST_KEPT_MS)):
            served.clock.ms += later_ms
            headers = {"idempotency-key": "k", "causal-after": f"{token[: token.rindex('.')]}.{ahead}"}
            answer = await served.client.post("/streams/s", json={"set": {"n": 2}}, headers=headers | NOW_OR_NEVER)
            answers.append((answer.status_code, answer.content))
        assert [status for status, _ in answers] == [503, 201, 201, 503], "what was asked so long ago is asked anew"
        assert answers[1] == answers[2]
        assert served.node.replica.vector == {served.node.replica.origin: 2}


async def test_a_clock_too_far_ahead_refuses_writes(workplace: Path) -> None:
    async with serving(workplace / "eu", max_drift_ms=1000) as served:
        await served.write("s", set={"n": 1})
        before = served.dump()
        served.clock.ms -= 600
        response = await served.client.post("/streams/s", json={"set": {"n": 2}})
        check_problem(response, Case("clock", "POST", "", 503, "clock-ahead", says="ahead of this node's wall clock"))
        assert served.dump() == before
        assert (await served.read("/streams/s"))["registers"] == {"n": 1}


async def test_a_full_map_answers_507_and_reads_go_on(workplace: Path) -> None:
    async with serving(workplace / "eu", map_bytes=1 << 20) as served:
        await served.write("s", set={"n": 1})
        statuses = set()
        for number in range(12):
            response = await served.client.post(f"/streams/big/{number}", json={"set": {"n": "x" * 100_000}})
            statuses.add(response.status_code)
        assert statuses == {201, 507}
        check_problem(response, Case("full", "POST", "", 507, "store-full"))
        assert (await served.read("/streams/s"))["registers"] == {"n": 1}


async def test_our_own_mistake_answers_500_and_the_node_lives_on(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(workplace / "eu") as served:
        with monkeypatch.context() as patched:
            patched.setattr("replication.batch.Batch.flush", lambda *_: 1 / 0)
            response = await served.client.post("/streams/s", json={"set": {"n": 1}})
            check_problem(response, Case("mistake", "POST", "", 500, "internal"))
            patched.setattr("node.interface.status.describe", lambda node: 1 / 0)
            check_problem(await served.client.get("/status"), Case("mistake", "GET", "", 500, "internal"))
        assert "ZeroDivisionError" in caplog.text
        await served.write("s", set={"n": 1})


@pytest.mark.parametrize(
    "host", ["", "..", "a" * 300, "a b", "[", "x:99999999", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
async def test_no_host_that_a_client_names_is_a_mistake_of_the_node_s(workplace: Path, host: str) -> None:
    async with serving(workplace) as served:
        for path in ("/", "/status", "/views", "/conflicts", "/openapi.json", "/streams/", "/scim/v2/Users"):
            assert (await served.client.get(path, headers=[(b"host", host.encode())])).status_code == 200
