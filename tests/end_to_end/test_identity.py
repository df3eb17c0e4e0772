"""The identity directory in three regions: real processes, links that are cut, nodes that are killed."""

import itertools
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.end_to_end.cluster import ATOLL, REGIONS, ROOT, Cluster, running
from tests.scim import ENTERPRISE, GROUP, PATCH, SCIM, USER

SCIM2 = Path(sys.executable).with_name("scim2")


async def ask(
    cluster: Cluster,
    region: str,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    **query: str,
) -> httpx.Response:
    """One SCIM request to a region."""
    return await cluster.client.request(
        method, f"{cluster.urls[region]}/scim/v2{path}", params=query, headers={**SCIM, **(headers or {})},
        content=None if body is None else json.dumps(body).encode(),
    )  # fmt: skip


async def done(response: httpx.Response, *statuses: int) -> Any:
    """What must have succeeded."""
    assert response.status_code in (statuses or (200, 201, 204)), (response.status_code, response.text)
    return response.json() if response.content else None


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(operations)}


def token_of(resource: Any) -> str:
    return str(resource["meta"]["version"]).removeprefix('W/"').rstrip('"').partition("+")[0]


async def everything(cluster: Cluster, region: str) -> dict[str, Any]:
    """Every user and group of a region, and what waits to be mended, as bodies without their region's address."""
    shown: dict[str, Any] = {}
    for kind in ("Users", "Groups"):
        listed = await done(await ask(cluster, region, "GET", f"/{kind}", count="200"))
        shown[kind] = listed.get("Resources", [])
    conflicts = (await cluster.client.get(f"{cluster.urls[region]}/conflicts")).json()["conflicts"]
    text = json.dumps([shown, conflicts], sort_keys=True).replace(cluster.urls[region], "HERE")
    parsed: list[Any] = json.loads(text)
    return {"resources": parsed[0], "conflicts": parsed[1], "answers": await cluster.answers(region)}


async def agree(cluster: Cluster) -> dict[str, Any]:
    """Wait until all heads are equal; what all regions then answer alike."""
    await cluster.settle()
    first, *others = [await everything(cluster, region) for region in REGIONS]
    for other in others:
        assert other == first
    return first


