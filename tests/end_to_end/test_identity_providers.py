"""What identity providers send, to all regions at once: as Microsoft Entra ID and Okta do."""

import itertools
from pathlib import Path

import trio

from tests.end_to_end.cluster import REGIONS, Cluster, running
from tests.end_to_end.scim_cluster import agree, ask, done, patch
from tests.scim import ENTERPRISE, GROUP, USER


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
