"""The directory by SCIM, over real sockets: resources, minimal events, tags, uniqueness, searches, errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from scim2_models import PreconditionFailedException

from node.directory.schema import provider, type_named
from node.directory.storage import Asking, DirectoryStorage
from node.views.check import differences
from tests.serving import Served, serving

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
SCIM = {"content-type": "application/scim+json"}


class Directory:
    """A SCIM client of one node."""

    def __init__(self, served: Served) -> None:
        self.served = served

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        expect: int = 200,
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Any:
        """One request; its document, where it has one."""
        response = await self.served.client.request(
            method, f"/scim/v2{path}", params=query, headers={**SCIM, **(headers or {})},
            content=None if body is None else json.dumps(body).encode(),
        )  # fmt: skip
        assert response.status_code == expect, (response.status_code, response.text)
        if not response.content:
            return None
        assert response.headers["content-type"] == "application/scim+json"
        document = response.json()
        if response.status_code >= 400:
            assert document["status"] == str(response.status_code)
            assert document["detail"]
        return document

    async def user(self, user_name: str, /, **attributes: Any) -> Any:
        return await self.ask("POST", "/Users", {"schemas": [USER], "userName": user_name, **attributes}, 201)

    async def group(self, name: str, *members: str) -> Any:
        shown = [{"value": member} for member in members]
        return await self.ask("POST", "/Groups", {"schemas": [GROUP], "displayName": name, "members": shown}, 201)

    async def patch(self, path: str, *operations: dict[str, Any], expect: int = 204, **options: Any) -> Any:
        body = {"schemas": [PATCH], "Operations": list(operations)}
        return await self.ask("PATCH", path, body, expect, **options)

    async def names(self, filter: str, kind: str = "Users", expect: int = 200) -> Any:
        found = await self.ask("GET", f"/{kind}", expect=expect, filter=filter)
        if expect != 200:
            return found
        assert found["totalResults"] == len(found.get("Resources", ()))
        return [one.get("userName") or one.get("displayName") for one in found.get("Resources", ())]

    async def events(self, stream: str) -> list[dict[str, Any]]:
        shown = await self.served.read(f"/events/{stream}")
        events: list[dict[str, Any]] = shown["events"]
        return events


async def check_views(served: Served) -> None:
    """Every view shows everything, and is as a fresh build would be."""
    views = served.node.views
    with trio.fail_after(10):
        while any(build.vector != served.node.replica.vector or build.scanning for _, build in views.builds()):
            await trio.sleep(0.005)
    with served.node.replica.read() as snapshot:
        for view, build in views.builds():
            assert view is not None
            assert differences(views._index, build, view, snapshot) == []


async def test_a_user_comes_back_as_it_was_written(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        written: dict[str, Any] = {
            "externalId": "42",
            "name": {"givenName": "Barbara", "familyName": "Jensen"},
            "active": True,
            "emails": [
                {"value": "b@example.com", "type": "work", "primary": True},
                {"value": "b@home.example", "type": "home"},
            ],
            "photos": [{"value": "https://example.com/" + "p" * 600, "type": "photo"}],
            ENTERPRISE: {"department": "Tours", "manager": {"value": "26118915"}},
        }
        made = await directory.user("bjensen", **written)
        read = await directory.ask("GET", f"/Users/{made['id']}")
        assert read == made
        assert read["schemas"] == [USER, ENTERPRISE]
        assert read["name"] == written["name"]
        assert read[ENTERPRISE] == written[ENTERPRISE]
        assert [one for one in read["emails"] if one["primary"]] == [written["emails"][0]]
        assert read["photos"][0]["value"] == written["photos"][0]["value"]
        assert read["meta"]["location"] == f"{served.url}/scim/v2/Users/{made['id']}"
        stream = await served.read(f"/streams/users/{made['id']}")
        assert stream["registers"]["name.givenName"] == "Barbara"
        assert stream["sets"]["emails"] == [
            '{"type":"home","value":"b@home.example"}',
            '{"type":"work","value":"b@example.com"}',
        ]
        await check_views(served)


async def test_a_write_is_the_least_event_that_makes_the_difference(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen", title="Guide", emails=[{"value": "b@x.example", "type": "work"}])
        stream, path = f"users/{made['id']}", f"/Users/{made['id']}"
        await directory.ask("PUT", path, {**made, "title": "Pilot"}, headers={"atoll-actor": "lisa"})
        put = (await directory.events(stream))[-1]
        assert put["set"] == {"title": "Pilot"}
        assert put.keys().isdisjoint({"add", "remove"})
        assert put["actor"] == "lisa"
        await directory.patch(
            path, {"op": "add", "path": "emails", "value": [{"value": "b@y.example", "type": "home"}]}
        )
        patched = (await directory.events(stream))[-1]
        assert patched["add"] == {"emails": ['{"type":"home","value":"b@y.example"}']}
        assert "set" not in patched
        before = len(await directory.events(stream))
        await directory.ask("PUT", path, await directory.ask("GET", path))
        assert len(await directory.events(stream)) == before, "what changes nothing writes nothing"
        await check_views(served)


async def test_a_put_undoes_only_what_its_author_had_seen(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen", title="Guide")
        path = f"/Users/{made['id']}"
        token = made["meta"]["version"].removeprefix('W/"').rstrip('"')
        await directory.patch(path, {"op": "replace", "path": "nickName", "value": "Babs"})
        shown = await directory.ask("PUT", path, {**made, "title": "Pilot"}, headers={"causal-context": token})
        assert (shown["nickName"], shown["title"]) == ("Babs", "Pilot")
        shown = await directory.ask("PUT", path, {**made, "title": "Captain"})
        assert "nickName" not in shown, "without a context, the author has seen what this node holds"


async def test_tags_compare_cache_and_set(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen")
        path, first = f"/Users/{made['id']}", made["meta"]["version"]
        cached = await served.client.get(f"/scim/v2{path}", headers={"if-none-match": first})
        assert (cached.status_code, cached.headers["etag"]) == (304, first)
        replace = {"op": "replace", "path": "title", "value": "Guide"}
        await directory.patch(path, replace, headers={"if-match": first})
        await directory.patch(path, {**replace, "value": "Pilot"}, expect=412, headers={"if-match": first})
        await directory.ask("DELETE", path, expect=412, headers={"if-match": first})
        now = (await directory.ask("GET", path))["meta"]["version"]
        await directory.ask("DELETE", path, expect=204, headers={"if-match": now})


async def test_a_list_s_tag_is_of_everything_it_draws_on(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await directory.user("anna")
        path = "/scim/v2/Users?filter=userName%20sw%20%22a%22"
        listed = await served.client.get(path)
        tag = {"if-none-match": listed.headers["etag"]}
        assert (await served.client.get(path, headers=tag)).status_code == 304
        assert (await served.client.get("/scim/v2/Users", headers=tag)).status_code == 200
        await directory.user("abel")
        again = await served.client.get(path, headers=tag)
        assert (again.status_code, again.json()["totalResults"]) == (200, 2)
        forced = await served.client.get(path, headers={"causal-after": again.headers["etag"]})
        assert forced.status_code == 200, "a tag is a token, too"


async def test_groups_show_in_a_user_s_tag_and_not_in_its_token(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen", displayName="Babs")
        group = await directory.group("Tour Guides", made["id"], "not-there-yet")
        assert [(one["value"], one["display"]) for one in group["members"]] == [(made["id"], "Babs")]
        read = await directory.ask("GET", f"/Users/{made['id']}")
        assert [(one["value"], one["display"]) for one in read["groups"]] == [(group["id"], "Tour Guides")]
        assert read["groups"][0]["$ref"] == f"{served.url}/scim/v2/Groups/{group['id']}"
        assert read["meta"]["version"] != made["meta"]["version"], "another answer has another tag"
        plain = await directory.ask("GET", f"/Users/{made['id']}", excludedAttributes="groups")
        assert plain["meta"]["version"] == made["meta"]["version"]
        replace = {"op": "replace", "path": "title", "value": "Guide"}
        await directory.patch(f"/Users/{made['id']}", replace, headers={"if-match": read["meta"]["version"]})
        await check_views(served)


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
        monkeypatch.setattr("node.directory.search.read_members", never)
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
        shown = await directory.ask("GET", path, excludedAttributes="members")
        assert shown["displayName"] == "All"
        assert len((await directory.ask("GET", "/Groups", excludedAttributes="members"))["Resources"]) == 1
        await directory.patch(path, {"op": "add", "path": "members", "value": [{"display": "nobody"}]}, expect=400)
        await check_views(served)


async def test_deleting_is_for_good(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen", title="Guide")
        stream = f"users/{made['id']}"
        await directory.ask("DELETE", f"/Users/{made['id']}", expect=204)
        left = await served.read(f"/streams/{stream}")
        assert (left["registers"], left["sets"]) == ({"deleted": True}, {})
        # As another region would, that has not heard of it.
        context = made["meta"]["version"].removeprefix('W/"').rstrip('"')
        await served.write(stream, {"causal-context": context}, set={"title": "Pilot"})
        await directory.ask("GET", f"/Users/{made['id']}", expect=404)
        await directory.ask("PUT", f"/Users/{made['id']}", made, expect=404)
        await directory.ask("DELETE", f"/Users/{made['id']}", expect=404)
        assert await directory.names('userName eq "bjensen"') == []
        again = await directory.user("bjensen")
        assert again["id"] != made["id"]
        await check_views(served)


async def test_a_name_is_given_once(workplace: Path) -> None:
    async with serving(workplace, unique_external_ids=True) as served:
        directory = Directory(served)
        first = await directory.user("Bjensen", externalId="7")
        refused = await directory.ask("POST", "/Users", {"schemas": [USER], "userName": "bJENSEN"}, 409)
        assert refused["scimType"] == "uniqueness"
        assert first["id"] in refused["detail"]
        await directory.ask("POST", "/Users", {"schemas": [USER], "userName": "other", "externalId": "7"}, 409)
        second = await directory.user("other", externalId="8")
        rename = {"op": "replace", "path": "userName", "value": "BJensen"}
        await directory.patch(f"/Users/{second['id']}", rename, expect=409)
        await directory.patch(f"/Users/{first['id']}", rename)
        await directory.patch(f"/Users/{first['id']}", {**rename, "value": "moved"})
        await directory.patch(f"/Users/{second['id']}", rename)
        await directory.user("other")
        await served.write("users/raw", set={"userName": "Straße"})
        await directory.ask("POST", "/Users", {"schemas": [USER], "userName": "STRASSE"}, 409)
        await check_views(served)


async def test_many_at_once_get_a_name_once(workplace: Path) -> None:
    async with serving(workplace) as served:
        statuses: list[int] = []

        async def claim(number: int) -> None:
            body = json.dumps({"schemas": [USER], "userName": "wanted", "title": str(number)})
            statuses.append((await served.client.post("/scim/v2/Users", content=body, headers=SCIM)).status_code)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(claim, number)
        assert sorted(statuses) == [201] + [409] * 19
        assert await Directory(served).names('userName eq "wanted"') == ["wanted"]
        await check_views(served)


async def test_a_create_that_is_repeated_creates_once(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        body = {"schemas": [USER], "userName": "bjensen"}
        key = {"idempotency-key": "k1"}
        first = await directory.ask("POST", "/Users", body, 201, headers=key)
        assert await directory.ask("POST", "/Users", body, 201, headers=key) == first
        await directory.ask("POST", "/Users", {**body, "title": "x"}, 422, headers=key)
        assert len((await directory.ask("GET", "/Users"))["Resources"]) == 1


FILTERS: list[tuple[str, list[str]]] = [
    ('userName eq "ANNA"', ["anna"]),
    ('userName sw "an"', ["andré", "anna"]),
    ('userName co "nn"', ["anna"]),
    ('userName co "nna"', ["anna"]),
    ('userName ew "rta"', ["berta"]),
    ('emails eq "A@example.com"', ["anna"]),
    ('emails.value eq "a@example.com"', ["anna"]),
    ('emails[type eq "work" and value co "example"]', ["anna", "berta"]),
    ('emails[type eq "home"]', []),
    ('externalId eq "X1"', ["anna"]),
    ('externalId eq "x1"', []),
    ('name.familyName co "müll"', ["andré"]),
    ('name.familyName co "MU\u0308LL"', ["andré"]),
    ('title pr', ["berta"]),
    ('not (title pr)', ["andré", "anna"]),
    ('userName eq "anna" or userName eq "berta"', ["anna", "berta"]),
    ('userName sw "an" and active eq false', ["andré"]),
    ('active eq true', ["anna", "berta"]),
    (f'{ENTERPRISE}:department eq "Tours"', ["berta"]),
    ('meta.created gt "2020-01-01T00:00:00Z"', ["andré", "anna", "berta"]),
    ('displayName sw "Ber"', ["berta"]),
    ('groups.value eq "nowhere"', []),
]  # fmt: skip


async def populate(directory: Directory) -> None:
    await directory.user("anna", externalId="X1", active=True, emails=[{"value": "a@example.com", "type": "work"}])
    await directory.user(
        "berta", title="Guide", active=True, displayName="Berta B", emails=[{"value": "b@example.org", "type": "work"}],
        **{ENTERPRISE: {"department": "Tours"}},
    )  # fmt: skip
    await directory.user("andré", active=False, name={"familyName": "Müller"})


async def test_filters(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await populate(directory)
        for text, expected in FILTERS:
            assert sorted(await directory.names(text)) == expected, text
            by_body = await directory.ask(
                "POST", "/Users/.search",
                {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "filter": text},
            )  # fmt: skip
            assert sorted(one["userName"] for one in by_body.get("Resources", ())) == expected, text
        await directory.group("Guides")
        assert await directory.names('displayName eq "guides"', "Groups") == ["Guides"]
        everything = await directory.ask("GET", "/", filter='displayName sw "gui"')
        assert [one["displayName"] for one in everything["Resources"]] == ["Guides"]


@pytest.mark.parametrize(
    ("by", "order"), [("userName", ""), ("userName", "descending"), ("title", ""), ("id", "descending")]
)
async def test_pages_by_index_and_by_cursor_are_the_list(workplace: Path, by: str, order: str) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        for number in range(11):
            await directory.user(f"u{number:02}", **({"title": f"t{number % 3}"} if number % 4 else {}))
        sorting: dict[str, Any] = {"sortBy": by} | ({"sortOrder": order} if order else {})
        whole = [one["userName"] for one in (await directory.ask("GET", "/Users", **sorting))["Resources"]]
        assert len(whole) == 11
        if by == "userName":
            assert whole == sorted(whole, reverse=bool(order))
        paged: list[str] = []
        for start in range(1, 12, 4):
            page = await directory.ask("GET", "/Users", startIndex=str(start), count="4", **sorting)
            assert (page["totalResults"], page["startIndex"]) == (11, start)
            paged += [one["userName"] for one in page["Resources"]]
        assert paged == whole
        by_cursor: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await directory.ask("GET", "/Users", cursor=cursor, count="4", **sorting)
            by_cursor += [one["userName"] for one in page["Resources"]]
            cursor = page.get("nextCursor")
        assert by_cursor == whole
        assert (await directory.ask("GET", "/Users", count="0"))["totalResults"] == 11
        await directory.ask("GET", "/Users", cursor="nonsense", expect=400)


async def test_bulk_does_all_and_says_what_failed(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        operations = [
            {"method": "POST", "path": "/Users", "bulkId": "a", "data": {"schemas": [USER], "userName": "anna"}},
            {"method": "POST", "path": "/Users", "bulkId": "b", "data": {"schemas": [USER], "userName": "ANNA"}},
            {"method": "POST", "path": "/Groups", "bulkId": "g",
             "data": {"schemas": [GROUP], "displayName": "Guides", "members": [{"value": "bulkId:a"}]}},
        ]  # fmt: skip
        body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": operations}
        answer = await directory.ask("POST", "/Bulk", body)
        assert [one["status"] for one in answer["Operations"]] == ["201", "409", "201"]
        assert await directory.names('displayName eq "Guides"', "Groups") == ["Guides"]
        group = (await directory.ask("GET", "/Groups"))["Resources"][0]
        assert [one["display"] if "display" in one else one["type"] for one in group["members"]] == ["User"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/Users?filter=userName%20zz%20%22x%22", None, 400, "invalidFilter"),
        ("GET", "/Users?filter=nosuch%20eq%20%22x%22", None, 400, "invalidFilter"),
        ("GET", "/Users/nobody", None, 404, None),
        ("GET", "/Users/" + "x" * 400, None, 404, None),
        ("GET", "/Users/a%00b", None, 404, None),
        ("GET", "/Users?cursor=x&startIndex=1", None, 400, "invalidValue"),
        ("GET", "/Nothing", None, 404, None),
        ("GET", "/Me", None, 501, None),
        ("PUT", "/Users", {}, 405, None),
        ("POST", "/Users", "{", 400, "invalidSyntax"),
        ("POST", "/Users", {"schemas": [USER]}, 400, "invalidValue"),
        ("POST", "/Users", {"schemas": [USER], "userName": "x", "password": "secret"}, 400, "invalidValue"),
        ("POST", "/Users", {"schemas": [USER], "userName": "x", "active": "perhaps"}, 400, "invalidValue"),
        ("POST", "/Users", {"schemas": [USER], "userName": "x" * 300_000}, 413, None),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": []}, 400, "invalidValue"),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": [{"op": "remove"}]}, 400, "noTarget"),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "id", "value": "x"}]}, 400, "mutability"),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "emails[", "value": "x"}]}, 400, "invalidPath"),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "password", "value": "x"}]}, 400, "invalidValue"),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "userName", "value": None}]}, 400, "mutability"),
    ],
)  # fmt: skip
async def test_bad_input_is_said_and_changes_nothing(
    workplace: Path, method: str, path: str, body: Any, status: int, kind: str | None
) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna")
        before = served.dump()
        content = body if isinstance(body, str) else json.dumps(body)
        response = await served.client.request(
            method,
            "/scim/v2" + path.replace("{id}", made["id"]),
            content=content if body is not None else None,
            headers=SCIM,
        )
        answer = response.json()
        assert (response.status_code, answer.get("scimType")) == (status, kind), response.text
        assert answer["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert served.dump() == before


async def test_passwords_can_be_dropped(workplace: Path) -> None:
    async with serving(workplace, passwords="drop") as served:
        directory = Directory(served)
        made = await directory.user("anna", password="secret")
        await directory.patch(
            f"/Users/{made['id']}", {"op": "replace", "path": "password", "value": "secret"},
            {"op": "replace", "path": "title", "value": "x"},
        )  # fmt: skip
        assert b"secret" not in b"".join(row for _, row in served.dump())


async def test_a_filter_that_no_index_serves_is_answered_within_a_bound(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.directory.search.SCIM_EXAMINED_MAX", 5)
    async with serving(workplace) as served:
        directory = Directory(served)
        for number in range(5):
            await directory.user(f"u{number}", title="x")
        assert len(await directory.names('title eq "x"')) == 5
        await directory.user("one-more")
        refused = await directory.names('title eq "x"', expect=400)
        assert refused["scimType"] == "tooMany"
        assert await directory.names('title eq "x" and userName eq "u1"') == ["u1"]
        assert (await directory.ask("GET", "/Users", sortBy="userName", count="2"))["totalResults"] == 6
        await directory.ask("GET", "/Users", sortBy="title", expect=400)


async def test_a_client_waits_for_what_it_names(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna")
        ahead = "00000000~us.0badcafe.7"
        headers = {"causal-after": ahead, "prefer": "wait=0.05"}
        refused = await directory.ask("GET", f"/Users/{made['id']}", expect=503, headers=headers)
        assert "us.0badcafe.7" in refused["detail"]
        await directory.ask(
            "PATCH", f"/Users/{made['id']}", {}, 503, headers={"if-match": f'W/"{ahead}"', "prefer": "wait=0.05"}
        )
        tag = made["meta"]["version"]
        await directory.ask("GET", "/Users", headers={"causal-after": tag}, filter='userName eq "anna"')
        await directory.ask("GET", "/Users", expect=400, headers={"causal-after": "nonsense"})


async def test_the_locations_are_where_the_operator_says(workplace: Path) -> None:
    async with serving(workplace, public_url="https://id.example.com/") as served:
        made = await Directory(served).user("anna")
        assert made["meta"]["location"] == f"https://id.example.com/scim/v2/Users/{made['id']}"


async def begin(directory: Directory, made: Any) -> DirectoryStorage:
    """A request that has read a user, and not written yet."""
    storage = DirectoryStorage(directory.served.node, Asking("somebody"))
    await storage.get(type_named("User"), made["id"])
    return storage


def user_model(made: Any, **changes: Any) -> Any:
    document = {name: value for name, value in made.items() if name != "meta"} | changes
    model: Any = provider().model_for("User")
    return model.model_validate(document)


async def test_a_write_that_leaves_the_name_alone_moves_no_claim(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna")
        late = await begin(directory, made)
        rename = {"op": "replace", "path": "userName", "value": "berta"}
        await directory.patch(f"/Users/{made['id']}", rename)
        await late.update(type_named("User"), user_model(made, title="Guide"))
        await directory.user("anna")
        await directory.ask("POST", "/Users", {"schemas": [USER], "userName": "berta"}, 409)
        assert await directory.names('userName eq "berta"') == ["berta"]
        await check_views(served)


async def test_two_renames_at_once_leave_one_claim_that_counts(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna")
        late = await begin(directory, made)
        await directory.patch(f"/Users/{made['id']}", {"op": "replace", "path": "userName", "value": "berta"})
        await late.update(type_named("User"), user_model(made, userName="cara"))
        assert await directory.names('userName eq "cara"') == ["cara"]
        await directory.ask("POST", "/Users", {"schemas": [USER], "userName": "cara"}, 409)
        for free in ("anna", "berta"):
            await directory.user(free)


async def test_a_delete_that_is_refused_clears_nothing(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna", title="Guide")
        late = await begin(directory, made)
        late.exactly = True
        await directory.patch(f"/Users/{made['id']}", {"op": "replace", "path": "title", "value": "Pilot"})
        with pytest.raises(PreconditionFailedException):
            await late.delete(type_named("User"), made["id"])
        assert (await directory.ask("GET", f"/Users/{made['id']}"))["title"] == "Pilot"


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


async def test_a_bulk_request_that_is_repeated_does_each_operation_once(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna")
        change = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "title", "value": "Guide"}]}
        huge = {"schemas": [USER], "userName": "x" * 300_000}
        operations = [
            {"method": "PATCH", "path": f"/Users/{made['id']}", "data": change},
            {"method": "POST", "path": "/Users", "bulkId": "b", "data": {"schemas": [USER], "userName": "berta"}},
            {"method": "POST", "path": "/Users", "bulkId": "h", "data": huge},
        ]
        body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": operations}
        first = await directory.ask("POST", "/Bulk", body, headers={"idempotency-key": "k"})
        assert [one["status"] for one in first["Operations"]] == ["200", "201", "413"]
        again = await directory.ask("POST", "/Bulk", body, headers={"idempotency-key": "k"})
        assert [one.get("location") for one in again["Operations"]] == [
            one.get("location") for one in first["Operations"]
        ]
        assert (await directory.ask("GET", "/Users"))["totalResults"] == 2


async def test_a_context_is_of_the_resource_it_is_sent_with(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        anna, berta = await directory.user("anna"), await directory.user("berta")
        other = {"causal-context": berta["meta"]["version"].removeprefix('W/"').rstrip('"')}
        refused = await directory.ask("PUT", f"/Users/{anna['id']}", {**anna, "title": "x"}, 400, headers=other)
        assert "another scope" in refused["detail"]


async def test_strange_texts_harm_nothing(workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await directory.user("anna")
        for text in ("a\0bc", 'a"b"c', "* OR a", "(abc", "\U0001f600" * 3, "%_%"):
            assert (await served.client.get("/views/users-search", params={"q": text})).status_code == 200, text
            literal = json.dumps(text)
            assert await directory.names(f"userName co {literal}") == []
        deep = '{"password": ' + "[" * 100_000 + "]" * 100_000 + "}"
        answer = await served.client.post("/scim/v2/Users", content=deep, headers=SCIM)
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidSyntax")
        assert caplog.text == ""
        await check_views(served)


async def test_resources_that_were_written_to_their_streams(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await served.write(
            "users/José Ñ",
            set={"userName": "jose", "shoe size": 43, "active": "maybe"},
            add={"emails": ["j@x.example"]},
        )
        await served.write("groups/kubernetes/sig-node", set={"displayName": "SIG Node"}, add={"members": ["José Ñ"]})
        [user] = (await directory.ask("GET", "/Users", filter='emails eq "j@x.example"'))["Resources"]
        assert user["id"] == "José Ñ"
        assert user.keys().isdisjoint({"active", "shoe size"})
        response = await served.client.get(user["meta"]["location"])
        assert response.json()["userName"] == "jose"
        [group] = (await directory.ask("GET", "/Groups"))["Resources"]
        assert group["id"] == "kubernetes/sig-node"
        assert (await served.client.get(group["meta"]["location"])).json()["members"][0]["value"] == "José Ñ"
        await check_views(served)
