"""A SCIM client of a node under test, and what is true of its views at the end."""

import json
from typing import Any

import trio

from node.directory.service import DirectoryService
from node.directory.storage import Asking, DirectoryStorage
from node.views.check import differences
from tests.serving import Served

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
SEARCH = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
SCIM = {"content-type": "application/scim+json"}
SERVICE = DirectoryService("test")
USERS = SERVICE.get_resource_type("User")


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


async def begin(directory: Directory, made: Any, context: str | None = None) -> DirectoryStorage:
    """A request that has read a user, and not written yet."""
    storage = DirectoryStorage(directory.served.node, Asking("somebody", context=context))
    await storage.get(USERS, made["id"])
    return storage


def user_model(made: Any, **changes: Any) -> Any:
    document = {name: value for name, value in made.items() if name != "meta"} | changes
    model: Any = SERVICE.get_model(USERS)
    return model.model_validate(document)
