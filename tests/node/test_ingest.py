"""Streams of writes over a real socket: every form, every refusal, full duplex, and clients that do not read."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import lmdb
import msgpack  # type: ignore[import-untyped]  # it ships no annotations, and there are no stubs
import pytest
import trio

from node.interface.spool import Spool, SpoolFull
from replication.store import Store
from tests.helpers import check_store
from tests.http1 import KINDS
from tests.serving import Served, serving

NDJSON = {"content-type": "application/x-ndjson"}
MINIMAL = {**NDJSON, "prefer": "return=minimal"}


def line(stream: str, **fields: Any) -> bytes:
    return json.dumps({"stream": stream, **fields}).encode() + b"\n"


def outcomes(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(one) for one in response.text.splitlines()]


def summary(lines: int, written: int, refused: int = 0, repeated: int = 0) -> dict[str, Any]:
    return {"summary": {"lines": lines, "written": written, "refused": refused, "repeated": repeated}}


async def test_each_line_is_told_what_became_of_it_once_it_is_durable(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        body = (
            line("users/1", set={"n": 1})
            + b"\n"
            + line("users/2", add={"m": ["a"]})
            + line("users/1", set={"n": 2})[:-1]
        )
        told = outcomes(await served.client.post("/ingest", content=body, headers={**NDJSON, "atoll-actor": "lisa"}))
        assert [one.get("line") for one in told] == [1, 3, 4, None], "as an editor counts them"
        assert told[-1] == summary(3, 3)
        assert told[0]["status"] == 201
        assert told[2]["token"] == (await served.read("/streams/users/1"))["token"]
        assert (await served.read("/streams/users/1"))["registers"] == {"n": 2}
        [event] = (await served.read("/events/users/2"))["events"]
        assert event["actor"] == "lisa"
    check_store(workplace / "eu")


async def test_lines_that_are_refused_say_why_and_the_others_are_written(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        token = (await served.write("a", set={"n": 0}))["token"]
        await served.write("a", set={"n": 1})
        source = {"name": "f", "position": 1}
        body = b"".join(
            [
                line("a", set={"n": 2}, expect=token),
                line("a", set={"n": 3}, context=token),
                b"nonsense\n",
                line("a//b", set={"n": 1}),
                line("a", frob=1),
                line("a"),
                b'{"stream": "a", "set": {"n": 1, "n": 2}}\n',
                line("b", set={"n": 1}, source=source),
                line("b", set={"n": 1}, source=source),
                line("b", expect="x", set={"n": 1}),
                line("b", set={"n": 1 << 64}),
                b"[]\n",
                line("b", add={"m": ["x"]}),
            ]
        )
        told = outcomes(await served.client.post("/ingest", content=body, headers=NDJSON))
        types = [one.get("type", "").rpartition(":")[2] for one in told]
        assert types == [
            "condition-failed", "", "malformed", "invalid", "invalid", "invalid", "malformed", "", "", "invalid",
            "invalid", "invalid", "", "",
        ]  # fmt: skip
        assert told[-1] == summary(13, 3, refused=9, repeated=1)
        minimal = outcomes(await served.client.post("/ingest", content=body, headers=MINIMAL))
        assert [one.get("line") for one in minimal] == [1, 3, 4, 5, 6, 7, 10, 11, 12, None]
        shown = await served.read("/streams/a?conflicts=true")
        assert shown["conflicts"], "the context was the author's, so what it had not seen is kept"
    check_store(workplace / "eu")


async def test_lines_that_a_node_has_no_room_for_are_refused_and_may_come_again(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(workplace / "eu") as served:
        body = line("a", set={"n": 1}) + b"nonsense\n" + line("b", set={"n": 1})
        with monkeypatch.context() as patch:
            patch.setattr("node.committer.WAITING_MAX", 0)
            told = outcomes(await served.client.post("/ingest", content=body, headers=NDJSON))
            assert [one.get("type", "").rpartition(":")[2] for one in told] == [
                "overloaded", "malformed", "overloaded", "",
            ]  # fmt: skip
            assert told[-1] == summary(3, 0, refused=3)
        told = outcomes(await served.client.post("/ingest", content=body, headers=NDJSON))
        assert told[-1] == summary(3, 2, refused=1)
    check_store(workplace / "eu")


async def test_msgpack_values_one_after_another(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        headers = {"content-type": "application/vnd.msgpack"}
        values = b"".join(msgpack.packb({"stream": f"s/{n}", "set": {"n": n}}) for n in range(3000))
        told = outcomes(await served.client.post("/ingest", content=values, headers=headers))
        assert told[-1] == summary(3000, 3000)
        for wrong, after in ((b"\xc1", 1), (msgpack.packb({"stream": "t"})[:-2], 1)):
            body = msgpack.packb({"stream": "t", "set": {"n": 1}}) + wrong
            told = outcomes(await served.client.post("/ingest", content=body, headers=headers))
            assert told[0]["status"] == 201
            assert (told[after]["line"], told[after]["type"]) == (2, "urn:atoll:problem:malformed")
            assert told[-1] == summary(2, 1, refused=1)
        twice = b"\x82\xa1a\x01\xa1a\x02"
        told = outcomes(await served.client.post("/ingest", content=twice, headers=headers))
        assert told[0]["type"] == "urn:atoll:problem:malformed"
    check_store(workplace / "eu")


async def test_what_is_wrong_with_the_request_itself_is_an_ordinary_problem(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        for headers, status in (
            ({"content-type": "text/plain"}, 415),
            ({**NDJSON, "atoll-actor": "x" * 200}, 400),
            ({**NDJSON, "causal-after": "nonsense"}, 400),
            ({**NDJSON, "content-encoding": "gzip"}, 415),
            ({**NDJSON, "idempotency-key": "k"}, 400),
            ({**NDJSON, "if-none-match": "*"}, 400),
        ):
            response = await served.client.post("/ingest", content=line("a", set={"n": 1}), headers=headers)
            assert response.status_code == status
        assert (await served.client.get("/ingest")).status_code == 405
        assert outcomes(await served.client.post("/ingest", content=b"", headers=NDJSON)) == [summary(0, 0)]


async def test_a_line_without_end_is_refused_and_what_came_before_it_kept(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.interface.ingest.BODY_BYTES_MAX", 10_000)
    async with serving(workplace / "eu") as served:
        body = line("a", set={"n": 1}) + b'\n{"stream": "b' + b"x" * 300_000
        told = outcomes(await served.client.post("/ingest", content=body, headers=NDJSON))
        assert [one.get("status") for one in told] == [201, 413, None]
        assert told[1]["line"] == 3
        assert told[-1] == summary(2, 1, refused=1)


async def begun(served: Served, framing: str) -> trio.SocketStream:
    """A request to /ingest whose body is still to be sent."""
    host, port = served.url.removeprefix("http://").split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n{framing}\r\n\r\n"
    await stream.send_all(head.encode())
    return stream


@pytest.mark.parametrize("http", KINDS)
async def test_outcomes_come_while_more_is_sent(workplace: Path, http: str) -> None:
    async with serving(workplace / "eu", http=http) as served:
        stream = await begun(served, "Transfer-Encoding: chunked")
        async with stream:
            heard = b""
            with trio.fail_after(10):
                for number in (1, 2, 3):
                    sent = line("a", set={"n": number})
                    await stream.send_all(b"%x\r\n%b\r\n" % (len(sent), sent))
                    while b'"line":%d' % number not in heard:
                        heard += await stream.receive_some(65_536)
                await stream.send_all(b"0\r\n\r\n")
                while b'"written":3' not in heard:
                    heard += await stream.receive_some(65_536)
    check_store(workplace / "eu")


async def test_lines_that_come_while_others_are_written_do_not_wait_for_more(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Store._commit

    def slow(store: Store, transaction: lmdb.Transaction) -> None:
        time.sleep(0.02)
        commit(store, transaction)

    monkeypatch.setattr(Store, "_commit", slow)
    async with serving(workplace / "eu") as served:
        stream = await begun(served, "Transfer-Encoding: chunked")
        async with stream:
            heard = b""
            with trio.fail_after(10):
                for last in (40, 80):
                    for number in range(last - 39, last + 1):
                        sent = line("a", set={"n": number})
                        await stream.send_all(b"%x\r\n%b\r\n" % (len(sent), sent))
                        await trio.sleep(0.0002)
                    while b'"line":%d,' % last not in heard:
                        heard += await stream.receive_some(65_536)
    check_store(workplace / "eu")


def dechunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


async def test_a_client_that_sends_everything_before_it_reads_is_not_waited_for(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More outcomes than all buffers between the two hold: they are put aside, however long it goes on sending."""
    monkeypatch.setattr("node.http1.wire.WRITE_TIMEOUT_S", 1.0)
    count = 40_000
    async with serving(workplace / "eu") as served:
        body = b"".join(line(f"s/{n % 500}", set={"n": n}) for n in range(count))
        stream = await begun(served, f"Content-Length: {len(body)}")
        async with stream:
            with trio.fail_after(60):
                for start in range(0, len(body), 50_000):
                    await stream.send_all(body[start : start + 50_000])
                    await trio.sleep(0.05)
                heard = b""
                while not heard.endswith(b"0\r\n\r\n"):
                    heard += await stream.receive_some(1 << 20)
        told = [json.loads(one) for one in dechunked(heard.partition(b"\r\n\r\n")[2]).splitlines()]
        assert [one.get("status") for one in told] == [201] * count + [None]
        assert told[-1] == summary(count, count)
    check_store(workplace / "eu")


