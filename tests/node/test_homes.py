"""Names that one region gives: asked for elsewhere, moved meanwhile, with answers that are lost."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.service import Node
from node.transport import HttpTransport
from replication.queries import existing_row
from simulations.world.fidelity import Asked, DirectDoor
from tests.gossiping import Link, World, same, until, write
from tests.scim import PATCH, USER
from tests.serving import serving

HOME: dict[str, Any] = {"homes": ["claims/userName/=eu"]}


@asynccontextmanager
async def regions(world: World, **options: Any) -> AsyncIterator[tuple[Node, Node]]:
    """A home, and a region that asks it."""
    options = options or HOME
    async with world.node("eu", "us", **options) as eu, world.node("us", "eu", **options) as us:
        await until(lambda: all(peer.origin for node in (eu, us) for peer in node.gossip.peers))
        yield eu, us


async def ask(
    node: Node, method: str, path: str, body: Any = None, expect: int = 201, **headers: str
) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = b"" if body is None else json.dumps(body).encode()
    told = await DirectDoor(node).ask(
        Asked(method, f"/scim/v2{path}", {"content-type": "application/scim+json", "host": "node", **named}, content)
    )
    assert told.status == expect, told.body
    document: dict[str, Any] = json.loads(told.body) if told.body else {}
    return document


def user(name: str) -> dict[str, Any]:
    return {"schemas": [USER], "userName": name}


def rename(name: str) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "userName", "value": name}]}


async def named(node: Node, name: str) -> list[str]:
    """Who has a name."""
    found = await ask(node, "GET", f"/Users?filter=userName%20eq%20%22{name}%22", expect=200)
    return [one["id"] for one in found.get("Resources", [])]


async def test_a_request_whose_answer_was_lost_is_carried_out_once(world: World) -> None:
    async with regions(world) as (eu, us):
        world.network.answers_lost = True
        refused = await ask(us, "POST", "/Users", user("anna"), 503, idempotency_key="k")
        assert "out of reach" in refused["detail"]
        world.network.answers_lost = False
        first = await ask(us, "POST", "/Users", user("anna"), idempotency_key="k")
        await until(lambda: same(eu, us))
        for node in (us, eu):
            assert await ask(node, "POST", "/Users", user("anna"), idempotency_key="k") == first
            await ask(node, "POST", "/Users", user("berta"), 422, idempotency_key="k")
            assert await named(node, "anna") == [first["id"]]
            assert await named(node, "berta") == []


async def test_another_request_under_a_key_that_only_its_home_knows_is_refused(world: World) -> None:
    async with regions(world) as (eu, us):
        world.network.silent = True
        await ask(eu, "POST", "/Users", user("anna"), idempotency_key="k")
        refused = await ask(us, "POST", "/Users", user("berta"), 422, idempotency_key="k")
        assert "used for another request" in refused["detail"]
        world.network.silent = False


async def test_values_of_two_homes_are_set_one_after_the_other(world: World) -> None:
    homes: dict[str, Any] = {
        "homes": ["claims/userName/=eu", "claims/externalId/=us", "claims/=ap"], "unique_external_ids": True
    }  # fmt: skip
    async with regions(world, **homes) as (eu, us):
        for node in (eu, us):
            refused = await ask(node, "POST", "/Users", {**user("anna"), "externalId": "7"}, 400)
            assert (refused["scimType"], "eu and us" in refused["detail"]) == ("invalidValue", True)
        made = await ask(us, "POST", "/Users", user("anna"))
        change = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "externalId", "value": "7"}]}
        await until(lambda: same(eu, us))
        await ask(eu, "PATCH", f"/Users/{made['id']}", change, 204)
        assert (await ask(us, "GET", f"/Users/{made['id']}", expect=200))["externalId"] == "7"


@pytest.mark.parametrize("free", [True, False])
async def test_a_name_that_has_moved_at_home_is_looked_at_again(world: World, free: bool) -> None:
    async with regions(world) as (eu, us):
        world.network.silent = True
        first = await ask(eu, "POST", "/Users", user("anna"))
        if free:
            await ask(eu, "PATCH", f"/Users/{first['id']}", rename("berta"), 204)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(ask, us, "POST", "/Users", user("anna"), 201 if free else 409, prefer="wait=9")
            )
            await trio.sleep(0.1)
            world.network.silent = False
        await until(lambda: same(eu, us))
        for node in (us, eu):
            [holder] = await named(node, "anna")
            assert (holder != first["id"]) == free


async def test_what_does_not_come_back_in_time_is_said(world: World) -> None:
    async with regions(world) as (eu, us):
        world.network.silent = True
        refused = await ask(us, "POST", "/Users", user("anna"), 503, prefer="wait=0.1")
        assert "has not arrived here yet" in refused["detail"]
        assert len(await named(eu, "anna")) == 1
        world.network.silent = False


async def test_a_resource_that_has_changed_at_home_is_read_again_first(world: World) -> None:
    async with regions(world) as (eu, us):
        made = await ask(eu, "POST", "/Users", user("anna"))
        await until(lambda: same(eu, us))
        world.network.silent = True
        await write(eu, f"users/{made['id']}", set={"title": "Guide"})
        refused = list[dict[str, Any]]()

        async def late() -> None:
            path = f"/Users/{made['id']}"
            refused.append(await ask(us, "PATCH", path, rename("berta"), 409, prefer="wait=9"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            await trio.sleep(0.1)
            world.network.silent = False
        assert "has changed in its home region eu" in refused[0]["detail"]
        await ask(us, "PATCH", f"/Users/{made['id']}", rename("berta"), 204)
        assert await named(us, "berta") == [made["id"]]


async def test_a_home_is_told_what_the_author_had_seen(world: World) -> None:
    async with regions(world) as (eu, us):
        made = await ask(us, "POST", "/Users", user("anna") | {"title": "Guide"})
        path, seen = f"/Users/{made['id']}", made["meta"]["version"][3:-1]
        await write(us, f"users/{made['id']}", set={"title": "Tour guide"})
        changed = user("berta") | {"title": "Pilot"}
        await ask(us, "PUT", path, changed, 200, causal_context=seen)
        for node in (eu, us):
            with node.replica.read() as snapshot:
                row = existing_row(snapshot, f"users/{made['id']}")
            assert [write.value for write in row.registers["title"]] == ["Pilot", "Tour guide"], (
                "what it lost to shows"
            )
            assert [write.value for write in row.registers["userName"]] == ["berta"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (201, b"nothing", "out of reach"),
        (201, b"[]", "out of reach"),
        (201, b'{"more":' * 9_999, "out of reach"),
        (201, b'{"events":[{"token":"nonsense"}]}', "cannot be read"),
        (507, b'{"detail":"there is no room"}', "refused it: there is no room"),
        (500, b"{}", "refused it: 500"),
        (412, b'{"name":"users/other","token":"0~"}', "refused it: 412"),
    ],
)
async def test_a_home_that_says_anything_else_gave_no_name(
    world: World, status: int, body: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*asked: object) -> tuple[int, bytes]:
        return status, body

    async with regions(world) as (_, us):
        monkeypatch.setattr(Link, "ask", answer)
        refused = await ask(us, "POST", "/Users", user("anna"), 503)
        assert said in refused["detail"]
        assert await named(us, "anna") == []


async def test_who_asks_is_told_to_the_home_as_it_was_said(workplace: Path) -> None:
    """Over real sockets: a header holds bytes, and not ASCII alone."""
    async with serving(workplace) as served:
        transport = HttpTransport()
        body = json.dumps({"events": [{"stream": "s", "set": {"n": 1}}]}).encode()
        actor = "Jos\xc3\xa9"  # as this node reads the header that UTF-8 writes so
        headers = {"content-type": "application/json", "atoll-actor": actor}
        status, _ = await transport.ask(served.url, "/transactions", headers, body)
        await transport.aclose()
        assert status == 201
        [event] = (await served.read("/events/s"))["events"]
        assert event["actor"] == actor


@pytest.mark.parametrize("stated", ["", "xyz", "00", "00" * 17])
async def test_a_fingerprint_is_one(workplace: Path, stated: str) -> None:
    async with serving(workplace) as served:
        headers = {"idempotency-key": "k", "idempotency-fingerprint": stated}
        response = await served.client.post("/streams/s", json={"set": {"n": 1}}, headers=headers)
        assert (response.status_code, response.json()["field"]) == (400, "Idempotency-Fingerprint")
