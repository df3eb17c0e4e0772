"""The directory by SCIM, over real sockets: resources, minimal events, tags, bulk, errors."""

import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from scim2_models import PreconditionFailedException

from node.commands.streams import split
from replication.limits import ELEMENT_BYTES_MAX
from tests.scim import BULK, ENTERPRISE, GROUP, PATCH, SCIM, SEARCH, USER, USERS, Directory, begin, check_views
from tests.serving import serving


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
        made = await directory.user("bjensen", title="Guide", displayName="B")
        path = f"/Users/{made['id']}"
        token = made["meta"]["version"].removeprefix('W/"').rstrip('"')
        await directory.patch(path, {"op": "replace", "path": "nickName", "value": "Babs"})
        await directory.patch(path, {"op": "replace", "path": "displayName", "value": "Barbara"})
        shown = await directory.ask("PUT", path, {**made, "title": "Pilot"}, headers={"causal-context": token})
        assert (shown["nickName"], shown["displayName"], shown["title"]) == ("Babs", "Barbara", "Pilot")
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


async def test_a_user_is_shown_with_the_groups_that_there_are_by_now(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen")
        await check_views(served)
        with monkeypatch.context() as held_back:
            held_back.setattr(served.node.views, "step", lambda: False)
            group = await directory.group("Guides", made["id"])
            async with trio.open_nursery() as nursery:
                shown = list[Any]()

                async def read(path: str, **query: Any) -> None:
                    shown.append(await directory.ask("GET", path, **query))

                nursery.start_soon(read, f"/Users/{made['id']}")
                member = {"filter": f'groups.value eq "{group["id"]}"', "excludedAttributes": "groups"}
                nursery.start_soon(partial(read, "/Users", **member))
                await trio.sleep(0.2)
                assert shown == []
                plain = await directory.ask("GET", f"/Users/{made['id']}", excludedAttributes="groups")
                assert plain["userName"] == "bjensen", "who does not ask for groups does not wait for them"
                held_back.undo()
                served.node.wake()
        [alone] = [one for one in shown if "userName" in one]
        [listed] = [one for one in shown if "userName" not in one]
        assert [one["display"] for one in alone["groups"]] == ["Guides"]
        assert [one["id"] for one in listed["Resources"]] == [made["id"]]


async def test_writes_at_once_that_name_no_state_all_count(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen")
        path = f"/Users/{made['id']}"
        values = {"title": "Guide", "nickName": "Babs", "locale": "en-US", "userType": "Employee"}
        async with trio.open_nursery() as nursery:
            for number, (name, value) in enumerate(values.items()):
                change = {"op": "replace", "path": name, "value": value}
                headers = {"if-match": "*"} if number % 2 else {}
                nursery.start_soon(partial(directory.patch, path, change, headers=headers))
        shown = await directory.ask("GET", path)
        assert {name: shown[name] for name in values} == values


async def test_when_it_was_last_modified_is_when_its_last_event_was(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen")
        assert made["meta"]["lastModified"] == made["meta"]["created"]
        served.clock.ms += 5_000
        await directory.patch(f"/Users/{made['id']}", {"op": "replace", "path": "title", "value": "Guide"})
        now = (await directory.ask("GET", f"/Users/{made['id']}"))["meta"]
        assert now["created"] == made["meta"]["created"]
        moments = [datetime.fromisoformat(now[name]) for name in ("created", "lastModified")]
        assert moments[1] - moments[0] == timedelta(seconds=5)
        stream = f"users/{made['id']}"
        await split(stream, fields=["title"], to=f"{stream}/work", node=served.url)
        served.clock.ms += 5_000
        await directory.patch(f"/Users/{made['id']}", {"op": "replace", "path": "title", "value": "Pilot"})
        assert "title" not in (await served.read(f"/streams/{stream}"))["registers"], "it is written where it is now"
        now = (await directory.ask("GET", f"/Users/{made['id']}"))["meta"]
        assert datetime.fromisoformat(now["lastModified"]) - moments[1] == timedelta(seconds=5)
        served.clock.ms += 5_000
        await directory.patch(f"/Users/{made['id']}", {"op": "replace", "path": "title", "value": "Captain"})
        assert (await directory.ask("GET", f"/Users/{made['id']}"))["meta"]["version"] != now["version"]


async def test_a_note_of_a_part_that_is_none_moves_nothing(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen")
        stream = f"users/{made['id']}"
        await served.write(stream, set={"moved_to": {f"{stream}/work": ["title"]}})
        await directory.patch(f"/Users/{made['id']}", {"op": "replace", "path": "title", "value": "Guide"})
        assert (await directory.ask("GET", f"/Users/{made['id']}"))["title"] == "Guide"


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
        before = (await directory.ask("GET", f"/Users/{made['id']}"))["meta"]["version"]
        rename = {"op": "replace", "path": "displayName", "value": "Guides"}
        await directory.patch(f"/Groups/{group['id']}", rename)
        assert (await directory.ask("GET", f"/Users/{made['id']}"))["meta"]["version"] != before
        await check_views(served)


async def test_a_value_too_long_for_an_element_is_kept_whole(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        emails = [{"value": "a@example.com", "display": "é" * (ELEMENT_BYTES_MAX - 200), "type": "work"}]
        made = await directory.user("bjensen", emails=emails)
        assert (await directory.ask("GET", f"/Users/{made['id']}"))["emails"] == made["emails"]
        assert made["emails"][0].items() >= emails[0].items()
        await directory.patch(f"/Users/{made['id']}", {"op": "remove", "path": "emails"})
        assert "emails" not in await directory.ask("GET", f"/Users/{made['id']}")


@pytest.mark.parametrize("manager", ["26118915", [{"value": "26118915"}], {"value": "26118915"}])
async def test_a_manager_is_read_however_it_is_sent(workplace: Path, manager: Any) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("bjensen", **{ENTERPRISE: {"department": "Tours"}})
        await directory.patch(
            f"/Users/{made['id']}", {"op": "replace", "path": f"{ENTERPRISE}:manager", "value": manager}
        )
        shown = await directory.ask("GET", f"/Users/{made['id']}")
        assert shown[ENTERPRISE]["manager"]["value"] == "26118915"
        assert sorted(shown["schemas"]) == [USER, ENTERPRISE]


async def test_a_user_and_a_group_of_one_id_are_told_apart(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await served.write("users/4", set={"userName": "anna"})
        await served.write("groups/4", set={"displayName": "Guides"}, add={"members": ["4"]})
        found = await directory.ask("GET", "/", filter='userName eq "anna" or displayName eq "Guides"')
        shown = {one["meta"]["resourceType"]: one.get("members") for one in found["Resources"]}
        assert shown["User"] is None
        assert [one["value"] for one in shown["Group"]] == ["4"]


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


async def test_bulk_does_all_and_says_what_failed(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        operations = [
            {"method": "POST", "path": "/Users", "bulkId": "a", "data": {"schemas": [USER], "userName": "anna"}},
            {"method": "POST", "path": "/Users", "bulkId": "b", "data": {"schemas": [USER], "userName": "ANNA"}},
            {"method": "POST", "path": "/Groups", "bulkId": "g",
             "data": {"schemas": [GROUP], "displayName": "Guides", "members": [{"value": "bulkId:a"}]}},
        ]  # fmt: skip
        body = {"schemas": [BULK], "Operations": operations}
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
        ("POST", "/.search", {"schemas": [SEARCH], "filter": " or ".join(['title eq "x"'] * 2_000)}, 413, None),
        ("POST", "/Users/.search/", {"schemas": [SEARCH], "filter": " or ".join(['title eq "x"'] * 2_000)}, 413, None),
        ("POST", "/Bulk", {"schemas": [BULK], "Operations": [{"path": "/Groups/x", "data": {"operations": [{"op": "add"}] * 1_001}}] * 2}, 413, None),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": [{"op": "add", "path": "title", "value": "x"}] * 2_001}, 413, None),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": [{"op": "remove", "path": 'emails[value eq "%s"]' % ("x" * 1_400)}] * 95}, 413, None),
        ("PATCH", "/Users/{id}", {"schemas": [PATCH], "Operations": [{"op": "add", "path": ["title"] * 2_000, "value": "x"}, 7] * 2}, 400, "invalidValue"),
        ("PATCH", "/Users/{id}", "[" * 20_000, 400, "invalidSyntax"),
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


def with_passwords(identity: str) -> list[dict[str, Any]]:
    """Operations of a bulk request: a password as an attribute, as a path, and within a value."""
    values = [
        {"op": "replace", "path": "password", "value": "secret"},
        {"op": "replace", "value": {"password": "secret", "title": "x"}},
    ]
    return [
        {"method": "POST", "path": "/Users", "bulkId": "b", "data": {"schemas": [USER], "userName": "berta",
                                                                     "password": "secret"}},
        *({"method": "PATCH", "path": f"/Users/{identity}", "data": {"schemas": [PATCH], "Operations": [
            one, {"op": "replace", "path": "nickName", "value": "Babs"}]}} for one in values),
    ]  # fmt: skip


async def test_passwords_are_refused_wherever_they_stand(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        described = await directory.ask("GET", f"/Schemas/{USER}")
        assert {"userName", "password"} & {one["name"] for one in described["attributes"]} == {"userName"}
        made = await directory.user("anna")
        before = served.dump()
        for operation in with_passwords(made["id"]):
            refused = await directory.ask("POST", "/Bulk", {"schemas": [BULK], "Operations": [operation]}, 400)
            assert "passwords are not kept here" in refused["detail"]
        assert served.dump() == before


async def test_passwords_can_be_dropped(workplace: Path) -> None:
    async with serving(workplace, passwords="drop") as served:
        directory = Directory(served)
        made = await directory.user("anna", password="secret")
        await directory.patch(
            f"/Users/{made['id']}", {"op": "replace", "path": "password", "value": "secret"},
            {"op": "replace", "path": "title", "value": "x"},
        )  # fmt: skip
        bulk = {"schemas": [BULK], "Operations": with_passwords(made["id"])}
        answer = await directory.ask("POST", "/Bulk", bulk)
        assert [one["status"] for one in answer["Operations"]] == ["201", "200", "200"]
        assert (await directory.ask("GET", f"/Users/{made['id']}"))["nickName"] == "Babs"
        assert b"secret" not in b"".join(row for _, row in served.dump())


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


async def test_a_delete_that_is_refused_clears_nothing(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna", title="Guide")
        late = await begin(directory, made)
        late.exactly = True
        await directory.patch(f"/Users/{made['id']}", {"op": "replace", "path": "title", "value": "Pilot"})
        with pytest.raises(PreconditionFailedException):
            await late.delete(USERS, made["id"])
        assert (await directory.ask("GET", f"/Users/{made['id']}"))["title"] == "Pilot"


@pytest.mark.parametrize("key", ["k", "k" * 127, "k" * 128])
async def test_a_bulk_request_that_is_repeated_does_each_operation_once(workplace: Path, key: str) -> None:
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
        body = {"schemas": [BULK], "Operations": operations}
        first = await directory.ask("POST", "/Bulk", body, headers={"idempotency-key": key})
        assert [one["status"] for one in first["Operations"]] == ["200", "201", "413"]
        again = await directory.ask("POST", "/Bulk", body, headers={"idempotency-key": key})
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


async def test_resources_that_were_written_to_their_streams(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await served.write(
            "users/José Ñ",
            set={"userName": "jose", "shoe size": 43, "active": "maybe"},
            add={"emails": ["j@x.example", '{"value":"k@x.example","type":7,"shoe":"43"}']},
        )
        await served.write("groups/kubernetes/sig-node", set={"displayName": "SIG Node"}, add={"members": ["José Ñ"]})
        [user] = (await directory.ask("GET", "/Users", filter='emails eq "j@x.example"'))["Resources"]
        assert user["id"] == "José Ñ"
        await served.write("users/nameless", set={"title": "Guide"})
        assert (await directory.ask("GET", "/Users"))["totalResults"] == 2
        assert [row["key"] for row in (await served.read("/views/users-by-name"))["rows"]] == ["jose"]
        assert user.keys().isdisjoint({"active", "shoe size"})
        shown = [{name: value for name, value in one.items() if name != "primary"} for one in user["emails"]]
        assert sorted(shown, key=str) == [{"value": "j@x.example"}, {"value": "k@x.example"}]
        response = await served.client.get(user["meta"]["location"])
        assert response.json()["userName"] == "jose"
        [group] = (await directory.ask("GET", "/Groups"))["Resources"]
        assert group["id"] == "kubernetes/sig-node"
        assert (await served.client.get(group["meta"]["location"])).json()["members"][0]["value"] == "José Ñ"
        await check_views(served)
