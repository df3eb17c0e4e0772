"""The identity directory in three regions: real processes, links that are cut, names that two regions give."""

import json
import sys
from pathlib import Path

import trio

from tests.end_to_end.cluster import PATIENCE_S, REGIONS, Cluster, running
from tests.end_to_end.scim_cluster import agree, ask, done, patch, run, token_of
from tests.scim import ENTERPRISE, GROUP, USER

SCIM2 = Path(sys.executable).with_name("scim2")


async def test_every_region_passes_scim2_s_checks(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:

        async def check(region: str) -> None:
            await done(
                await ask(cluster, region, "GET", "/Users")
            )  # scim2 waits for five seconds, not for what is loaded
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
    with trio.fail_after(PATIENCE_S):
        for region in REGIONS:
            while not all(peer["reachable"] for peer in (await cluster.status(region))["peers"]):
                await trio.sleep(0.05)


async def test_a_name_has_a_home_region_where_the_operator_wants_one(tmp_path: Path) -> None:
    async with running(tmp_path, options=("--home", "claims/userName/=ap")) as cluster:  # nobody's first peer
        body = {"schemas": [USER], "userName": "anna", "title": "Guide"}
        await linked(cluster)
        user = await done(await ask(cluster, "eu", "POST", "/Users", body), 201)
        history = run("history", f"users/{user['id']}", "--json", "--node", cluster.urls["eu"])
        assert json.loads(history)["region"] == "ap"
        taken = await ask(cluster, "us", "POST", "/Users", body)
        assert (taken.status_code, taken.json()["scimType"]) == (409, "uniqueness")
        other = await done(await ask(cluster, "us", "POST", "/Users", {**body, "userName": "berta"}), 201)
        await cluster.settle()
        path, who = f"/Users/{other['id']}", f"/Users/{user['id']}"
        rename = {"op": "replace", "path": "userName", "value": "Anna"}
        assert (await ask(cluster, "eu", "PATCH", path, patch(rename))).status_code == 409
        await done(await ask(cluster, "eu", "PATCH", path, patch({**rename, "value": "cara"})))
        cluster.cut("ap", cut=True)
        refused = await ask(cluster, "eu", "POST", "/Users", {**body, "userName": "dora"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "region ap, which gives this name, is out of reach" in refused.json()["detail"]
        await done(
            await ask(cluster, "eu", "PATCH", who, patch({"op": "replace", "path": "title", "value": "Pilot"}))
        )
        await done(await ask(cluster, "ap", "POST", "/Users", {**body, "userName": "dora"}), 201)
        cluster.cut("ap", cut=False)
        shown = await agree(cluster)
        assert sorted(one["userName"] for one in shown["resources"]["Users"]) == ["anna", "cara", "dora"]
        assert shown["conflicts"] == []