@pytest.mark.parametrize("http", KINDS)
async def test_a_client_that_goes_in_the_middle_leaves_whole_lines_and_nothing_in_the_log(
    workplace: Path, caplog: pytest.LogCaptureFixture, http: str
) -> None:
    async with serving(workplace / "eu", http=http) as served:
        host, port = served.url.removeprefix("http://").split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        head = (
            b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 99999\r\n\r\n"
        )
        await stream.send_all(head + line("a", set={"n": 1}) + b'{"stream": "a", "set": {"n"')
        while not served.node.replica.vector:
            await trio.sleep(0.01)
        await stream.aclose()
        await served.write("b", set={"n": 1})
        assert (await served.read("/streams/a"))["registers"] == {"n": 1}
    assert not caplog.records
    check_store(workplace / "eu")


async def test_a_node_that_stops_tells_what_it_did(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:

        async def endless() -> AsyncIterator[bytes]:
            number = 0
            while True:
                number += 1
                yield line(f"s/{number % 50}", set={"n": number})
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with suppress(httpx.HTTPError):
                    await served.client.post("/ingest", content=endless(), headers=MINIMAL)

            nursery.start_soon(send)
            while sum(served.node.replica.vector.values()) < 50:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    check_store(workplace / "eu")


def test_a_spool_is_first_in_first_out_in_memory_and_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.interface.spool.SPOOL_MEMORY_BYTES", 10)
    monkeypatch.setattr("node.interface.spool.SPOOL_BYTES_MAX", 100)
    spool = Spool()
    put, taken = b"", b""
    for number in range(200):
        data = bytes([number]) * (number % 40)
        spool.put(data)
        put += data
        while number % 2 == 0 and (part := spool.take(7)):
            taken += part
    while part := spool.take(64):
        taken += part
    assert taken == put
    spool.put(b"x" * 100)
    with pytest.raises(SpoolFull):
        spool.put(b"y")
    assert spool.take(1000) == b"x" * 100
    spool.close()