def run(*arguments: str) -> str:
    """A command; what it printed."""
    finished = subprocess.run([*ATOLL, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


async def test_every_region_passes_scim2_s_checks(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:

        async def check(region: str) -> None:
            command = [str(SCIM2), "--url", f"{cluster.urls[region]}/scim/v2", "test"]
            checked = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
            said = checked.stdout.decode()
            assert checked.returncode == 0, said
            assert "ERROR" not in said
            assert said.count("SUCCESS") > 100
            print(f"{region}: {said.count('SUCCESS')} checks pass")

        async with trio.open_nursery() as nursery:
            for region in REGIONS:
                nursery.start_soon(check, region)
        await cluster.settle()


async def test_tokens_carry_what_was_read_to_another_region(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.cut("us", cut=True)
        user = await done(await ask(cluster, "us", "POST", "/Users", {"schemas": [USER], "userName": "anna"}))
        group = await done(await ask(cluster, "us", "POST", "/Groups", {"schemas": [GROUP], "displayName": "Guides"}))
        add = patch({"op": "add", "path": "members", "value": [{"value": user["id"]}]})
        after = {"causal-after": f"{token_of(user)}, {token_of(group)}"}
        path = f"/Groups/{group['id']}"
        refused = await ask(cluster, "ap", "PATCH", path, add, {**after, "prefer": "wait=0.5"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        origin = token_of(group).partition("~")[2]
        assert origin in refused.json()["detail"], "it names what is missing"
        async with trio.open_nursery() as nursery:

            async def waits() -> None:
                await done(await ask(cluster, "ap", "PATCH", path, add, {**after, "prefer": "wait=20"}), 204)

            nursery.start_soon(waits)
            await trio.sleep(0.3)
            cluster.cut("us", cut=False)
        shown = await agree(cluster)
        assert shown["resources"]["Groups"][0]["members"][0]["value"] == user["id"]
        assert shown["resources"]["Users"][0]["groups"][0]["value"] == group["id"]


async def test_a_partition_heals_and_nothing_that_lost_is_hidden(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        made = [
            await done(await ask(cluster, "us", "POST", "/Users", {"schemas": [USER], "userName": f"u{number}"}))
            for number in range(4)
        ]
        members = [{"value": user["id"]} for user in made[:2]]
        group = {"schemas": [GROUP], "displayName": "Guides", "members": members}
        group = await done(await ask(cluster, "us", "POST", "/Groups", group))
        await cluster.settle()
        shared, claimer, rival = made[0], made[1], made[2]
        cluster.cut("us", cut=True)
        for region, title in (("us", "Guide"), ("eu", "Pilot")):
            who = {"atoll-actor": f"admin-{region}"}
            path = f"/Users/{shared['id']}"
            rename = patch({"op": "replace", "path": "userName", "value": f"renamed-{region}"})
            await done(await ask(cluster, region, "PATCH", path, rename, who))
            now = await done(await ask(cluster, region, "GET", path))
            other = {ENTERPRISE: {"department": "Tours"}} if region == "us" else {"nickName": "Babs"}
            await done(await ask(cluster, region, "PUT", path, {**now, "title": title, **other}, who))
        one, two, three = (user["id"] for user in made[1:])
        edits = {
            "us": patch({"op": "add", "path": "members", "value": [{"value": two}, {"value": three}]},
                        {"op": "remove", "path": f'members[value eq "{one}"]'}),
            "eu": patch({"op": "add", "path": "members", "value": [{"value": three}]},
                        {"op": "remove", "path": f'members[value eq "{shared["id"]}"]'}),
        }  # fmt: skip
        for region, edit in edits.items():
            await done(await ask(cluster, region, "PATCH", f"/Groups/{group['id']}", edit))
        wanted = patch({"op": "replace", "path": "userName", "value": "Wanted"})
        await done(await ask(cluster, "us", "PATCH", f"/Users/{claimer['id']}", wanted))
        await done(await ask(cluster, "eu", "PATCH", f"/Users/{rival['id']}", wanted))
        cluster.cut("us", cut=False)
        shown = await agree(cluster)

        users = {user["id"]: user for user in shown["resources"]["Users"]}
        kept = users[shared["id"]]
        assert (kept["nickName"], kept[ENTERPRISE]) == ("Babs", {"department": "Tours"})
        [now] = shown["resources"]["Groups"]
        assert {member["value"] for member in now["members"]} == {two, three}
        conflicts = {item["stream"]: item for item in shown["conflicts"]}
        fields = conflicts[f"users/{shared['id']}"]["fields"]
        assert fields.keys() == {"userName", "title"}
        for field, values in (("userName", {"renamed-us", "renamed-eu"}), ("title", {"Guide", "Pilot"})):
            [lost] = fields[field]["lost"]
            assert {fields[field]["value"], lost["value"]} == values
            assert lost["author"] == f"admin-{lost['region']}"
        [claim] = [item["claim"] for item in shown["conflicts"] if "claim" in item]
        assert claim["holds"]["stream"] == f"users/{claimer['id']}", "the earlier one"
        assert [one["stream"] for one in claim["waits"]] == [f"users/{rival['id']}"]
        for region in REGIONS:
            found = await done(await ask(cluster, region, "GET", "/Users", filter='userName eq "wanted"'))
            assert [user["id"] for user in found["Resources"]] == [claimer["id"]]
            assert (await done(await ask(cluster, region, "GET", f"/Users/{rival['id']}")))["userName"] == "Wanted"
        node = ["--node", cluster.urls["ap"]]
        assert "userName Wanted" in run("conflicts", *node)
        history = run("history", f"users/{shared['id']}", "--json", *node)
        lost = [event for event in map(json.loads, history.splitlines()) if event.get("lost")]
        assert {field for event in lost for field in event["lost"]} == {"userName", "title"}
        assert all(event["actor"] == f"admin-{event['region']}" for event in lost)
        assert "admin-" in run("history", f"users/{shared['id']}", *node)

        free = patch({"op": "replace", "path": "userName", "value": "settled"})
        await done(await ask(cluster, "ap", "PATCH", f"/Users/{rival['id']}", free))
        shown = await agree(cluster)
        assert not [item for item in shown["conflicts"] if "claim" in item], "an ordinary rename mends it"


async def linked(cluster: Cluster) -> None:
    """Wait until every region has reached each of its peers itself: who starts first finds the others not there yet."""
    with trio.fail_after(20):
        for region in REGIONS:
            while not all(peer["reachable"] for peer in (await cluster.status(region))["peers"]):
                await trio.sleep(0.05)


async def test_a_name_has_a_home_region_where_the_operator_wants_one(tmp_path: Path) -> None:
    async with running(tmp_path, options=("--home", "claims/userName/=us")) as cluster:
        body = {"schemas": [USER], "userName": "anna", "title": "Guide"}
        await linked(cluster)
        user = await done(await ask(cluster, "eu", "POST", "/Users", body), 201)
        history = run("history", f"users/{user['id']}", "--json", "--node", cluster.urls["eu"])
        assert json.loads(history)["region"] == "us"
        taken = await ask(cluster, "ap", "POST", "/Users", body)
        assert (taken.status_code, taken.json()["scimType"]) == (409, "uniqueness")
        other = await done(await ask(cluster, "ap", "POST", "/Users", {**body, "userName": "berta"}), 201)
        await cluster.settle()
        path, who = f"/Users/{other['id']}", f"/Users/{user['id']}"
        rename = {"op": "replace", "path": "userName", "value": "Anna"}
        assert (await ask(cluster, "eu", "PATCH", path, patch(rename))).status_code == 409
        await done(await ask(cluster, "eu", "PATCH", path, patch({**rename, "value": "cara"})))
        cluster.cut("us", cut=True)
        refused = await ask(cluster, "eu", "POST", "/Users", {**body, "userName": "dora"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "region us, which gives this name, is out of reach" in refused.json()["detail"]
        await done(
            await ask(cluster, "eu", "PATCH", who, patch({"op": "replace", "path": "title", "value": "Pilot"}))
        )
        await done(await ask(cluster, "us", "POST", "/Users", {**body, "userName": "dora"}), 201)
        cluster.cut("us", cut=False)
        shown = await agree(cluster)
        assert sorted(one["userName"] for one in shown["resources"]["Users"]) == ["anna", "cara", "dora"]
        assert shown["conflicts"] == []


# --- what identity providers send


async def entra(cluster: Cluster, region: str, name: str) -> None:
    """As Microsoft Entra ID provisions a user and a group: look, create, look again, change, disable."""
    looked = await done(await ask(cluster, region, "GET", "/Users", filter=f'userName eq "{name}@example.com"'))
    assert (looked["totalResults"], looked.get("Resources", [])) == (0, [])
    created = await ask(cluster, region, "POST", "/Users", {
        "schemas": [USER, ENTERPRISE], "externalId": f"ext-{name}", "userName": f"{name}@example.com", "active": True,
        "displayName": name, "emails": [{"primary": True, "type": "work", "value": f"{name}@example.com"}],
        "meta": {"resourceType": "User"}, "name": {"formatted": name, "familyName": "F", "givenName": "G"}, "roles": [],
        ENTERPRISE: {"department": "Tours"},
    })  # fmt: skip
    user = await done(created, 201)
    path = f"/Users/{user['id']}"
    assert created.headers["location"] == f"{cluster.urls[region]}/scim/v2{path}"
    assert created.headers["etag"] == user["meta"]["version"]
    found = await done(await ask(cluster, region, "GET", "/Users", filter=f'externalId eq "ext-{name}"'), 200)
    assert [one["id"] for one in found["Resources"]] == [user["id"]]
    changes = patch(
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": f"new-{name}@example.com"},
        {"op": "Add", "path": 'phoneNumbers[type eq "mobile"].value', "value": "+49 30 1"},
        {"op": "Replace", "path": "name.familyName", "value": "Changed"},
        {"op": "Add", "path": f"{ENTERPRISE}:manager", "value": "boss"},
    )
    await done(await ask(cluster, region, "PATCH", path, changes), 200, 204)
    now = await done(await ask(cluster, region, "GET", path), 200)
    assert [(one["value"], one["primary"]) for one in now["emails"]] == [(f"new-{name}@example.com", True)]
    assert (now["phoneNumbers"][0]["value"], now["name"]["familyName"]) == ("+49 30 1", "Changed")
    assert now[ENTERPRISE]["manager"]["value"] == "boss"
    await done(
        await ask(cluster, region, "PATCH", path, patch({"op": "Replace", "path": "active", "value": False})),
        200,
        204,
    )
    assert (await done(await ask(cluster, region, "GET", path)))["active"] is False
    group = {
        "schemas": [GROUP],
        "externalId": f"g-{name}",
        "displayName": f"Group {name}",
        "meta": {"resourceType": "Group"},
    }
    group = await done(await ask(cluster, region, "POST", "/Groups", group), 201)
    where = f"/Groups/{group['id']}"
    bare = await done(await ask(cluster, region, "GET", where, excludedAttributes="members"), 200)
    assert "members" not in bare
    found = await done(
        await ask(
            cluster, region, "GET", "/Groups", excludedAttributes="members", filter=f'displayName eq "Group {name}"'
        )
    )
    assert found["totalResults"] == 1
    add = patch({"op": "Add", "path": "members", "value": [{"value": user["id"]}]})
    await done(await ask(cluster, region, "PATCH", where, add), 200, 204)
    asked = f'id eq "{group["id"]}" and members eq "{user["id"]}"'
    assert (await done(await ask(cluster, region, "GET", "/Groups", filter=asked)))["totalResults"] == 1
    remove = patch({"op": "Remove", "path": "members", "value": [{"value": user["id"]}]})
    await done(await ask(cluster, region, "PATCH", where, remove), 200, 204)
    assert "members" not in await done(await ask(cluster, region, "GET", where))
    await done(await ask(cluster, region, "DELETE", where), 204)


async def okta(cluster: Cluster, region: str, name: str) -> None:
    """As Okta does: look, create, PUT the whole user, push a group, take a member out, deactivate."""
    looked = await done(
        await ask(
            cluster, region, "GET", "/Users", filter=f'userName eq "{name}@okta.example"', startIndex="1", count="100"
        )
    )
    assert looked["totalResults"] == 0
    profile = {
        "schemas": [USER], "userName": f"{name}@okta.example", "name": {"givenName": "G", "familyName": name},
        "emails": [{"primary": True, "value": f"{name}@okta.example", "type": "work"}], "displayName": name,
        "locale": "en-US", "externalId": f"00u-{name}", "groups": [], "active": True,
    }  # fmt: skip
    user = await done(await ask(cluster, region, "POST", "/Users", profile), 201)
    path = f"/Users/{user['id']}"
    again = await ask(cluster, region, "POST", "/Users", profile)
    assert (again.status_code, again.json()["scimType"]) == (409, "uniqueness")
    put = await done(
        await ask(cluster, region, "PUT", path, {**user, "name": {"givenName": "G", "familyName": "Put"}}), 200
    )
    assert (put["id"], put["name"]["familyName"], put["active"]) == (user["id"], "Put", True)
    listed = await done(await ask(cluster, region, "GET", "/Groups", startIndex="1", count="100"))
    assert listed["startIndex"] == 1
    members = [{"value": user["id"], "display": f"{name}@okta.example"}]
    group = {"schemas": [GROUP], "displayName": f"Push {name}", "members": members}
    group = await done(await ask(cluster, region, "POST", "/Groups", group), 201)
    where = f"/Groups/{group['id']}"
    rename = patch({"op": "replace", "value": {"id": group["id"], "displayName": f"Renamed {name}"}})
    await done(await ask(cluster, region, "PATCH", where, rename), 200, 204)
    await done(
        await ask(
            cluster, region, "PATCH", where, patch({"op": "remove", "path": f'members[value eq "{user["id"]}"]'})
        ),
        200,
        204,
    )
    pushed = patch({"op": "add", "path": "members", "value": members})
    await done(await ask(cluster, region, "PATCH", where, pushed), 200, 204)
    replaced = patch({"op": "replace", "path": "members", "value": members})
    await done(await ask(cluster, region, "PATCH", where, replaced), 200, 204)
    shown = await done(await ask(cluster, region, "GET", where), 200)
    assert (shown["displayName"], [one["value"] for one in shown["members"]]) == (f"Renamed {name}", [user["id"]])
    off = patch({"op": "replace", "value": {"active": False}})
    shown = await done(await ask(cluster, region, "PATCH", path, off), 200, 204)
    assert (await done(await ask(cluster, region, "GET", path)))["active"] is False


async def test_identity_providers_are_answered_as_they_expect_from_all_regions_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        async with trio.open_nursery() as nursery:
            for region, number in itertools.product(REGIONS, range(3)):
                nursery.start_soon(entra, cluster, region, f"entra-{region}-{number}")
                nursery.start_soon(okta, cluster, region, f"okta-{region}-{number}")
        shown = await agree(cluster)
        assert len(shown["resources"]["Users"]) == 18
        assert len(shown["resources"]["Groups"]) == 9
        assert shown["conflicts"] == []


# --- split and join


async def test_fields_are_split_off_and_joined_again_while_another_region_writes(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        us, ap = cluster.urls["us"], cluster.urls["ap"]
        user = {"schemas": [USER], "userName": "anna", "title": "Guide", "locale": "de", "timezone": "Europe/Berlin"}
        user = await done(await ask(cluster, "us", "POST", "/Users", user))
        stream = f"users/{user['id']}"
        part = f"{stream}/preferences"
        await cluster.settle()
        before = await done(await ask(cluster, "ap", "GET", f"/Users/{user['id']}"))
        cluster.cut("ap", cut=True)
        said = run("streams", "split", stream, "--fields", "locale", "--fields", "time*", "--to", part, "--node", us)
        assert said == f"2 fields of {stream} moved to {part}\n"
        await done(
            await ask(
                cluster,
                "ap",
                "PATCH",
                f"/Users/{user['id']}",
                patch({"op": "replace", "path": "locale", "value": "fr"}),
            )
        )
        cluster.cut("ap", cut=False)
        shown = await agree(cluster)
        [now] = shown["resources"]["Users"]
        assert {**now, "meta": None} == {**json.loads(json.dumps(before).replace(ap, "HERE")), "meta": None}, (
            "readers follow"
        )
        assert shown["answers"][part]["registers"] == {
            "locale": "de",
            "timezone": "Europe/Berlin",
            "moved_from": stream,
        }
        [item] = [one for one in shown["conflicts"] if one["stream"] == stream]
        written = item["fields"]["locale"]
        assert "fr" in (written["value"], *(lost["value"] for lost in written["lost"])), (
            "what came meanwhile is listed"
        )
        followed = (await cluster.client.get(f"{ap}/streams/{stream}?follow=true")).json()
        assert followed["registers"]["timezone"] == "Europe/Berlin"
        assert list(followed["parts"]) == [part]
        await cluster.client.post(f"{us}/streams/{stream}", json={"set": {"locale": None}})
        moved = patch({"op": "replace", "path": "locale", "value": "it"})
        await done(await ask(cluster, "us", "PATCH", f"/Users/{user['id']}", moved))
        assert (await cluster.client.get(f"{us}/streams/{part}")).json()["registers"]["locale"] == "it", (
            "writers follow too"
        )
        await cluster.client.post(f"{us}/streams/{stream}", json={"set": {"timezone": "Asia/Tokyo"}})
        stray = (await cluster.client.get(f"{us}/conflicts")).json()["conflicts"][0]
        assert stray["strays"] == {"registers": {"timezone": "Asia/Tokyo"}, "sets": {}}
        assert "written after a split" in run("conflicts", "--node", us)
        await cluster.client.post(f"{us}/streams/{stream}", json={"set": {"timezone": None}})
        run("streams", "join", part, "--into", stream, "--node", us)
        shown = await agree(cluster)
        [now] = shown["resources"]["Users"]
        assert (now["locale"], now["timezone"]) == ("it", "Europe/Berlin")
        assert shown["conflicts"] == []
        for wrong in (
            ["join", part, "--into", "users/other"],
            ["split", stream, "--fields", "nothing", "--to", part],
        ):
            command = [*ATOLL, "streams", *wrong, "--node", us]
            refused = await trio.run_process(command, capture_stderr=True, check=False, cwd=ROOT)
            assert (refused.returncode, refused.stderr.count(b"\n")) == (1, 1), refused.stderr


# --- views under load, and under kills

PEOPLE = """
    from node.views.view import Row, View


    def rows(state):
        name = state.text("userName")
        if name:
            yield Row(name{change}, {{"initial": name[0].upper()}})


    VIEWS = [View(name="people", version={version}, streams="users/", rows=rows, columns=("initial",))]
"""


@asynccontextmanager
async def under_load(cluster: Cluster, answered: dict[str, int]) -> AsyncIterator[None]:
    """Writes and reads in every region for the time of the block; none of them may fail."""

    enough = trio.Event()

    async def work(region: str) -> None:
        number = 0
        while not enough.is_set():  # a request under way is let come to its end
            made = await ask(cluster, region, "POST", "/Users", {"schemas": [USER], "userName": f"{region}-{number}"})
            assert made.status_code == 201, made.text
            read = await cluster.client.get(f"{cluster.urls[region]}/views/people?key={region}-{number}")
            assert read.status_code == 200, read.text
            answered[region] += 1
            number += 1

    async with trio.open_nursery() as nursery:
        for region in REGIONS:
            nursery.start_soon(work, region)
        yield
        enough.set()


async def test_a_view_is_changed_and_rolled_back_under_load_without_a_failed_read(tmp_path: Path) -> None:
    module = tmp_path / "people.py"
    module.write_text(textwrap.dedent(PEOPLE.format(version=1, change="")))
    answered = dict.fromkeys(REGIONS, 0)
    async with running(tmp_path, options=("--view", "people"), modules=tmp_path) as cluster:
        async with under_load(cluster, answered):
            await trio.sleep(0.5)
            module.write_text(textwrap.dedent(PEOPLE.format(version=2, change=".upper()")))
            for region in REGIONS:
                said = await trio.to_thread.run_sync(
                    run, "views", "rebuild", "people", "--switch", "--node", cluster.urls[region]
                )
                assert "has caught up, and serves" in said
            for region in REGIONS:
                builds = (await cluster.client.get(f"{cluster.urls[region]}/views")).json()["views"]["people"][
                    "builds"
                ]
                old, new = (build["build"] for build in builds)
                assert [build["serving"] for build in builds] == [False, True]
                node = ("--node", cluster.urls[region])
                await trio.to_thread.run_sync(run, "views", "switch", "people", str(old), *node)
                await trio.to_thread.run_sync(run, "views", "switch", "people", str(new), *node)
                await trio.to_thread.run_sync(run, "views", "drop", "people", str(old), *node)
                assert "people" in await trio.to_thread.run_sync(run, "views", *node)
        assert all(count > 3 for count in answered.values()), answered
        await cluster.settle()


async def test_killed_while_views_are_built_they_end_as_a_fresh_build(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        lines = [
            {
                "stream": f"users/{number}",
                "set": {"userName": f"name {number}"},
                "add": {"emails": [f"{number}@x.example"]},
            }
            for number in range(2_000)
        ]
        file = tmp_path / "lines.ndjson"
        file.write_text("\n".join(map(json.dumps, lines)))
        upload = ["curl", "-s", "-T", str(file), "-X", "POST", "-H", "content-type: application/x-ndjson"]
        for pause in (0.0, 0.03, 0.1, 0.3):
            async with trio.open_nursery() as nursery:

                async def load() -> None:
                    await trio.run_process(
                        [*upload, f"{cluster.urls['us']}/ingest"], capture_stdout=True, check=False
                    )

                nursery.start_soon(load)
                await trio.sleep(0.1 + pause)
                for name in ("users-by-name", "users-search", "groups-of"):
                    try:
                        await cluster.client.post(f"{cluster.urls['us']}/views/{name}", json={"do": "rebuild"})
                    except httpx.TransportError:
                        break
                await trio.sleep(pause)
                cluster.kill("us")
            await cluster.start("us")
        for region in REGIONS:
            await caught_up(cluster, region)


async def caught_up(cluster: Cluster, region: str) -> None:
    """Wait until every build of every view shows everything: what is verified at the end."""
    await cluster.settle()
    with trio.fail_after(60):
        while True:
            views = (await cluster.client.get(f"{cluster.urls[region]}/views")).json()["views"]
            if all(
                not build["behind"] and build["state"] == "following"
                for view in views.values()
                for build in view["builds"]
            ):
                return
            await trio.sleep(0.05)
