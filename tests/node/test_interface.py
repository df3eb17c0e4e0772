"""The interface as clients use it: streams, sets, the past, prefixes, the log, transactions, lists."""

import base64
import gc
from pathlib import Path
from typing import Any

import pytest
import trio
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no annotations

from node.directory.names import claim_stream
from node.interface.routes import ROUTES
from node.interface.schemas import BODIES
from replication.packing import pack, unpack
from replication.replica import Turn
from replication.tokens import format_token
from tests.helpers import NOW, check_store
from tests.serving import Served, serving


async def pages(served: Served, path: str, key: str) -> list[Any]:
    """Every item of a paged answer, following its links."""
    items: list[Any] = []
    while path:
        response = await served.client.get(path)
        assert response.status_code == 200, response.text
        items += response.json()[key]
        path = response.links["next"]["url"] if "next" in response.links else ""
    return items


async def test_a_stream_is_written_read_patched_and_deleted(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        written = await served.client.post(
            "/streams/users/4",
            json={"set": {"name": "Lisa", "address": {"city": "Rome", "zip": "1"}}, "add": {"m": ["b", "a"]}},
        )
        assert written.status_code == 201
        answer = written.json()
        assert set(answer) == {"stream", "dot", "timestamp", "token", "context"}
        assert answer["timestamp"] == "2023-11-14T22:13:20.00000000Z"
        assert written.headers["location"] == f"/dots/{answer['dot']}"
        read = await served.client.get("/streams/users/4")
        assert read.headers["etag"] == f'"{answer["token"]}"'
        assert read.headers["cache-control"] == "private, no-cache"
        assert read.content == (
            b'{"registers":{"address":{"city":"Rome","zip":"1"},"name":"Lisa"},'
            b'"sets":{"m":["a","b"]},"stream":"users/4","token":"' + answer["token"].encode() + b'"}\n'
        )
        patched = await served.client.patch(
            "/streams/users/4",
            content=b'{"address":{"zip":null},"name":null}',
            headers={"content-type": "application/merge-patch+json"},
        )
        assert patched.status_code == 201
        assert (await served.read("/streams/users/4"))["registers"] == {"address": {"city": "Rome"}}
        assert (await served.client.delete("/streams/users/4")).status_code == 201
        assert (await served.client.get("/streams/users/4")).status_code == 404
        await served.write("users/4", {"if-none-match": "*"}, set={"name": "again"})
    check_store(workplace / "eu")


async def test_representations_of_one_state_have_tags_of_their_own(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        token = (await served.write("s", set={"n": 1}))["token"]
        tags = set()
        for path, headers in (
            ("/streams/s", {}),
            ("/streams/s?conflicts=true", {}),
            ("/streams/s", {"accept": "application/vnd.msgpack"}),
            ("/streams/s?set=m", {}),
            ("/streams/s?set=m&contains=x", {}),
        ):
            response = await served.client.get(path, headers=headers)
            tag = response.headers["etag"]
            tags.add(tag)
            again = await served.client.get(path, headers={**headers, "if-none-match": f'"x", W/{tag}'})
            assert (again.status_code, again.content) == (304, b"")
            assert "content-length" not in again.headers, "it would be that of what is not sent"
            matched = await served.client.post("/streams/t", json={"set": {"n": 1}}, headers={"causal-after": token})
            assert matched.status_code == 201
        assert len(tags) == 5
        plain = {"if-match": sorted(tags)[0]}
        assert (await served.client.post("/streams/s", json={"set": {"n": 2}}, headers=plain)).status_code == 201


async def test_what_differs_has_another_tag(workplace: Path) -> None:
    """Else a cache would show a page for another."""
    async with serving(workplace / "eu") as served:
        first = await served.write("s", set={"n": 1}, add={"m": ["a", "b", "c"], "o": ["a"]})
        await served.write("s", set={"n": 2})
        await served.write("s", {"causal-context": first["token"]}, set={"n": 3})
        last = await served.write("s/part", set={"x": 1, "moved_from": "s"})
        await served.write("s", set={"moved_to": {"s/part": ["x"]}})
        asked = ["/streams/", "/streams/s/", "/streams/s"]
        asked += [f"/streams/{more}" for more in ("?limit=1", "?limit=2", "?limit=3")]
        asked += [f"/streams/s?{more}" for more in ("conflicts=true", "follow=true", "follow=true&conflicts=true")]
        asked += [
            f"/streams/s?set={more}" for more in ("m", "o", "p", "m&limit=1", "m&limit=2", "m&limit=3", "o&limit=1")
        ]
        asked += [
            f"/streams/s?set={more}" for more in ("m&contains=a", "m&contains=z", "o&contains=z", "o&contains=a")
        ]
        for when in (first["timestamp"], last["timestamp"]):
            asked += [f"/streams/s?at={when}", f"/streams/s?at={when}&conflicts=true"]
        shown: dict[str, tuple[str, bytes]] = {}
        for path in asked:
            following: str | None = path
            while following:
                answer = await served.client.get(following)
                assert answer.status_code == 200, answer.text
                known = shown.setdefault(answer.headers["etag"], (following, answer.content))
                assert known[1] == answer.content, (known[0], following)
                following = answer.links.get("next", {}).get("url")
        assert len(shown) > len(asked)


async def test_msgpack_says_the_same(workplace: Path) -> None:
    packed = "application/vnd.msgpack"
    async with serving(workplace / "eu") as served:
        body = pack({"set": {"n": 2**64 - 1, "f": 0.5}, "add": {"m": ["é"]}})
        headers = {"content-type": packed, "accept": packed}
        written = await served.client.post("/streams/s", content=body, headers=headers)
        assert unpack(written.content)["stream"] == "s"
        read = await served.client.get("/streams/s", headers=headers)
        assert read.headers["content-type"] == packed
        assert unpack(read.content) == await served.read("/streams/s")


async def test_head_is_get_without_a_body(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        await served.write("s", set={"n": 1})
        for path in (
            "/streams/s",
            "/streams/",
            "/events/",
            "/changes",
            "/conflicts",
            "/status",
            "/",
            "/openapi.json",
        ):
            got, headed = await served.client.get(path), await served.client.head(path)
            assert headed.content == b""
            assert headed.status_code == got.status_code == 200
            if path not in ("/status", "/"):
                assert headed.headers["content-length"] == got.headers["content-length"]


async def test_a_full_store_does_not_spin_on_what_it_cannot_clear_away(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from replication.errors import StoreFull

    async with serving(workplace / "eu") as served:
        await served.write("s", add={"m": ["x"]})
        turns = 0

        def full(*_: object) -> None:
            nonlocal turns
            turns += 1
            raise StoreFull("no room")

        served.node.replica.mirror.purging = True
        with monkeypatch.context() as patched:
            patched.setattr("replication.batch.Batch.flush", full)
            assert (await served.client.post("/streams/s", json={"set": {"n": 1}})).status_code == 507
            await trio.sleep(0.2)
            assert turns < 5
        await served.write("s", set={"n": 1})


async def test_conflicts_of_every_kind_are_listed_page_by_page(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.interface.conflicts.PAGE_MAX", 2)  # how much is looked up of each kind at once
    async with serving(workplace / "eu") as served:
        expected: list[tuple[str, str]] = []
        for number in range(5):
            lost, name, split = f"c/{number}", f"name {number}", f"w/{number}"
            for unseen in ({}, {"causal-context": format_token(lost, {})}):
                await served.write(lost, unseen, set={"n": len(unseen)})
            users = [f"users/{number}a", f"users/{number}b"]
            for user in users:
                await served.write(user, set={"userName": name})
            claim = claim_stream("userName", name)
            await served.write(claim, add={"holders": users})
            latest = await served.write(split, set={"moved_to": {f"{split}/part": ["title"]}, "title": "x"})
            expected += [(lost, "fields"), (claim, "claim"), (split, "strays")]
        await served.read("/conflicts", {"causal-after": latest["token"]})  # views are there from now on
        for limit in (1, 4, 100):
            listed = await pages(served, f"/conflicts?limit={limit}", "conflicts")
            assert [(one["stream"], kind) for one in listed for kind in one.keys() - {"stream", "token"}] == sorted(
                expected
            )


async def test_large_sets_are_counted_paged_and_tested(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        members = [f"m{number:05}" for number in range(2_500)]
        for start in range(0, 2_500, 500):
            await served.write(
                "groups/all",
                add={"members": members[start : start + 500], "few": ["x"]}
                if not start
                else {"members": members[start : start + 500]},
            )
        answer = await served.read("/streams/groups/all")
        assert answer["sets"] == {"few": ["x"]}
        large = answer["large_sets"]["members"]
        assert large["count"] == 2_500
        assert await pages(served, f"{large['href']}&limit=700", "members") == members
        assert await pages(served, "/streams/groups/all?set=few", "members") == ["x"]
        assert await pages(served, "/streams/groups/all?set=none", "members") == []
        await served.write("odd", add={"a&b=c+d %": ["x", "y"]})
        assert await pages(served, "/streams/odd?set=a%26b%3Dc%2Bd%20%25&limit=1", "members") == ["x", "y"]
        for element, there in (("m00007", True), ("m7", False)):
            tested = await served.read(f"/streams/groups/all?set=members&contains={element}")
            assert tested["contains"] is there
        assert (await served.read("/streams/groups/all?set=none&contains=x"))["contains"] is False
        other = await served.client.get(large["href"])
        assert (other.json()["count"], len(other.json()["members"])) == (2_500, 100)
        cursor = other.links["next"]["url"].partition("cursor=")[2]
        wrong = await served.client.get(f"/streams/groups/all?set=few&cursor={cursor}")
        assert wrong.json()["field"] == "cursor"
        await served.write("groups/all", remove={"few": ["x"]})
        emptied = await served.read("/streams/groups/all")
        assert (emptied["sets"], list(emptied["large_sets"])) == ({}, ["members"])
        await served.client.delete("/streams/groups/all")
        assert (await served.client.get(large["href"])).status_code == 404
        await served.write("groups/all", add={"members": ["m00001"]})
        assert (await served.read("/streams/groups/all"))["sets"] == {"members": ["m00001"]}
        with trio.fail_after(5):
            while served.node.replica.mirror.purging:
                await trio.sleep(0.01)
    check_store(workplace / "eu")


@pytest.mark.parametrize("path", ["/streams/?limit=1", "/streams/s?set=m&limit=1", "/events/s?limit=1"])
async def test_a_cursor_that_was_made_up_is_refused(workplace: Path, path: str) -> None:
    async with serving(workplace / "eu") as served:
        for number in range(2):
            await served.write("s", add={"m": [str(number)]})
            await served.write("t", set={"n": number})
        link = (await served.client.get(path)).links["next"]["url"]
        where, _, cursor = link.partition("cursor=")
        scope, position = unpack(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))

        async def status(place: Any) -> int:
            made = base64.urlsafe_b64encode(pack([scope, place])).decode().rstrip("=")
            return (await served.client.get(f"{where}cursor={made}")).status_code

        assert await status(position) == 200
        others: list[Any] = [7, [], {}, b"x", ["a", "b"], [-1, "eu.00000001", 1], [1, 2, 3], True]
        for other in others:
            assert await status(other) == 400, other


async def test_the_past(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        tokens, times = [], []
        for number in range(4):
            written = await served.write("s", set={"n": number}, add={"m": [str(number)]})
            tokens.append(written["token"])
            times.append(written["timestamp"])
            served.clock.ms += 1_000
        for number in range(4):
            by_token = await served.read(f"/streams/s?at={tokens[number]}")
            by_time = await served.read(f"/streams/s?at={times[number]}&conflicts=true")
            assert by_token["registers"] == by_time["registers"] == {"n": number}
            assert by_token["sets"]["m"] == [str(place) for place in range(number + 1)]
            assert by_token["token"] == by_time["token"] == tokens[number]
        assert (await served.read("/streams/s?at=2023-11-14T22:13:21Z"))["registers"] == {"n": 1}
        assert (await served.read("/streams/s?at=2023-11-14T23:13:22.5%2B01:00"))["registers"] == {"n": 2}
        early = await served.client.get("/streams/s?at=2000-01-01T00:00:00Z")
        assert early.status_code == 404


async def test_prefixes_list_what_exists_by_name(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        names = ["a", "a/b", "a/b/c", "b", "é/x", "a b/c", "a+b/c"]
        for name in names:
            response = await served.client.post(f"/streams/{name.replace(' ', '%20')}", json={"set": {"n": 1}})
            assert response.status_code == 201, response.text
        await served.client.delete("/streams/b")
        listed = await pages(served, "/streams/?limit=2", "streams")
        assert [item["stream"] for item in listed] == sorted(set(names) - {"b"}, key=str.encode)
        first = await served.client.get("/streams/?limit=1")
        cursor = first.links["next"]["url"].partition("cursor=")[2]
        then = await served.read(f"/streams/?limit=100&cursor={cursor}")
        assert [item["stream"] for item in (*first.json()["streams"], *then["streams"])] == [
            item["stream"] for item in listed
        ]
        elsewhere = await served.client.get(f"/streams/a/?limit=1&cursor={cursor}")
        assert (elsewhere.status_code, elsewhere.json()["field"]) == (400, "cursor")
        below = await served.read("/streams/a/")
        assert [item["stream"] for item in below["streams"]] == ["a/b", "a/b/c"]
        token = below["token"]
        assert (await served.client.get("/streams/a/", headers={"if-none-match": f'"{token}"'})).status_code == 304
        await served.write("a/z", set={"n": 1})
        assert (await served.client.get("/streams/a/", headers={"if-none-match": f'"{token}"'})).status_code == 200
        assert (await served.read("/streams/nothing/"))["streams"] == []


async def test_the_log_is_paged_in_order_and_each_event_has_a_place(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        for number in range(5):
            await served.write("users/4", set={"n": number})
        body = {"events": [{"stream": f"users/{n}", "set": {"n": 9}} for n in range(3)]}
        transaction = (await served.client.post("/transactions", json=body)).json()
        await served.write(
            "x",
            {"idempotency-key": "k"},
            remove={"m": ["a"]},
            occurred_at="2020-01-01T00:00:00+02:00",
            source={"name": "f", "position": 3},
        )
        events = await pages(served, "/events/?limit=2", "events")
        assert len(events) == 9
        assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
        assert [event.get("transaction") for event in events[5:8]] == [{"index": n, "count": 3} for n in range(3)]
        first_page = (await served.read("/events/?limit=6"))["events"]
        assert len(first_page) == 8, "a transaction is never split between pages"
        assert events[-1]["occurred_at"] == "2020-01-01T00:00:00+02:00"
        assert events[-1]["source"] == {"name": "f", "position": 3}
        assert events[-1]["idempotency_key"] == "k"
        assert events[-1]["remove"] == {"m": ["a"]}
        assert len(await pages(served, "/events/users/4?limit=2", "events")) == 5
        assert len(await pages(served, "/events/users/?limit=2", "events")) == 8
        dot = transaction["events"][1]["dot"]
        assert (await served.read(f"/dots/{dot}"))["stream"] == "users/1"
        await served.client.delete("/streams/users/4")
        assert (await pages(served, "/events/users/4", "events"))[-1]["delete"] is True


async def test_transactions_are_all_or_none(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        first = await served.write("a", set={"n": 1})
        prefix = (await served.read("/streams/"))["token"]
        body = {
            "events": [{"stream": "a", "set": {"n": 2}}, {"stream": "b/c", "add": {"m": ["x"]}}],
            "expect": {"a": first["token"], "": prefix},
        }
        done = await served.client.post("/transactions", json=body, headers={"idempotency-key": "t"})
        assert done.status_code == 201
        assert [event["stream"] for event in done.json()["events"]] == ["a", "b/c"]
        again = await served.client.post("/transactions", json=body, headers={"idempotency-key": "t"})
        assert again.json() == done.json()
        failed = await served.client.post("/transactions", json=body)
        assert failed.status_code == 412
        assert (await served.read("/streams/a"))["registers"] == {"n": 2}


async def test_resolve_answers_many_at_once(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        await served.write("a", set={"n": 1})
        answer = (await served.client.post("/resolve", json={"streams": ["a", "nobody"]})).json()
        assert answer["streams"][0] == await served.read("/streams/a")
        assert (answer["streams"][1]["stream"], answer["streams"][1]["status"]) == ("nobody", 404)


async def test_status_health_and_the_interfaces_own_description(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        await served.write("s", set={"n": 1})
        status = await served.read("/status")
        assert (status["region"], status["cluster"], status["ready"], status["events"]) == ("eu", "atoll", True, 1)
        assert list(status["heads"]) == [status["origin"]]
        assert await served.read("/healthz") == {"status": "ok"}
        assert await served.read("/readyz") == {"ready": True}
        document = await served.read("/openapi.json")
        described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
        assert described == {(route.method, route.path) for route in ROUTES}
        identifiers = [method["operationId"] for methods in document["paths"].values() for method in methods.values()]
        assert len(document["paths"]["/changes"]["get"]["parameters"]) >= 5
        assert len(set(identifiers)) == len(identifiers)
        for schema in (*document["components"]["schemas"].values(), *BODIES.values()):
            Draft202012Validator.check_schema(schema)


async def test_requests_that_wait_together_share_a_commit(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        turns: list[Turn] = []
        commit = served.node.replica.commit

        def counted(turn: Turn) -> Any:
            turns.append(turn)
            return commit(turn)

        served.node.replica.commit = counted  # type: ignore[method-assign]  # it is only counted
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(lambda n: served.write(f"s/{n}", set={"n": n}), number)
        assert len((await served.read("/streams/s/"))["streams"]) == 50
        assert 0 < len(turns) < 50


async def test_timestamps_of_one_instant_are_told_apart(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        first = await served.write("s", set={"n": 1})
        second = await served.write("s", set={"n": 2})
        assert first["timestamp"] < second["timestamp"]
        assert first["timestamp"][:23] == second["timestamp"][:23]
        assert served.clock.ms == NOW
        served.clock.ms += 1
        await served.write("s", set={"n": 3})
        for at, seen in ((first["timestamp"], 1), (second["timestamp"], 2), (second["timestamp"][:23] + "Z", 2)):
            assert (await served.read(f"/streams/s?at={at}"))["registers"] == {"n": seen}


async def test_a_client_that_goes_before_its_request_is_whole_is_nobody_s_mistake(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(workplace / "eu") as served:
        host, port = served.url.removeprefix("http://").split(":")
        for path in ("/streams/s", "/frob"):
            stream = await trio.open_tcp_stream(host, int(port))
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
            await stream.send_all(head.encode() + b'{"set":{"n":1}}')  # would do, were it all
            await stream.aclose()
        await served.write("t", set={"n": 1})
        assert (await served.client.get("/streams/s")).status_code == 404
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


async def test_a_request_leaves_no_cycles_behind(workplace: Path) -> None:
    """The collector is told to look seldom, so there must be nothing for it to find."""
    async with serving(workplace / "eu") as served:
        host, port = served.url.removeprefix("http://").split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            for head, body in ((b"POST", b'{"set":{"n":1}}'), (b"GET", b""), (b"DELETE", b"")):
                request = head + b" /streams/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                for turn in range(60):
                    if turn == 20:
                        gc.collect()
                        gc.disable()
                    await stream.send_all(request)
                    assert (await stream.receive_some(65_536)).startswith(b"HTTP/1.1 ")
                found = gc.collect()
                gc.enable()
                assert found < 20, head
