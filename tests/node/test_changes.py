"""Changes as clients follow them: page by page, by long polls and as a stream; resumed where they were left."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from node.limits import EVENT_STREAM_ALIVE_S
from replication.replica import Arrival
from replication.tokens import format_token
from tests.helpers import Node
from tests.serving import serving


async def test_the_head_of_a_stream_of_changes_ends(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        with trio.fail_after(5):
            headed = await served.client.head("/changes", headers={"accept": "text/event-stream"})
        assert (headed.status_code, headed.headers["content-type"]) == (200, "text/event-stream")
        assert "content-length" not in headed.headers, "what GET sends has no end"
        assert (headed.headers["cache-control"], headed.headers["x-accel-buffering"]) == ("no-store", "no")


async def test_changes_are_resumed_where_they_were_left(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        for number in range(6):
            await served.write(f"users/{number % 2}", set={"n": number})
            await served.write("noise", set={"n": number})
        seen: list[Any] = []
        after = ""
        while True:
            page = await served.read(f"/changes?prefix=users/&limit=2{after}")
            seen += page["changes"]
            after = f"&after={page['cursor']}"
            if not page["more"]:
                break
        assert [change["set"]["n"] for change in seen] == list(range(6))
        assert page["token"] == (await served.read("/streams/users/"))["token"]
        for known in (page["token"], page["cursor"]):
            again = await served.read(f"/changes?prefix=users/&after={known}")
            assert (again["changes"], again["token"]) == ([], page["token"])
        stream = await served.read("/changes?prefix=users/1")
        assert [change["set"]["n"] for change in stream["changes"]] == [1, 3, 5]
        assert stream["token"] == (await served.read("/streams/users/1"))["token"]
        resolved = await served.read("/changes?prefix=users/&form=resolved")
        assert [change["registers"]["n"] for change in resolved["changes"]] == [4, 5]
        assert (await served.read("/changes?after=now"))["changes"] == []


async def test_a_long_poll_ends_with_the_change_or_the_time(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        answers: list[Any] = []

        async def poll() -> None:
            answers.append(await served.read("/changes?prefix=s&wait=20"))

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await trio.sleep(0.05)
                await served.write("other", set={"n": 0})
                await served.write("s", set={"n": 1})
        assert [change["set"]["n"] for change in answers[0]["changes"]] == [1]
        with trio.fail_after(5):
            assert (await served.read("/changes?prefix=t&wait=1"))["changes"] == []


async def test_a_long_poll_ends_with_its_node(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.server.GRACEFUL_S", 60.0)

    async def poll(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
            answer = await client.get("/changes?after=now&wait=30")
        assert (answer.status_code, answer.json()["changes"]) == (200, [])

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, serving(workplace / "eu") as served:
            nursery.start_soon(poll, served.url)
            await trio.sleep(0.3)


async def test_a_page_of_changes_ends_by_its_bytes(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.interface.changes.PAGE_BYTES_MAX", 1_000)
    async with serving(workplace / "eu") as served:
        for number in range(6):
            await served.write("s", set={"n": f"{number}" * 400})
        first = await served.read("/changes")
        assert (len(first["changes"]), first["more"]) == (2, True)
        then = await served.read(f"/changes?after={first['cursor']}")
        assert [change["set"]["n"][0] for change in then["changes"]] == ["2", "3"]


async def test_a_page_of_one_stream_ends_anywhere_in_transactions(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        for number in range(5):
            events = [{"stream": stream, "set": {"n": number}} for stream in ("a", "s")]
            assert (await served.client.post("/transactions", json={"events": events})).status_code == 201
        page = await served.read("/changes?prefix=s&limit=2")
        assert [change["set"]["n"] for change in page["changes"]] == [0, 1]
        whole = await served.read("/changes?limit=3")
        assert len(whole["changes"]) == 4, "below a prefix they stay whole"


async def test_a_page_ends_where_much_was_looked_at_in_vain(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.interface.changes.SCAN_ROWS_MAX", 3)
    async with serving(workplace / "eu") as served:
        for number in range(5):
            await served.write(f"noise/{number}", set={"n": number})
        await served.write("quiet/s", set={"n": 5})
        with trio.fail_after(5):
            page = await served.read("/changes?prefix=quiet/&wait=30")
        assert (page["changes"], page["more"]) == ([], True)
        page = await served.read(f"/changes?prefix=quiet/&wait=30&after={page['cursor']}")
        assert ([change["set"]["n"] for change in page["changes"]], page["more"]) == ([5], False)


async def test_what_a_client_has_reached(workplace: Path, node: Callable[..., Node]) -> None:
    us = node("us", cluster="atoll")
    theirs = us.write("s", set={"n": 0}).events[0].dot.origin
    async with serving(workplace / "served") as served:
        await served.node.submit([Arrival(us.transactions())])
        ours = served.node.replica.origin
        for number in (1, 2, 3):
            await served.write("s", set={"n": number})
        await served.write("other", set={"n": 0})

        async def reached(after: dict[str, int], limit: int) -> tuple[str, str]:
            page = await served.read(f"/changes?prefix=s&limit={limit}&after={format_token('s', after)}")
            return page["token"], page["cursor"]

        def both(state: dict[str, int], looked_at: dict[str, int]) -> tuple[str, str]:
            return format_token("s", state), format_token("s", looked_at)

        assert await reached({}, 100) == both({theirs: 1, ours: 3}, {theirs: 1, ours: 4})
        assert await reached({ours: 1}, 1) == both({theirs: 1, ours: 1}, {theirs: 1, ours: 1})
        beyond = {theirs: 7, ours: 2}  # of which this node holds one
        assert await reached(beyond, 100) == both({theirs: 7, ours: 3}, {theirs: 7, ours: 4})


async def test_who_follows_has_caught_up_when_all_pages_are_there(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.interface.changes.PAGE_MAX", 2)
    async with serving(workplace / "eu") as served:
        for number in range(5):
            await served.write("s", set={"n": number})

        def follow() -> list[Any]:
            said: list[Any] = []
            headers = {"accept": "application/x-ndjson"}
            with httpx.stream("GET", f"{served.url}/changes", headers=headers, timeout=10, trust_env=False) as answer:
                for line in answer.iter_lines():
                    item = json.loads(line)
                    said.append(item["set"]["n"] if "set" in item else "caught up")
                    if said[-1] == "caught up":
                        break
            return said

        said = await trio.to_thread.run_sync(follow)
        assert said == [0, 1, 2, 3, 4, "caught up"]


async def test_who_follows_and_goes_is_forgotten_at_once(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:

        def follow() -> None:
            headers = {"accept": "text/event-stream"}
            with httpx.stream("GET", f"{served.url}/changes", headers=headers, timeout=10, trust_env=False) as answer:
                next(answer.iter_lines())

        await trio.to_thread.run_sync(follow)
        with trio.fail_after(EVENT_STREAM_ALIVE_S / 2):
            while served.node.followers._waiting:
                await trio.sleep(0.01)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_a_stream_of_changes_goes_on_and_resumes(workplace: Path, accept: str) -> None:
    async with serving(workplace / "eu") as served:
        for number in (-1, 0, 1):  # of one page, whose last item alone has its cursor
            await served.write("s", set={"n": number})

        def follow(headers: dict[str, str], path: str, count: int) -> tuple[list[Any], str]:
            """In a thread of its own: items until there are so many, and the cursor of the last."""
            found: list[Any] = []
            cursor = ""
            with (
                httpx.Client(base_url=served.url, trust_env=False, timeout=10) as client,
                client.stream("GET", path, headers={"accept": accept, **headers}) as response,
            ):
                assert response.headers["content-type"] == accept
                for line in response.iter_lines():
                    if line.startswith("id: "):
                        cursor = line[4:]
                    elif line.startswith(("data: ", "{")):
                        item = json.loads(line.removeprefix("data: "))
                        cursor = item.get("cursor", cursor)
                        found.append("caught-up" if "caught_up" in item else item["set"]["n"])
                        if found[-1] == "caught-up":
                            for number in (2, 3):
                                client.post("/streams/s", json={"set": {"n": number}}).raise_for_status()
                    if len(found) == count:
                        break
            return found, cursor

        found, cursor = await trio.to_thread.run_sync(follow, {}, "/changes", 6)
        assert found == [-1, 0, 1, "caught-up", 2, 3]
        resumed = {"last-event-id": cursor} if accept == "text/event-stream" else {}
        path = "/changes" if resumed else f"/changes?after={cursor}"
        assert (await trio.to_thread.run_sync(follow, resumed, path, 1))[0] == ["caught-up"]
