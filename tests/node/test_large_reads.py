"""Reads of much: answers and pages end by bytes as well as by number, and others have turns meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from node.interface import changes, listings
from node.limits import RESOLVE_AT_ONCE
from node.views import state
from replication import queries
from tests.helpers import check_store
from tests.scim import check_views
from tests.serving import Served, counting_turns, serving


async def test_many_that_are_resolved_let_others_have_a_turn(workplace: Path) -> None:
    async with serving(workplace) as served, counting_turns() as turns:
        await served.write("a", set={"n": 1})

        async def turns_for(count: int) -> int:
            before = turns()
            answer = (await served.client.post("/resolve", json={"streams": ["a"] * count})).json()
            assert len(answer["streams"]) == count
            return turns() - before

        few = min([await turns_for(1) for _ in range(5)])
        many = max([await turns_for(1_000) for _ in range(5)])
        assert many >= few + 1_000 // RESOLVE_AT_ONCE - 1


async def test_a_stream_that_is_named_often_is_read_once(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, resolve = list[str](), listings.resolve_or_problem

    def watched(snapshot: Any, name: str) -> tuple[dict[str, Any], int]:
        read.append(name)
        return resolve(snapshot, name)

    monkeypatch.setattr(listings, "resolve_or_problem", watched)
    async with serving(workplace) as served:
        await served.write("a", set={"n": 1})
        await served.write("b", set={"n": 2})
        answer = (await served.client.post("/resolve", json={"streams": ["a", "b", "no", "a", "no"]})).json()
        assert [one.get("registers", {}).get("n") for one in answer["streams"]] == [1, 2, None, 1, None]
        assert read == ["a", "b", "no"]


async def test_resolving_much_is_refused(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the streams hold and by the members that are listed, each time that one is named."""
    monkeypatch.setattr(listings, "RESOLVE_BYTES_MAX", 4_000)
    async with serving(workplace) as served:
        await served.write("wide", set={"text": "x" * 1_200})
        await served.write("many", add={"m": [f"{number:0100}" for number in range(12)]})
        for stream in ("wide", "many"):
            for times, status in ((3, 200), (4, 413)):
                answer = await served.client.post("/resolve", json={"streams": [stream] * times})
                assert answer.status_code == status, (stream, times, answer.text)


async def test_large_streams_let_others_have_a_turn_after_each(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "RESOLVE_BYTES_AT_ONCE", 1_000)
    async with serving(workplace) as served, counting_turns() as turns:
        await served.write("a", set={"n": 1})
        await served.write("wide", set={"text": "x" * 1_200})
        counted: list[int] = []
        for name in ("a", "wide"):
            before = turns()
            await served.client.post("/resolve", json={"streams": [name] * 20})
            counted.append(turns() - before)
        assert counted[1] >= counted[0] + 15


async def test_pages_end_by_bytes_and_go_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(workplace / "eu") as served:
        names = [f"users/{number}" for number in range(5)]
        for name in names:
            seen = (await served.write(name, set={"userName": name}))["token"]
            for letter in "xy":  # a conflict
                await served.write(name, {"causal-context": seen}, set={"text": letter * 400})
        await check_views(served)
        monkeypatch.setattr(queries, "PAGE_BYTES_MAX", 1_500)
        for path, what in (
            ("/streams/users/?limit=9", "streams"),
            ("/conflicts?limit=9", "conflicts"),
            ("/views/users-by-name?from=", "rows"),
            ("/views/users-search?q=users", "rows"),
        ):
            found, pages = await _pages(served, path, what)
            assert [one["stream"] for one in found] == names, path
            assert pages in (3, 5), path
    check_store(workplace / "eu")


async def _pages(served: Served, path: str, what: str) -> tuple[list[dict[str, Any]], int]:
    found: list[dict[str, Any]] = []
    count, url = 0, path
    while url:
        page = await served.client.get(url)
        assert page.status_code == 200, page.text
        found += page.json()[what]
        url = page.links.get("next", {}).get("url", "")
        count += 1
    return found, count


async def test_resolved_changes_end_by_bytes_and_go_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bytes of streams that small events lead to."""
    async with serving(workplace) as served:
        for number in range(4):
            await served.write(f"s/{number}", add={"members": [f"{number}{member:099}" for member in range(8)]})
        after = (await served.read("/streams/s/"))["token"]
        for number in (0, 1, 0, 2, 3, 1):
            await served.write(f"s/{number}", set={"n": number})
        body = {"events": [{"stream": f"s/{number}", "set": {"n": number}} for number in (1, 2, 3, 4)]}
        assert (await served.client.post("/transactions", json=body)).status_code == 201
        monkeypatch.setattr(changes, "PAGE_BYTES_MAX", 1_500)
        seen: list[list[str]] = []
        more = True
        while more:
            page = await served.read(f"/changes?form=resolved&prefix=s/&limit=100&after={after}")
            seen.append([change["stream"] for change in page["changes"]])
            after, more = page["cursor"], page["more"]
        assert seen == [["s/0", "s/1"], ["s/0", "s/2"], ["s/3", "s/1"], ["s/1", "s/2", "s/3", "s/4"]]
        assert page["token"] == (await served.read("/streams/s/"))["token"]


async def test_sets_are_listed_as_far_as_they_are_not_many(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "SETS_INLINE_MAX", 7)
    async with serving(workplace) as served:
        sets = {
            name: [f"{name}{number}" for number in range(count)] for name, count in (("a", 4), ("b", 3), ("c", 1))
        }
        await served.write("s", add=sets)
        answer = await served.read("/streams/s")
        assert answer["sets"] == {"b": sets["b"], "c": sets["c"]}
        assert answer["large_sets"] == {"a": {"count": 4, "href": "/streams/s?set=a"}}
        await served.write("s", remove={"c": ["c0"]})
        answer = await served.read("/streams/s?follow=true")
        assert answer["sets"] == {"a": sets["a"], "b": sets["b"]}
        assert "large_sets" not in answer


async def test_a_view_that_asks_for_no_set_reads_none(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(workplace) as served:
        await served.write("groups/g", set={"displayName": "Guides"}, add={"members": ["users/1"]})
        await check_views(served)

        def never(*_: Any) -> Any:
            raise AssertionError("a set is read that nobody asked for")

        with monkeypatch.context() as patched:
            patched.setattr(state, "members_of", never)
            [row] = (await served.read("/views/groups-by-name?key=guides"))["rows"]
            assert row["stream"] == "groups/g"
            patched.setattr(state, "members_of", lambda *_: ("seen",))
            assert (await served.read("/streams/groups/g?follow=true"))["sets"] == {"members": ["seen"]}
