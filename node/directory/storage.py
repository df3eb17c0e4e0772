"""The directory's storage, as the SCIM handler asks for it: one for each request.

A read is a stream resolved. A write is the least event that turns what the client saw into what it wants: only what
differs is set, added or removed, with the context of what was seen, so that what others changed meanwhile stays.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import trio
from scim2_models import (
    ConflictException,
    NotFoundException,
    PreconditionFailedException,
    Resource,
    ResourceType,
    ResponseParameters,
    SearchRequest,
    UniquenessException,
)
from scim2_server.storage import AsyncScimStorage, SearchPage

from crdt.operations import JSON, Add, Delete, Operation, Remove, Set
from crdt.version_vector import VersionVector
from node.directory.aside import aside
from node.directory.claims import EXTERNAL_ID, USER_NAME, claims_on, compared, has
from node.directory.homes import Moved, home_of, write_at_home
from node.directory.mapping import Fields, difference, fields_of, to_fields
from node.directory.names import DELETED, HOLDERS, MEMBERS, claim_stream
from node.directory.refusals import refusals, scim_error_of
from node.directory.resources import Found, find, keeps, living, read_groups, read_members, stream_of, to_model
from node.directory.schema import GROUP, USER
from node.directory.search import Search
from node.limits import CLAIM_TRIES, MEMBERS_AT_ONCE, WAIT_DEFAULT_S
from node.service import Node
from node.views.query import BEGINNING, page
from node.views.state import moved_to, parts_of, state_of
from node.views.view import State
from node.views.views import ViewBuilding
from replication.command import Command, Draft, Written
from replication.errors import ConditionFailed, Refused, UnknownStream
from replication.limits import IDEMPOTENCY_KEY_BYTES_MAX
from replication.queries import contains, resolve_past
from replication.snapshot import Snapshot
from replication.tokens import parse_scoped

log = logging.getLogger("atoll.directory")

ID_BYTES = 16
KEY_BYTES = 16
"""Of what stands for an idempotency key that leaves no room for an operation's number."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and what the request says beside its body.

    Shape: `named` is an idempotency key and the request's fingerprint. `after` must show in whatever view is asked.
    `context` is the token of what the client has seen of the resource, where it says so. `whole`: the answer shows
    the resource.
    """

    actor: str
    named: tuple[str, bytes] | None = None
    after: VersionVector | None = None
    context: str | None = None
    wait_s: float = WAIT_DEFAULT_S
    whole: bool = False


class DirectoryStorage(AsyncScimStorage):
    """Users and groups over one node's streams."""

    supports_cursors = True

    def __init__(self, node: Node, asking: Asking) -> None:
        self.node = node
        self.asking = asking
        self.exactly = False
        """Whether the write is to happen only at the state that was read: the client sent If-Match."""
        self.large = False
        """Whether models take long here: of a large body, or of a group with many members that is changed whole."""
        self.step = 0
        """Which operation of a bulk request this is; 0 where it is none."""
        self.drawn_on: tuple[VersionVector, VersionVector] = ({}, {})
        """What a search was answered from: the streams as they were then, and what its views had taken in."""
        self.members: dict[str, dict[str, str]] = {}
        """Those that the answer lists, by the id of their group: displayNames by element. No model could hold them:
        a group may have a hundred thousand, and a model takes longer over each than reading it does."""
        self._seen: dict[str, Found] = {}

    # --- reading

    async def get(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        response_parameters: ResponseParameters[Any] | None = None,
    ) -> Resource[Any]:
        """A resource; with `response_parameters`, as it is shown, else as a write begins from it."""
        kind, shown = _kind(resource_type), response_parameters
        with_groups = kind == USER and shown is not None and keeps(shown, "groups")
        if with_groups:
            await self.have_shown("groups-of")
        with self.node.replica.read() as snapshot:
            found = find(snapshot, kind, resource_id)
            if kind == GROUP and shown is None:
                found.members = await self.read_members(snapshot, found)
                found.fields.sets[MEMBERS] = set(found.members)
            elif kind == GROUP and shown is not None and keeps(shown, MEMBERS):
                self.members[resource_id] = await self.read_members(snapshot, found)
            if with_groups:
                found.groups = self._groups(snapshot, found)
        self.saw(found)
        self.large |= len(found.members or ()) > MEMBERS_AT_ONCE
        return await aside(self.large, to_model, found)

    async def read_members(self, snapshot: Snapshot, found: Found) -> dict[str, str]:
        """The displayNames of a group's members, by element; others run meanwhile. Raises: SCIMException."""
        members: dict[str, str] = {}
        with refusals():
            for element, name in read_members(snapshot, found):
                members[element] = name
                if len(members) % MEMBERS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
        return members

    def _groups(self, snapshot: Snapshot, found: Found) -> list[dict[str, Any]]:
        with refusals():
            return read_groups(snapshot, self.node.views, found)

    async def have_shown(self, view: str) -> None:
        """Wait until a view shows what the request says it must, and what this node holds. Raises: SCIMException."""
        with refusals():
            await self.node.views.catch_up(view, self.asking.after, self.asking.wait_s)

    async def search(
        self, resource_types: list[ResourceType], search_request: SearchRequest[Any], *, position: Any = None
    ) -> SearchPage:
        """One page of the resources that a filter matches."""
        with refusals():
            return await Search(self, [_kind(one) for one in resource_types], search_request, position).run()

    # --- writing

    async def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        """A new resource, under a new id."""
        kind = _kind(resource_type)
        identity = self._new_id()
        stream = stream_of(kind, identity)
        fields = await self._fields(resource, kind)
        with refusals():
            draft = Draft(stream, difference(Fields(), fields))
        try:
            await self._write(stream, kind, [draft], absent=(stream,))
            return await self._shown(kind, identity)
        except (ConditionFailed, NotFoundException):
            raise ConflictException(detail="this request has created a resource before, which is gone") from None

    async def _fields(self, resource: Resource[Any], kind: str) -> Fields:
        return await aside(self.large, lambda: to_fields(resource.model_dump(), kind))

    def _new_id(self) -> str:
        """Random, or, where the request can come again, always the same for it."""
        if self.asking.named is None:
            return self.node.entropy.randbytes(ID_BYTES).hex()
        text = f"{self.asking.actor}\n{self.asking.named[0]}\n{self.step}"
        return hashlib.blake2b(text.encode(), digest_size=ID_BYTES).hexdigest()

    async def update(
        self, resource_type: ResourceType, resource: Resource[Any], *, expected_version: str | None = None
    ) -> Resource[Any]:
        """The least event that makes a resource what it is to be."""
        kind, identity = _kind(resource_type), str(resource.id)
        seen = self._seen[stream_of(kind, identity)]
        wanted = await self._fields(resource, kind)
        context = self._context(seen)
        before = seen.fields if context is None else self._before(seen, context)
        return await self.change(seen, difference(before, wanted))

    def _context(self, seen: Found) -> VersionVector | None:
        """What the client says that it has seen of a resource. Raises: SCIMException, for another one's token."""
        if self.asking.context is None:
            return None
        with refusals():
            return parse_scoped(self.asking.context, seen.stream, "Causal-Context")

    def _before(self, seen: Found, context: VersionVector) -> Fields:
        """The resource as the client says that it saw it: what others changed since is not its to undo."""
        registers: dict[str, JSON] = {}
        sets: dict[str, tuple[str, ...]] = {}
        with refusals(), self.node.replica.read() as snapshot:
            for part in seen.parts:
                try:
                    _, answer = resolve_past(snapshot, part, vector=context)
                except UnknownStream:
                    continue
                registers |= answer.registers
                sets |= answer.sets
        fields = fields_of(State(seen.stream, registers, sets), seen.kind)
        if seen.kind == GROUP:
            fields.sets[MEMBERS] = set(sets.get(MEMBERS, ()))
        return fields

    async def change(self, seen: Found, operations: tuple[Operation, ...]) -> Resource[Any]:
        """Write operations to a resource that was read, and give it as it is then."""
        if operations:
            await self._write_seen(seen, self._drafts(seen, operations))
        return await self._shown(seen.kind, seen.state.name)

    def _drafts(self, seen: Found, operations: tuple[Operation, ...]) -> list[Draft]:
        """One event a stream: of the resource, and of what was split off it."""
        by_stream: dict[str, list[Operation]] = {}
        for operation in operations:
            part = None if isinstance(operation, Delete) else moved_to(seen.state.registers, operation.field)
            by_stream.setdefault(part if part in seen.parts else seen.stream, []).append(operation)
        context = self._context(seen)
        with refusals():
            return [
                Draft(stream, tuple(here), context=seen.parts[stream] if context is None else context)
                for stream, here in by_stream.items()
            ]

    async def _write_seen(self, seen: Found, drafts: list[Draft]) -> None:
        """Write to a resource that was read; at the state that was read, where the client asks for that."""
        expect = dict(seen.parts) if self.exactly else {}
        try:
            await self._write(seen.stream, seen.kind, drafts, expect=expect)
        except ConditionFailed:
            raise PreconditionFailedException(detail="the resource is not in the expected state") from None

    async def delete(
        self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None
    ) -> None:
        """Mark a resource as deleted, for good, and clear what it held.

        The marker is an event of its own, which the delete after it does not cover: it stays. What another region
        changes meanwhile stays too, and brings nothing back.
        """
        seen = self._seen[stream_of(_kind(resource_type), resource_id)]
        marker = Draft(seen.stream, (Set(DELETED, True),), context=seen.parts[seen.stream])
        clear = tuple(Draft(part, (Delete(),), context=vector) for part, vector in seen.parts.items())
        await self._write_seen(seen, [marker])
        # Only now: were the marker refused, nothing may be cleared. Were this lost, nothing of it would show.
        with refusals():
            [outcome] = await self.node.submit([Command(clear, actor=self.asking.actor)], _size(clear))
        if not isinstance(outcome, Written):
            log.warning("%s is deleted, and not cleared: %s", seen.stream, outcome)

    def saw(self, found: Found) -> None:
        """Take note of what a write begins from."""
        self._seen[found.stream] = found

    async def _shown(self, kind: str, identity: str) -> Resource[Any]:
        """A resource after a write. That it is written is not to be hidden by a view that is not ready."""
        with self.node.replica.read() as snapshot:
            found = find(snapshot, kind, identity)
            whole = self.asking.whole and not self.step  # a bulk request's answer shows no resource
            if whole and kind == GROUP:
                self.members[identity] = await self.read_members(snapshot, found)
            if whole and kind == USER:
                try:
                    found.groups = read_groups(snapshot, self.node.views, found)
                except ViewBuilding:
                    found.groups = None
        return to_model(found)

    async def _write(
        self,
        stream: str,
        kind: str,
        drafts: Sequence[Draft],
        *,
        expect: Mapping[str, VersionVector] = {},
        absent: tuple[str, ...] = (),
    ) -> None:
        """Write a resource's events, and in the same transaction the claims that its unique values need.

        Raises: SCIMException; ConditionFailed, where a stream is not in the state that `expect` names.
        """
        for _ in range(CLAIM_TRIES):
            states: dict[str, tuple[VersionVector, ...]] = {name: (held,) for name, held in expect.items()}
            claims: list[Draft] = []
            if kind == USER:
                with self.node.replica.read() as snapshot:
                    try:
                        self._claim(snapshot, stream, drafts, claims, states)
                    except UniquenessException:
                        if not self._is_known(snapshot):
                            raise
                        absent = (stream,)  # which it is not: answered as before, or, were that over, not at all
            home = home_of(self.node.configuration.home_regions, states)
            if home not in (None, self.node.configuration.region):
                if await self._write_at_home(str(home), (*drafts, *claims), states, absent):
                    return
                continue
            with refusals():
                command = Command(
                    (*drafts, *claims),
                    actor=self.asking.actor,
                    expect=states,
                    absent=absent,
                    request=self._named(),
                )
                [outcome] = await self.node.submit([command], _size(command.drafts))
            if isinstance(outcome, Written):
                return
            if not isinstance(outcome, ConditionFailed):
                assert isinstance(outcome, Refused)
                raise scim_error_of(outcome)
            if outcome.name in expect or outcome.name in absent:
                raise outcome
        raise ConflictException(detail="others claim the same values at the same time; try again")

    async def _write_at_home(
        self,
        home: str,
        drafts: Sequence[Draft],
        states: Mapping[str, tuple[VersionVector, ...]],
        absent: tuple[str, ...],
    ) -> bool:
        """Have the region that gives a name write it; whether it did, or others have moved its claims instead."""
        expect = {name: vector for name, (vector,) in states.items()} | {name: {} for name in absent}
        with refusals():
            try:
                await write_at_home(
                    self.node, home, drafts, expect, self.asking.actor, self._named(), self.asking.wait_s
                )
            except Moved:
                return False
        return True

    def _is_known(self, snapshot: Snapshot) -> bool:
        """Whether the request was carried out before: then it is answered as it was, whoever has the name by now."""
        named, now_ms = self._named(), self.node.clock.now_ms()
        return named is not None and snapshot.request_of(self.asking.actor, named[0], now_ms) is not None

    def _named(self) -> tuple[str, bytes] | None:
        """The request's key; each operation of a bulk request has its own."""
        named = self.asking.named
        if named is None or not self.step:
            return named
        key, fingerprint = named
        if len(f"{key}/{self.step}".encode()) > IDEMPOTENCY_KEY_BYTES_MAX:
            key = hashlib.blake2b(key.encode(), digest_size=KEY_BYTES).hexdigest()
        return f"{key}/{self.step}", fingerprint

    def _claim(
        self,
        snapshot: Snapshot,
        stream: str,
        drafts: Sequence[Draft],
        claims: list[Draft],
        states: dict[str, tuple[VersionVector, ...]],
    ) -> None:
        """Add what moves a user's claims from the values that it has to those that the drafts give it.

        On the condition that it has these values still: another write may give it others meanwhile.
        Raises: UniquenessException.
        """
        given = {
            operation.field: operation.value
            for draft in drafts
            for operation in draft.operations
            if isinstance(operation, Set)
        }
        row = snapshot.stream(stream)
        now = state_of(snapshot, stream)
        for attribute in (USER_NAME, EXTERNAL_ID) if self.node.configuration.unique_external_ids else (USER_NAME,):
            if attribute not in given and DELETED not in given:
                continue
            if row is not None:
                states.setdefault(stream, (row.vector,))
                for part, name in parts_of(snapshot, stream, row.values):
                    states.setdefault(name, (part.vector,))
            value = given.get(attribute)
            before = now.text(attribute) if now is not None else ""
            taken = isinstance(value, str) and not has(now, attribute, value)
            if taken:
                claims.append(self._take(snapshot, attribute, str(value), stream, states))
            if before and (taken or not value):
                name = claim_stream(attribute, compared(attribute, before))
                held = snapshot.stream(name)
                if held is not None and contains(snapshot, held, HOLDERS, stream):
                    claims.append(Draft(name, (Remove(HOLDERS, stream),)))

    def _take(
        self,
        snapshot: Snapshot,
        attribute: str,
        value: str,
        stream: str,
        states: dict[str, tuple[VersionVector, ...]],
    ) -> Draft:
        claims = claims_on(snapshot, attribute, value)
        holders = [claim.stream for claim in claims.counting] + self._without_claim(snapshot, attribute, value)
        if holders:
            identity = holders[0].partition("/")[2]
            raise UniquenessException(detail=f"{attribute} {value[:200]!r} is taken, by the user {identity!r}")
        states[claims.stream] = (claims.vector,)
        for other in claims.overtaken:  # what does not count now must not count when this is written
            row = snapshot.stream(other)
            states[other] = (row.vector if row is not None else {},)
        overtaken = [Remove(HOLDERS, other) for other in claims.overtaken if other != stream]
        return Draft(claims.stream, (Add(HOLDERS, stream), *overtaken))

    def _without_claim(self, snapshot: Snapshot, attribute: str, value: str) -> list[str]:
        """Users that were written to their streams directly, and so claimed nothing."""
        view = "users-by-name" if attribute == USER_NAME else "users-by-external-id"
        try:
            hits, _ = page(self.node.views, snapshot, view, value, value, BEGINNING, 2)
        except ViewBuilding:
            return []
        return [hit.stream for hit in hits if living(snapshot, hit.stream) is not None]


def _kind(resource_type: ResourceType) -> str:
    return str(resource_type.name)


def _size(drafts: Sequence[Draft]) -> int:
    return sum(64 + 64 * len(draft.operations) for draft in drafts)
