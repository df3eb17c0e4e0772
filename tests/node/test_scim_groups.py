"""Groups by SCIM, over real sockets: members, however many, and what a large request may cost the others."""

import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from crdt.operations import Set
from node.commands.streams import split
from node.directory import storage
from node.directory.aside import aside
from node.directory.service import DirectoryService
from replication.command import Command, Draft
from tests.scim import BULK, GROUP, PATCH, USER, Directory, check_views
from tests.serving import counting_turns, serving


async def test_a_member_that_comes_later_shows_and_one_that_went_does_not(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        group = await directory.group("Guides", "later")
        assert "members" not in group
        await served.write("users/later", set={"userName": "later"})
        path = f"/Groups/{group['id']}"
        assert [one["value"] for one in (await directory.ask("GET", path))["members"]] == ["later"]
        assert await directory.names('members.value eq "later"', "Groups") == ["Guides"]
        await directory.ask("PUT", path, {"schemas": [GROUP], "displayName": "Guides", "members": []})
        assert "members" not in await directory.ask("GET", path)
        await directory.patch(path, {"op": "add", "path": "members", "value": [{"value": "later"}]})
        await directory.ask("DELETE", "/Users/later", expect=204)
        assert "members" not in await directory.ask("GET", path)
        await directory.ask("GET", "/Users/later", expect=404)
        await check_views(served)


async def test_a_member_shows_whatever_was_split_off_it(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        anna = (await directory.user("anna", displayName="Anna"))["id"]
        group = (await directory.group("Guides", anna))["id"]
        await split(f"users/{anna}", fields=["d*"], to=f"users/{anna}/shown", node=served.url)
        await served.write(f"groups/{group}", add={"members": [f"{anna}/shown"]})
        [member] = (await directory.ask("GET", f"/Groups/{group}"))["members"]
        assert (member["value"], member["display"]) == (anna, "Anna"), "and a part is nobody"
        await directory.ask("DELETE", f"/Users/{anna}", expect=204)
        await split(f"users/{anna}", fields=["deleted"], to=f"users/{anna}/gone", node=served.url)
        assert "members" not in await directory.ask("GET", f"/Groups/{group}")


async def test_a_group_of_groups(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        inner = await directory.group("Inner")
        members = [{"value": inner["id"], "type": "Group"}]
        outer = await directory.ask(
            "POST", "/Groups", {"schemas": [GROUP], "displayName": "Outer", "members": members}, 201
        )
        assert outer["members"][0]["type"] == "Group"
        assert outer["members"][0]["$ref"].endswith(f"/Groups/{inner['id']}")
        assert await directory.names(f'members[value eq "{inner["id"]}"]', "Groups") == ["Outer"]
        await directory.patch(
            f"/Groups/{outer['id']}", {"op": "remove", "path": f'members[value eq "{inner["id"]}"]'}
        )
        assert "members" not in await directory.ask("GET", f"/Groups/{outer['id']}")


async def test_a_put_of_a_group_undoes_only_what_its_author_had_seen(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        anna, berta, cara = [(await directory.user(name))["id"] for name in ("anna", "berta", "cara")]
        group = await directory.group("Guides", anna, berta)
        path, token = f"/Groups/{group['id']}", group["meta"]["version"].removeprefix('W/"').rstrip('"')
        await directory.patch(path, {"op": "add", "path": "members", "value": [{"value": cara}]})
        wanted = {**group, "members": [{"value": anna}]}
        shown = await directory.ask("PUT", path, wanted, headers={"causal-context": token})
        assert sorted(one["value"] for one in shown["members"]) == sorted([anna, cara])
        shown = await directory.ask("PUT", path, wanted)
        assert [one["value"] for one in shown["members"]] == [anna]


async def test_a_member_s_name_is_its_own_and_an_address_s_is_written(workplace: Path) -> None:
    """Okta sends the names of members along; what is called so elsewhere is kept."""
    async with serving(workplace) as served:
        directory = Directory(served)
        anna = (await directory.user("anna", displayName="Anna"))["id"]
        group = await directory.group("Guides")
        named = [{"value": anna, "display": "somebody"}]
        for patch in ({"op": "replace", "value": {"members": named}}, {"op": "replace", "path": "members",
                                                                       "value": named}):  # fmt: skip
            await directory.patch(f"/Groups/{group['id']}", patch)
            [member] = (await directory.ask("GET", f"/Groups/{group['id']}"))["members"]
            assert (member["value"], member["display"]) == (anna, "Anna")
        address = {"value": "a@example.com", "display": "Anna A"}
        await directory.patch(f"/Users/{anna}", {"op": "add", "value": {"emails": [address]}})
        [shown] = (await directory.ask("GET", f"/Users/{anna}"))["emails"]
        assert shown.items() >= address.items()


async def test_members_are_patched_without_reading_the_others(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        group = await directory.group("Everybody")
        path, stream = f"/Groups/{group['id']}", f"groups/{group['id']}"
        await served.write(stream, add={"members": [f"u{number}" for number in range(3_000)]})

        def never(*_: Any) -> Any:
            raise AssertionError("the members are read")

        monkeypatch.setattr("node.directory.storage.read_members", never)
        entra_adds = {"op": "Add", "path": "members", "value": [{"value": "new"}, {"value": "u1"}]}
        entra_removes = {"op": "Remove", "path": "members", "value": [{"value": "u1"}]}
        okta = {"op": "remove", "path": 'members[value eq "u2"]'}
        await directory.patch(path, entra_adds)
        assert (await directory.events(stream))[-1]["add"] == {"members": ["new"]}
        await directory.patch(path, entra_removes, okta, {"op": "replace", "path": "displayName", "value": "All"})
        event = (await directory.events(stream))[-1]
        assert (event["remove"], event["set"]) == ({"members": ["u1", "u2"]}, {"displayName": "All"})
        await directory.patch(path, {"op": "add", "value": {"members": [{"value": "u1"}], "externalId": "x"}})
        event = (await directory.events(stream))[-1]
        assert (event["add"], event["set"]) == ({"members": ["u1"]}, {"externalId": "x"})
        body = {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": [{"value": "u2"}]}]}
        bulk = await directory.ask(
            "POST", "/Bulk",
            {"schemas": [BULK],
             "Operations": [{"method": "PATCH", "path": path, "data": body}]},
        )  # fmt: skip
        assert [one["status"] for one in bulk["Operations"]] == ["200"]
        assert (await directory.events(stream))[-1]["add"] == {"members": ["u2"]}
        for op, name in (("add", "Each"), ("replace", "All")):
            await directory.patch(path, {"op": op, "value": {"displayName": name}})
            assert (await directory.events(stream))[-1]["set"] == {"displayName": name}
        named = {"op": "add", "value": {"members": [{"value": "okta", "display": "O."}]}}
        await directory.patch(path, named)
        assert (await directory.events(stream))[-1]["add"] == {"members": ["okta"]}
        shown = await directory.ask("GET", path, excludedAttributes="members")
        assert shown["displayName"] == "All"
        assert len((await directory.ask("GET", "/Groups", excludedAttributes="members"))["Resources"]) == 1
        for nobody in ({"display": "nobody"}, "nobody", {"value": ""}, {"value": 7}):
            await directory.patch(path, {"op": "add", "path": "members", "value": [nobody]}, expect=400)
        await check_views(served)


async def test_a_patch_of_members_does_what_it_says_and_no_more(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        users = [(await directory.user(name, displayName=name))["id"] for name in ("anna", "berta", "cara")]
        group = await directory.group("Guides", *users[:2])
        path = f"/Groups/{group['id']}"

        async def members() -> set[str]:
            return {one["value"] for one in (await directory.ask("GET", path)).get("members", [])}

        await directory.patch(path, {"op": "replace", "value": {"members": [{"value": users[2]}]}})
        assert await members() == {users[2]}, "a replacement is of all of them"
        await directory.patch(path, {"op": "add", "path": "members", "value": {"value": users[0]}})
        assert await members() == {users[0], users[2]}
        part = {"op": "remove", "path": f'members[value eq "{users[0]}"].display'}
        narrowed = {"op": "add", "path": f'members[value eq "{users[0]}"]', "value": {"value": users[1]}}
        for refused in (part, narrowed):
            await directory.patch(path, refused, expect=400)
            assert await members() == {users[0], users[2]}, "a part of one is not the one"
        await directory.patch(path, {"op": "remove", "path": "members"})
        assert await members() == set()


async def test_a_large_group_is_shown_while_others_run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is made of members, which takes longer than to read them, and lets nobody else run."""
    count, at_once = 1_100, 16
    for reader in ("storage", "handler"):
        monkeypatch.setattr(f"node.directory.{reader}.MEMBERS_AT_ONCE", at_once)
    async with serving(workplace) as served:
        directory = Directory(served)
        names = [f"u{number:04}" for number in range(count)]
        for name in names:
            await served.node.submit([Command((Draft(f"users/{name}", (Set("userName", name),)),))])
        group = await directory.group("Everybody")
        path = f"/Groups/{group['id']}"
        await served.write(f"groups/{group['id']}", add={"members": names})

        def never(*_: Any) -> Any:
            raise AssertionError("a model is made of a member")

        monkeypatch.setattr("node.directory.resources._member", never)
        queries: list[tuple[str, dict[str, Any]]] = [
            ("/Groups", {}),
            (path, {}),
            (path, {"attributes": "members.value"}),
            ("/Groups", {"filter": 'displayName eq "Everybody"', "excludedAttributes": "members.display"}),
        ]
        async with counting_turns() as turns:
            for asked, query in queries:
                before = turns()
                shown = await directory.ask("GET", asked, **query)
                members = shown.get("Resources", [shown])[0]["members"]
                assert [one["value"] for one in members] == names
                assert turns() - before >= 2 * (count // at_once), "reading them, then listing them"
        patched = await directory.patch(
            path,
            {"op": "add", "path": "members", "value": [{"value": "u0001"}]},
            expect=200,
            attributes="members.type",
        )
        assert patched["members"] == [{"type": "User"}] * count
        await check_views(served)


async def test_large_writes_are_read_in_a_thread(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library takes seconds over the largest, in one piece; small ones need no thread."""
    main, seen = threading.get_ident(), list[tuple[str, bool]]()

    def watch(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def watched(*args: Any) -> Any:
            seen.append((name, threading.get_ident() != main))
            return call(*args)

        monkeypatch.setattr(owner, name, watched)

    for name in ("read_body", "apply_replacement", "apply_patch"):
        watch(DirectoryService, name)
    for name in ("to_model", "to_fields"):
        watch(storage, name)

    async with serving(workplace) as served:
        directory = Directory(served)

        async def said(*request: Any) -> Any:
            seen.clear()
            return await directory.ask(*request)

        few, many = ([{"value": f"u{number:04}"} for number in range(count)] for count in (3, 900))
        body = {"schemas": [GROUP], "displayName": "Everybody"}
        replace = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "members", "value": few}]}
        made = await said("POST", "/Groups", body | {"members": many}, 201)
        assert {one for one in seen if one[0] != "to_model"} == {("read_body", True), ("to_fields", True)}
        path = f"/Groups/{made['id']}"
        await served.node.submit(
            [Command((Draft(f"users/{one['value']}", (Set("userName", one["value"]),)),)) for one in many]
        )
        assert len((await directory.ask("GET", path))["members"]) == 900
        large = {("to_model", True), ("apply_patch", True), ("to_fields", True)}
        await said("PATCH", path, replace, 204)
        assert set(seen[1:-1]) == large, "a small body, a large group; what the answer shows is made without members"
        assert len((await directory.ask("GET", path))["members"]) == 3
        await said("PUT", path, body | {"members": many})
        assert {one for one in seen if one[0] != "to_model"} == {
            ("read_body", True), ("apply_replacement", True), ("to_fields", True),
        }  # fmt: skip
        await said("PUT", path, body | {"members": few})
        await said("PUT", path, body | {"members": few[:1]})
        assert not any(aside for _, aside in seen), "all of it is small"
        operations = [
            {"method": "POST", "path": "/Users", "bulkId": str(number), "data": {"schemas": [USER], "userName": name}}
            for number, name in enumerate(f"{number:0200}" for number in range(80))
        ]
        bulk = {"schemas": [BULK], "Operations": operations}
        done = await said("POST", "/Bulk", bulk)
        assert [one["status"] for one in done["Operations"]] == ["201"] * 80
        assert seen[0] == ("read_body", True)
        await said("PATCH", path, replace | {"Operations": [{"op": "add", "path": "members", "value": many}]}, 204)
        assert seen[0] == ("read_body", True)
        assert len((await directory.ask("GET", path))["members"]) == 900
        refused = await said("PUT", path, body | {"members": many, "displayName": [1]}, 400)
        assert refused["scimType"] == "invalidValue"
        assert seen[-1] == ("read_body", True), "what the thread raises is the answer"
        await check_views(served)


async def test_a_patch_makes_so_many_comparisons(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.directory.handler.SCIM_COMPARED_MAX", 12)
    async with serving(workplace) as served:
        directory = Directory(served)
        users = [(await directory.user(f"u{number}", displayName=f"U {number}"))["id"] for number in range(5)]
        path = f"/Groups/{(await directory.group('five', *users))['id']}"
        two = {"op": "remove", "path": 'members[display co "3" or display co "4"]'}
        three = {"op": "remove", "path": 'members[display co "1" or display co "2" or display co "4"]'}
        one = {"op": "replace", "path": "displayName", "value": "some"}
        for many in ((three,), (two, one)):
            refused = await directory.patch(path, *many, expect=400)
            assert refused["scimType"] == "tooMany"
        assert (await directory.ask("GET", path))["displayName"] == "five"
        await directory.patch(path, two)
        await directory.patch(path, three, expect=204)
        shown = await directory.ask("GET", path)
        assert [member["display"] for member in shown["members"]] == ["U 0"]
        await check_views(served)


async def test_members_that_a_patch_names_are_looked_up_in_pieces(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, at_once = 320, 16
    monkeypatch.setattr("node.directory.handler.MEMBERS_AT_ONCE", at_once)
    async with serving(workplace) as served:
        directory = Directory(served)
        group = await directory.group("Everybody")
        members = [{"value": f"u{number:04}"} for number in range(count)]
        for members_op in ("add", "remove"):
            async with counting_turns() as turns:
                await directory.patch(
                    f"/Groups/{group['id']}", {"op": members_op, "path": "members", "value": members}
                )
                assert turns() >= count // at_once
        await check_views(served)


async def test_parts_of_members_are_shown_as_asked(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        user = await directory.user("bjensen", displayName="Babs")
        group = await directory.group("Guides", user["id"])
        [whole] = group["members"]
        assert whole == {
            "value": user["id"], "type": "User", "display": "Babs", "$ref": f"{served.url}/scim/v2/Users/{user['id']}",
        }  # fmt: skip
        urn = "urn:ietf:params:scim:schemas:core:2.0:Group"
        queries: list[tuple[dict[str, Any], set[str]]] = [
            ({}, {"value", "type", "display", "$ref"}),
            ({"attributes": "members"}, {"value", "type", "display", "$ref"}),
            ({"attributes": "members.value,displayName"}, {"value"}),
            ({"attributes": f"{urn}:members.Display"}, {"display"}),
            ({"attributes": "displayName"}, set()),
            ({"excludedAttributes": "members.display,members.$ref"}, {"value", "type"}),
            ({"excludedAttributes": "MEMBERS"}, set()),
        ]
        for query, parts in queries:
            for path in (f"/Groups/{group['id']}", "/Groups"):
                shown = await directory.ask("GET", path, **query)
                shown = shown.get("Resources", [shown])[0]
                expected = [{part: whole[part] for part in parts}] if parts else None
                assert shown.get("members") == expected, (query, path)
        for attributes in ("members.type", "no[path"):
            body = {"schemas": [GROUP], "displayName": "Others", "members": [whole]}
            made = await directory.ask("POST", "/Groups", body, 201, attributes=attributes)
            assert made["members"] == [whole], "what is created is shown whole"


async def test_a_group_is_deleted_without_reading_its_members(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        group = await directory.group("Everybody", "a", "b")

        def never(*_: Any) -> Any:
            raise AssertionError("the members are read")

        monkeypatch.setattr("node.directory.storage.read_members", never)
        await directory.ask("DELETE", f"/Groups/{group['id']}", expect=204)
        assert (await served.read(f"/streams/groups/{group['id']}"))["registers"] == {"deleted": True}
        await check_views(served)


async def test_large_work_is_done_one_at_a_time_and_nobody_has_to_wait_for_it() -> None:
    begin, end, done = threading.Event(), threading.Event(), list[str]()

    def work(name: str) -> None:
        begin.set()
        end.wait()
        done.append(name)

    with trio.fail_after(10):
        async with trio.open_nursery() as gone:
            gone.start_soon(aside, True, work, "first")
            await trio.to_thread.run_sync(begin.wait)
            gone.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(aside, True, done.append, "second")
            await aside(False, done.append, "small")
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(0.05)  # a thread of its own would have been through with it
            assert done == ["small"], "the first still has its thread, and nobody waits for it"
            end.set()
    assert done == ["small", "first", "second"]
