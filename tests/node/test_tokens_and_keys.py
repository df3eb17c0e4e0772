"""What a client says of what it has seen, and of what it has asked before: tokens, waiting, idempotency keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from node.interface.routes import ROUTES
from replication.replica import Arrival
from replication.tokens import format_token
from tests.helpers import Node
from tests.serving import serving


async def test_conditions_and_contexts(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        first = await served.write("s", set={"n": 1})
        second = await served.write("s", {"if-match": f'"{first["token"]}"'}, set={"n": 2})
        stale = await served.client.post(
            "/streams/s", json={"set": {"n": 3}}, headers={"if-match": f'"{first["token"]}"'}
        )
        assert stale.status_code == 412
        either = f'"{first["token"]}", "{second["token"]}+abc"'
        third = await served.write("s", {"if-match": either}, set={"n": 3})
        unseen = await served.write("s", {"causal-context": first["token"]}, set={"n": 4})
        assert "context" not in unseen
        answer = await served.read("/streams/s?conflicts=true")
        assert answer["registers"] == {"n": 4}
        [lost] = answer["conflicts"]["n"]
        assert (lost["value"], lost["dot"], lost["region"], lost["author"]) == (3, third["dot"], "eu", "anonymous")
        assert [
            (event["dot"], event["lost"]) for event in (await served.read("/events/s"))["events"] if "lost" in event
        ] == [(third["dot"], ["n"])]
        [listed] = (await served.read("/conflicts?prefix="))["conflicts"]
        assert listed["stream"] == "s"
        assert listed["fields"]["n"]["value"] == 4
        assert listed["fields"]["n"]["lost"] == [lost]
        await served.write("s", {"atoll-actor": "lisa"}, set={"n": 5})
        assert (await served.read("/conflicts"))["conflicts"] == []
        assert (await served.read("/streams/s?conflicts=true"))["conflicts"] == {}
        seen = await served.write("t", set={"n": 1})
        latest = await served.write("t", set={"n": 2})
        both = {"if-match": f'"{latest["token"]}"', "causal-context": seen["token"]}
        assert "context" not in await served.write("t", both, set={"n": 3}), "what it says that it has seen counts"


async def test_an_idempotency_key_is_of_one_request_of_one_actor(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:

        async def ask(method: str = "POST", path: str = "/streams/s", n: int = 1, **headers: str) -> httpx.Response:
            named = {"idempotency-key": "k", **{k.replace("_", "-"): v for k, v in headers.items()}}
            return await served.client.request(method, path, json={"set": {"n": n}}, headers=named)

        first = await ask()
        assert first.status_code == 201
        assert (await ask()).content == first.content
        for other in (ask(path="/streams/t"), ask("PATCH"), ask(n=2), ask(idempotency_fingerprint="00" * 16)):
            told = await other
            assert (told.status_code, told.json()["type"]) == (422, "urn:atoll:problem:key-reused")
        for none in ("00", "00" * 15, "zz" * 16, "00" * 17):
            told = await ask(idempotency_key="other", idempotency_fingerprint=none)
            assert (told.status_code, told.json()["field"]) == (400, "Idempotency-Fingerprint")
        assert (await ask(atoll_actor="lisa")).status_code == 201
        assert served.node.replica.vector == {served.node.replica.origin: 2}


async def test_a_writer_is_told_what_it_has_seen_where_its_stream_holds_more(
    workplace: Path, node: Callable[..., Node]
) -> None:
    us = node("us", cluster="atoll")
    other = us.write("s", set={"n": 1}).events[0].dot
    async with serving(workplace / "served") as served:
        await served.node.submit([Arrival(us.transactions())])
        first = await served.write("s", {"causal-context": format_token("s", {})}, set={"n": 2})
        origin = served.node.replica.origin
        assert first["context"] == format_token("s", {origin: 1})
        assert first["token"] == format_token("s", {origin: 1, other.origin: 1})
        await served.write("s", {"causal-context": first["context"]}, set={"n": 3})
        [lost] = (await served.read("/streams/s?conflicts=true"))["conflicts"]["n"]
        assert lost["dot"] == str(other)


async def test_a_transaction_waits_for_all_that_it_expects_or_has_seen(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        held = (await served.write("b", set={"n": 1}))["token"]
        ahead = format_token("a", {"us.00000001": 1})
        event = {"stream": "b", "set": {"n": 2}}
        for body in (
            {"events": [event], "expect": {"a": ahead, "b": held}},
            {"events": [event, {"stream": "a", "set": {"n": 2}, "context": ahead}]},
        ):
            told = await served.client.post("/transactions", json=body, headers={"prefer": "wait=0"})
            assert (told.status_code, list(told.json()["missing"])) == (503, ["us.00000001"])


async def test_an_event_of_a_transaction_supersedes_what_its_author_had_seen(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        seen = (await served.write("a", set={"n": 1}))["token"]
        unseen = await served.write("a", set={"n": 2})
        events = [{"stream": "a", "set": {"n": 3}, "context": seen}, {"stream": "b", "set": {"n": 3}}]
        assert (await served.client.post("/transactions", json={"events": events})).status_code == 201
        answer = await served.read("/streams/a?conflicts=true")
        assert answer["registers"] == {"n": 3}
        assert [lost["dot"] for lost in answer["conflicts"]["n"]] == [unseen["dot"]]
        events[1]["context"] = seen
        told = await served.client.post("/transactions", json={"events": events})
        assert (told.status_code, told.json()["field"]) == (400, "events[1].context"), "it is another stream's"


async def test_waiting_for_what_is_on_its_way(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.interface.conditions.WAIT_DEFAULT_S", 0.0)
    async with serving(workplace / "eu") as served:
        token = (await served.write("s", set={"n": 1}))["token"]
        ahead = token[: token.rindex(".")] + ".2"
        answers: list[Any] = []

        async def read() -> None:
            answers.append(await served.read("/streams/s", {"causal-after": ahead, "prefer": "wait=10"}))

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.sleep(0.05)
                await served.write("t", set={"n": 2})
            assert answers[0]["registers"] == {"n": 1}
            monkeypatch.setattr("node.interface.conditions.WAIT_DEFAULT_S", 60.0)
            at_once = {"causal-after": ahead[:-1] + "9", "prefer": "return=minimal, Wait = 0"}
            assert (await served.client.get("/streams/s", headers=at_once)).status_code == 503


async def test_tokens_in_headers_are_read_however_they_may_be_written(
    workplace: Path, node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.interface.conditions.WAIT_DEFAULT_S", 60.0)
    us = node("us", cluster="atoll")
    other = format_token("s", {us.write("s", set={"n": 0}).events[0].dot.origin: 1})
    async with serving(workplace / "served") as served:
        await served.node.submit([Arrival(us.transactions())])
        token = (await served.write("s", set={"n": 1}))["token"]
        ahead = format_token("s", {served.node.replica.origin: 9})

        async def status(method: str, **headers: str) -> int:
            asked = {"prefer": "wait=0; handling=strict", **{k.replace("_", "-"): v for k, v in headers.items()}}
            with trio.fail_after(10):
                body = None if method == "GET" else {"set": {"n": 2}}
                return (await served.client.request(method, "/streams/s", json=body, headers=asked)).status_code

        assert await status("GET", causal_after=f'W/"{token}+abc", {other}') == 200
        assert await status("GET", causal_after=f'{ahead}, "{other}"') == 503, "each is waited for"
        assert await status("GET", causal_after=f'"{other}",W/"{ahead}"') == 503
        assert await status("POST", if_match=f'"{other}", W/"{token}"') == 412, "a weak tag matches nothing"
        assert await status("POST", if_match=f'"{ahead}", "{token}"') == 201, "of several, none is waited for"
        latest = (await served.read("/streams/s"))["token"]
        twice = [("if-match", f'"{latest}"'), ("if-match", f'"{token}"')]
        again = await served.client.post("/streams/s", json={"set": {"n": 3}}, headers=twice)
        assert again.status_code == 201, "a header that comes twice is one list"
        monkeypatch.setattr("node.interface.conditions.WAIT_MAX_S", 0)
        assert await status("GET", causal_after=ahead, prefer="wait=60") == 503


async def test_every_answer_waits_for_what_its_request_names(workplace: Path) -> None:
    bodies: dict[str | None, Any] = {
        "event": {"set": {"n": 2}},
        "merge-patch": {"n": 2},
        "transaction": {"events": [{"stream": "users/4", "set": {"n": 2}}]},
        "line": {"stream": "users/4", "set": {"n": 2}},
        "streams": {"streams": ["users/4"]},
    }
    async with serving(workplace / "eu") as served:
        written = await served.write("users/4", set={"n": 1})
        ahead = {"causal-after": written["token"].removesuffix("1") + "9", "prefer": "wait=0"}
        names = {
            "{stream}": "users/4",
            "{prefix}": "users",
            "{dot}": written["dot"],
            "{view}": "users",
            "{path}": "Users",
        }
        paths, asked = (await served.read("/openapi.json"))["paths"], 0
        for route in ROUTES:
            described = paths[route.path][route.method.lower()]["parameters"]
            if "Causal-After" in {one["name"] for one in described}:
                target = route.path
                for name, value in names.items():
                    target = target.replace(name, value)
                body = None if route.method == "GET" else bodies.get(route.body, {})
                told = await served.client.request(route.method, target, json=body, headers=ahead)
                assert told.status_code == 503, (route.method, target, told.text)
                asked += 1
        assert asked >= 18
        assert served.node.replica.vector == {served.node.replica.origin: 1}
