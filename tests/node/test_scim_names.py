"""Names: given once in a region, whoever asks at the same time, and however often."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from scim2_models import UniquenessException

from crdt.operations import Set
from node.commands.streams import split
from node.directory.claims import claims_on
from node.directory.names import claim_stream
from replication.command import Command, Draft
from replication.limits import REQUEST_KEPT_MS
from tests.scim import GROUP, PATCH, SCIM, USER, USERS, Directory, begin, check_views, user_model
from tests.serving import Served, serving


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
        await served.write("users/raw", set={"userName": "Straße"})  # claims nothing: views alone know of it
        await served.node.views.wait_for("users-by-name", served.node.replica.vector)
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


async def test_two_who_use_one_key_create_one_user_each(workplace: Path) -> None:
    async with serving(workplace) as served:
        made = set[str]()
        for actor in ("anna", "berta", "anna"):
            headers = {**SCIM, "idempotency-key": "k", "atoll-actor": actor}
            body = json.dumps({"schemas": [USER], "userName": actor})
            answer = await served.client.post("/scim/v2/Users", content=body, headers=headers)
            assert answer.status_code == 201, answer.text
            made.add(answer.json()["id"])
        assert len(made) == 2


async def test_external_ids_are_claimed_by_users_as_they_are_written(workplace: Path) -> None:
    async with serving(workplace, unique_external_ids=True) as served:
        directory = Directory(served)
        await directory.user("anna", externalId="X1")
        await directory.user("berta", externalId="x1")
        taken = {"schemas": [USER], "userName": "cara", "externalId": "X1"}
        assert (await directory.ask("POST", "/Users", taken, 409))["scimType"] == "uniqueness"
        group = {"schemas": [GROUP], "displayName": "Guides", "externalId": "X1"}
        await directory.ask("POST", "/Groups", group, 201)
        assert await directory.names('externalId eq "X1"') == ["anna"]


async def test_a_request_that_is_repeated_is_answered_as_before_whoever_has_the_name_by_now(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        body, key = {"schemas": [USER], "userName": "anna"}, {"idempotency-key": "k"}
        first = await directory.ask("POST", "/Users", body, 201, headers=key)
        await directory.patch(f"/Users/{first['id']}", {"op": "replace", "path": "userName", "value": "berta"})
        second = await directory.user("anna")
        again = await directory.ask("POST", "/Users", body, 201, headers=key)
        assert (again["id"], again["userName"]) == (first["id"], "berta")
        await directory.ask("POST", "/Users", body, 409, headers={"idempotency-key": "another"})
        rename = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "userName", "value": "cara"}]}
        path = f"/Users/{first['id']}"
        await directory.ask("PATCH", path, rename, 204, headers={"idempotency-key": "r"})
        await directory.patch(path, {"op": "replace", "path": "userName", "value": "berta"})
        third = await directory.user("cara")
        await directory.ask("PATCH", path, rename, 204, headers={"idempotency-key": "r"})
        served.clock.ms += REQUEST_KEPT_MS
        refused = await directory.ask("PATCH", path, rename, 409, headers={"idempotency-key": "r"})
        assert refused["scimType"] == "uniqueness", "what was asked so long ago is asked anew"
        assert await directory.names('userName eq "cara"') == ["cara"]
        served.clock.ms -= REQUEST_KEPT_MS
        await directory.ask("DELETE", f"/Users/{first['id']}", expect=204)
        gone = await directory.ask("POST", "/Users", body, 409, headers=key)
        assert "has created a resource before, which is gone" in gone["detail"]
        left = (await directory.ask("GET", "/Users"))["Resources"]
        assert sorted(one["id"] for one in left) == sorted([second["id"], third["id"]])


async def test_a_key_that_is_forgotten_before_its_turn_takes_no_name(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await directory.user("anna")
        berta = await directory.user("berta")
        monkeypatch.setattr("node.directory.storage.DirectoryStorage._is_known", lambda storage, snapshot: True)
        rename = {"op": "replace", "path": "userName", "value": "anna"}
        await directory.patch(f"/Users/{berta['id']}", rename, expect=412, headers={"idempotency-key": "k"})
        assert (await directory.ask("GET", f"/Users/{berta['id']}"))["userName"] == "berta"


async def test_a_create_that_is_repeated_where_its_resource_is_known_and_its_answer_is_not(workplace: Path) -> None:
    body, key = {"schemas": [USER], "userName": "bjensen"}, {"idempotency-key": "k1"}
    async with serving(workplace / "eu") as served:
        made = await Directory(served).ask("POST", "/Users", body, 201, headers=key)
    async with serving(workplace / "us", "us") as served:
        await served.write(f"users/{made['id']}", set={"title": "Guide"})
        refused = await Directory(served).ask("POST", "/Users", body, 409, headers=key)
        assert "has created a resource before" in refused["detail"]


async def test_a_write_that_leaves_the_name_alone_moves_no_claim(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna")
        late = await begin(directory, made)
        rename = {"op": "replace", "path": "userName", "value": "berta"}
        await directory.patch(f"/Users/{made['id']}", rename)
        await late.update(USERS, user_model(made, title="Guide"))
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
        await late.update(USERS, user_model(made, userName="cara"))
        assert await directory.names('userName eq "cara"') == ["cara"]
        await directory.ask("POST", "/Users", {"schemas": [USER], "userName": "cara"}, 409)
        for free in ("anna", "berta"):
            await directory.user(free)


async def first_and_then(
    served: Served, first: Callable[[], Awaitable[Any]], then: Callable[[], Awaitable[Any]]
) -> None:
    """Two writes, the second of which reads the store as it was before the first."""
    submit, submitted = served.node.submit, trio.Event()

    async def noting(*asked: Any) -> Any:
        submitted.set()
        return await submit(*asked)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(served.node, "submit", noting)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            with trio.fail_after(5):
                await submitted.wait()
            await then()


@pytest.mark.parametrize("is_split", [False, True])
async def test_a_name_that_is_left_and_taken_again_at_once_is_claimed(workplace: Path, is_split: bool) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("zoe")
        stream, seen = f"users/{made['id']}", made["meta"]["version"][3:-1]
        await directory.patch(f"/Users/{made['id']}", {"op": "replace", "path": "userName", "value": "anna"})
        if is_split:
            await split(stream, fields=["userName"], to=f"{stream}/name", node=served.url)
        early, late = await begin(directory, made), await begin(directory, made, context=seen)
        await first_and_then(
            served,
            partial(early.update, USERS, user_model(made, userName="berta")),
            partial(late.update, USERS, user_model(made, userName="anna")),
        )
        assert (await directory.ask("GET", f"/Users/{made['id']}"))["userName"] == "anna"
        with served.node.replica.read() as snapshot:
            assert [claim.stream for claim in claims_on(snapshot, "userName", "anna").counting] == [stream]


async def test_a_claim_that_counts_again_meanwhile_is_not_overtaken(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        first, second = await directory.user("anna"), await directory.user("berta")
        await served.write(
            f"users/{first['id']}", set={"userName": "cara"}
        )  # its claim on anna stays, and counts no more
        again = Command((Draft(f"users/{first['id']}", (Set("userName", "anna"),)),))
        late = await begin(directory, second)

        async def refused() -> None:
            with pytest.raises(UniquenessException):
                await late.update(USERS, user_model(second, userName="anna"))

        await first_and_then(served, lambda: served.node.submit([again], 99), refused)


async def test_a_claim_goes_with_its_name_and_stays_while_it_is_had(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna")
        path, stream = f"/Users/{made['id']}", claim_stream("userName", "anna")
        claimed = await directory.events(stream)
        await directory.patch(path, {"op": "replace", "path": "title", "value": "Guide"})
        assert await directory.events(stream) == claimed
        await directory.ask("DELETE", path, expect=204)
        assert (await served.client.get(f"/streams/{stream}")).status_code == 404, "nobody holds it"


async def test_a_claim_that_was_overtaken_is_cleared_by_who_takes_the_name_next(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        stream = claim_stream("userName", "anna")
        first = await directory.user("anna")
        await served.write(f"users/{first['id']}", set={"userName": "berta"})  # its claim stays, and counts no more
        rename = {"op": "replace", "path": "userName", "value": "anna"}
        await directory.patch(f"/Users/{first['id']}", rename)
        assert (await served.read(f"/streams/{stream}"))["sets"] == {"holders": [f"users/{first['id']}"]}
        await served.write(f"users/{first['id']}", set={"userName": "cara"})
        second = await directory.user("anna")
        assert (await served.read(f"/streams/{stream}"))["sets"] == {"holders": [f"users/{second['id']}"]}
        assert await directory.names('userName eq "anna"') == ["anna"]
        await check_views(served)


async def test_of_two_who_claim_a_name_the_earlier_has_it_and_the_other_is_listed(workplace: Path) -> None:
    """As it is when two regions that were cut from each other gave it."""
    async with serving(workplace) as served:
        directory = Directory(served)
        stream = claim_stream("userName", "anna")
        first = await directory.user("anna")
        await served.write("users/0", set={"userName": "Anna"})
        assert (await served.read("/conflicts?prefix=claims/"))["conflicts"] == [], "without a claim it has none"
        await served.write(stream, add={"holders": ["users/0", "users/gone"]})
        [listed] = (await served.read("/conflicts?prefix=claims/"))["conflicts"]
        claim = listed["claim"]
        assert (listed["stream"], claim["attribute"], claim["value"].lower()) == (stream, "userName", "anna")
        assert claim["holds"]["stream"] == f"users/{first['id']}"
        assert [one["stream"] for one in claim["waits"]] == ["users/0"]
        assert await directory.names('userName eq "anna"') == ["anna"]
        both = await directory.ask("GET", "/Users", filter='userName sw "ann"')
        assert sorted(one["userName"] for one in both["Resources"]) == ["Anna", "anna"]
        await directory.patch(f"/Users/{first['id']}", {"op": "replace", "path": "userName", "value": "berta"})
        assert (await served.read("/conflicts?prefix=claims/"))["conflicts"] == []
        assert await directory.names('userName eq "anna"') == ["Anna"]
        await check_views(served)
