"""SCIM's operations over one request's storage: scim2-server's steps, but for where streams ask for others.

What is large is read by the library in a thread (`aside`), so that nobody else waits for its models meanwhile.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar, cast

import trio
from scim2_models import Context, PatchOp, Resource, ResourceType, ResponseParameters, SearchRequest, TooManyException
from scim2_server.bulk import BulkPlan, BulkStep
from scim2_server.conditions import Conditions
from scim2_server.handler import AsyncScimHandler
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse
from scim2_server.routing import Operation as Route
from scim2_server.service import ScimService
from scim2_server.storage import SearchPage

from crdt.operations import Operation
from node.directory import group_patch
from node.directory.aside import aside
from node.directory.candidates import terms_of
from node.directory.mapping import difference, fields_of, to_fields
from node.directory.names import MEMBERS
from node.directory.resources import (
    VARIANT_BYTES,
    find,
    keeps,
    keeps_part,
    member_document,
    member_named,
    to_model,
)
from node.directory.schema import GROUP, USER
from node.directory.search import PAUSE_AFTER
from node.directory.storage import DirectoryStorage
from node.directory.tolerance import tolerated
from node.limits import MEMBERS_AT_ONCE, SCIM_ASIDE_BYTES, SCIM_COMPARED_MAX
from replication.stream_name import ROOT
from replication.tokens import format_token

Read = TypeVar("Read")

MEMBER_PARTS = ("value", "$ref", "type", "display")


class DirectoryHandler(AsyncScimHandler):
    """Serves one request."""

    storage: DirectoryStorage

    def __init__(self, service: ScimService, storage: DirectoryStorage) -> None:
        super().__init__(service, storage)

    # --- writes, whose bodies may be large

    async def create(self, request: ScimRequest) -> ScimResponse:
        """A POST."""
        with self.service.provider:
            resource_type, _ = self._target(request, Route.create)
            resource = await self._read(request, partial(self.service.read_creation, resource_type))
            return self.service.creation_response(
                request.base_url, await self.storage.create(resource_type, resource)
            )

    async def replace(self, request: ScimRequest) -> ScimResponse:
        """A PUT."""
        with self.service.provider:
            resource_type, identity = self._target(request, Route.replace)
            asked = self.service.read_response_parameters(resource_type, request.query)
            current = await self.storage.get(resource_type, identity)
            replacement = await self._read(request, partial(self.service.read_replacement, resource_type))
            conditions = self.service.read_conditions(request)
            resource = await self.replace_resource(resource_type, current, replacement, conditions)
            return self.service.replacement_response(request.base_url, resource, asked)

    async def patch(self, request: ScimRequest) -> ScimResponse:
        """A PATCH."""
        with self.service.provider:
            resource_type, identity = self._target(request, Route.patch)
            asked = self.service.read_response_parameters(resource_type, request.query)
            patch_op = await self._read(request, partial(self.service.read_patch, resource_type))
            conditions = self.service.read_conditions(request)
            resource = await self.patch_resource(resource_type, identity, patch_op, conditions)
            return self.service.patch_response(request.base_url, resource, asked)

    async def bulk(self, request: ScimRequest) -> ScimResponse:
        """Many writes in one request."""
        with self.service.provider:
            self.service.route(request, Route.bulk)
            plan = await self._read(request, self.service.read_bulk)
            for step in plan:
                plan.record(step, *await self.run_bulk_step(request, plan, step))
            return self.service.bulk_response(plan)

    def _target(self, request: ScimRequest, operation: Route) -> tuple[ResourceType, str]:
        """The type of resource that a request is on, and the id; who asks may do so."""
        target = self.service.route(request, operation)
        resource_type = self.service.resource_type_at(str(target.endpoint))
        self.service.authorize(request, target, resource_type)
        return resource_type, str(target.resource_id)

    async def _read(self, request: ScimRequest, read: Callable[[bytes, str | None], Read]) -> Read:
        """The body of a request, as the library reads it."""
        self.storage.large |= len(request.body) > SCIM_ASIDE_BYTES
        return await aside(self.storage.large, read, request.body, request.header("Content-Type"))

    # --- what becomes of what is there

    async def replace_resource(
        self,
        resource_type: ResourceType,
        current: Resource[Any],
        replacement: Resource[Any],
        conditions: Conditions,
    ) -> Resource[Any]:
        """A PUT, as the difference from what was seen."""
        conditions = self._exactly(conditions)
        replaced = await aside(self.storage.large, self.service.apply_replacement, current, replacement, conditions)
        return current if replaced is None else await self.storage.update(resource_type, replaced)

    async def delete_resource(self, resource_type: ResourceType, resource_id: str, conditions: Conditions) -> None:
        """A DELETE; of a group without reading its members."""
        conditions = self._exactly(conditions)
        with self.storage.node.replica.read() as snapshot:
            found = find(snapshot, str(resource_type.name), resource_id)
        self.service.check_deletion(to_model(found), conditions)
        self.storage.saw(found)
        await self.storage.delete(resource_type, resource_id)

    async def run_bulk_step(
        self, request: ScimRequest, plan: BulkPlan, step: BulkStep
    ) -> tuple[dict[str, Any], Resource[Any] | None]:
        """One operation of a bulk request, numbered, so that the request can be sent again."""
        self.storage.step += 1
        return await super().run_bulk_step(request, plan, step)

    async def patch_resource(
        self, resource_type: ResourceType, resource_id: str, patch_op: "PatchOp[Any]", conditions: Conditions
    ) -> Resource[Any]:
        """A PATCH; of a group's members without reading them, where it names them one by one."""
        conditions, patch_op = self._exactly(conditions), tolerated(patch_op)
        parts = group_patch.split(patch_op) if resource_type.name == GROUP else None
        if parts is None:
            whole = await self.storage.get(resource_type, resource_id)
            _check_comparisons(patch_op, whole)
            patched = await aside(self.storage.large, self.service.apply_patch, whole, patch_op, conditions)
            return whole if patched is None else await self.storage.update(resource_type, patched)
        wanted, others = parts
        with self.storage.node.replica.read() as snapshot:
            found = find(snapshot, GROUP, resource_id)
            found.fields.sets.pop(MEMBERS, None)
            current = to_model(found)
            operations: list[Operation] = []
            members = sorted(wanted.items())
            for start in range(0, len(members), MEMBERS_AT_ONCE):
                some = members[start : start + MEMBERS_AT_ONCE]
                operations += group_patch.operations_for(snapshot, found.row, some)
                await trio.lowlevel.checkpoint()
        if others:
            rest = patch_op.model_copy(update={"operations": others})
            await aside(self.storage.large, self.service.apply_patch, current, rest, conditions)
        else:
            self.service.check_preconditions(current, "PATCH", conditions)
        changed = to_fields(current.model_dump(), GROUP)
        return await self.storage.change(found, (*difference(fields_of(found.state, GROUP), changed), *operations))

    def _exactly(self, conditions: Conditions) -> Conditions:
        """The conditions without what tells one showing of a state from another; the write is to be at that state."""
        self.storage.exactly = bool(conditions.if_match) and conditions.if_match != "*"
        return Conditions(_plain(conditions.if_match), _plain(conditions.if_none_match))

    # --- answers: members are listed beside the model, so that a large group takes nobody else's time

    async def handle(self, request: ScimRequest) -> ScimResponse:
        """Serve a request."""
        response: ScimResponse = await super().handle(request)
        body = response.body
        if isinstance(body, dict) and body.get("id") in self.storage.members:
            query = {} if request.method == "POST" else request.query  # what is created is shown whole
            with self.service.provider:
                asked = self.service.read_response_parameters(self.service.get_resource_type(GROUP), query)
            await self._list_members(request.base_url, body, asked)
        return response

    async def _list_members(self, base_url: str, shown: dict[str, Any], asked: ResponseParameters[Any]) -> None:
        """Add a group's members to its document, as far as the answer is to show them; others run meanwhile."""
        members = self.storage.members[shown["id"]]
        if not members or not keeps(asked, MEMBERS):
            return
        types = {kind: self.service.get_resource_type(kind) for kind in (USER, GROUP)}
        hidden = [part for part in MEMBER_PARTS if not keeps_part(asked, MEMBERS, part)]
        listed = shown[MEMBERS] = []
        for element, name in members.items():
            kind, identity = member_named(element)
            location = self.service.resource_location(base_url, types[kind], identity)
            member = member_document(kind, identity, location, name)
            for part in hidden:
                member.pop(part, None)
            listed.append(member)
            if len(listed) % MEMBERS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    # --- search, without a second model of everything that is shown

    async def search(self, request: ScimRequest) -> ScimResponse:
        """A search by GET."""
        with self.service.provider:
            target = self.service.match(request)
            types = self.service.searched_types(target.endpoint)
            authorized = self.service.authorized_types(request, target, types)
            asked, position = self.service.read_search_query(types, request.query)
            return await self._search(request, types, authorized, asked, position)

    async def search_with_body(self, request: ScimRequest) -> ScimResponse:
        """A search by POST to `.search`."""
        with self.service.provider:
            target = self.service.match(request)
            types = self.service.searched_types(target.endpoint)
            authorized = self.service.authorized_types(request, target, types)
            asked, position = self.service.read_search_body(types, request.body, request.header("Content-Type"))
            return await self._search(request, types, authorized, asked, position)

    async def _search(
        self,
        request: ScimRequest,
        types: list[ResourceType],
        authorized: list[ResourceType],
        asked: SearchRequest[Any],
        position: Any,
    ) -> ScimResponse:
        page = await self.storage.search(authorized, asked, position=position)
        tag, settled = self._tag(request)
        if (
            settled
            and request.method == "GET"
            and not Conditions(if_none_match=request.header("If-None-Match")).check(tag, "GET")
        ):
            return ScimResponse(HTTPStatus.NOT_MODIFIED, None, {"ETag": tag})
        answer = self.service.search_response(request.base_url, types, SearchPage(page.total, [], page.next), asked)
        answer.headers["ETag"] = tag
        shown: list[Mapping[str, Any]] = []
        for resource in page.resources:
            published = self.service.publish(request.base_url, resource)
            document = published.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=asked)
            if self.service.get_resource_type_of(resource).name == GROUP and resource.id in self.storage.members:
                await self._list_members(request.base_url, document, asked)
            shown.append(document)
            if len(shown) % PAUSE_AFTER == 0:
                await trio.lowlevel.checkpoint()
        body = cast(dict[str, Any], answer.body)
        body["itemsPerPage"] = len(shown)
        if shown:
            body["Resources"] = shown
        return answer

    def _tag(self, request: ScimRequest) -> tuple[str, bool]:
        """The tag of a list, and whether it names all that it shows: its views had taken in all there is.

        Told from the state of everything, the views' watermark, and what was asked.
        """
        now, shown = self.storage.drawn_on
        told = json.dumps([request.path, sorted(request.query.items()), format_token(ROOT, shown)])
        variant = hashlib.blake2b(told.encode() + request.body, digest_size=VARIANT_BYTES).hexdigest()
        return f'W/"{format_token(ROOT, now)}+{variant}"', now == shown


def _check_comparisons(patch_op: "PatchOp[Any]", whole: Resource[Any]) -> None:
    """Refuse what would look at many members many times. Raises: TooManyException."""
    members = 1 + len(getattr(whole, MEMBERS, None) or ())
    paths = (operation.path for operation in patch_op.operations or [])
    comparisons = members * sum(1 if path is None else max(1, terms_of(path.value_filter)) for path in paths)
    if comparisons > SCIM_COMPARED_MAX:
        raise TooManyException(
            detail=f"this PATCH would make {comparisons} comparisons, and {SCIM_COMPARED_MAX} are allowed;"
            " name members in `value`, or send its operations in several"
        )


def _plain(header: str | None) -> str | None:
    """Tags without `+variant`."""
    if header is None or "+" not in header:
        return header
    tags = (tag.strip() for tag in header.split(","))
    return ", ".join(f'{tag.partition("+")[0]}"' if "+" in tag else tag for tag in tags)
