"""Streams: write one event, merge-patch, delete; read resolved, page a set, test an element, travel in time."""

from collections.abc import Mapping
from typing import Any

from crdt.answer import Answer, conflicts
from crdt.operations import Delete
from crdt.register import Register
from crdt.version_vector import VersionVector
from node.interface.conditions import WriteConditions, parse_conditions, wait_causal, wait_conditions, wait_seconds
from node.interface.cursors import next_link, text_position
from node.interface.drafts import OPERATIONS, PROVENANCE, check_object, parse_draft, parse_provenance
from node.interface.moments import format_timestamp, parse_moment
from node.interface.reply import Reply
from node.interface.request import PATCH_TYPES, Request
from node.interface.writing import actor_of, named, perform, written_reply
from node.views.state import parts_of, state_of_row
from replication.command import Command, Draft
from replication.errors import Invalid
from replication.event import Source
from replication.history import read_entry
from replication.limits import ELEMENT_BYTES_MAX, FIELD_BYTES_MAX
from replication.origin import region_of
from replication.queries import (
    StreamAnswer,
    contains,
    existing_row,
    page_set,
    resolve_past,
    resolve_stream,
)
from replication.snapshot import Snapshot
from replication.stream_name import format_path
from replication.tokens import format_token, parse_scoped
from replication.values import check_text


async def write_event(request: Request) -> Reply:
    """Write one event: set registers, add to and remove from sets."""
    value, body = await request.document()
    fields = check_object(value, (*OPERATIONS, *PROVENANCE))
    conditions = parse_conditions(request)
    draft = parse_draft(fields, request.name, conditions.context)
    return await _write(request, conditions, draft, body, *parse_provenance(fields))


async def merge_patch(request: Request) -> Reply:
    """Apply a merge-patch (RFC 7396) to the registers."""
    patch, body = await request.document(*PATCH_TYPES)
    if not isinstance(patch, dict):
        raise Invalid("body", "must be an object: a merge-patch onto the registers")
    conditions = parse_conditions(request)
    return await _write(request, conditions, Draft(request.name, merge=patch, context=conditions.context), body)


async def delete_stream(request: Request) -> Reply:
    """Delete: reset every field that was seen; what was not seen survives."""
    conditions = parse_conditions(request)
    draft = Draft(request.name, (Delete(),), context=conditions.context)
    return await _write(request, conditions, draft, b"", must_exist=True)


async def _write(
    request: Request,
    conditions: WriteConditions,
    draft: Draft,
    body: bytes,
    occurred_at: str | None = None,
    source: Source | None = None,
    *,
    must_exist: bool = False,
) -> Reply:
    command = Command(
        (draft,),
        actor=actor_of(request),
        request=named(request, body),
        expect={} if conditions.expected is None else {draft.stream: conditions.expected},
        present=(draft.stream,) if conditions.present or must_exist else (),
        absent=(draft.stream,) if conditions.absent else (),
        occurred_at=occurred_at,
        source=source,
    )
    written = await perform(request, command, len(body), lambda: wait_conditions(request, conditions))
    return written_reply(written)


async def read_stream(request: Request) -> Reply:
    """Read a stream resolved; with `set`, a page of one set; with `contains`, whether it has an element."""
    if request.query:
        _check_together(request)
    await wait_causal(request)
    if "at" in request.query:
        return await _past(request)
    with request.node.replica.read() as snapshot:
        if "set" in request.query:
            return _read_set(request, snapshot)
        answer = resolve_stream(snapshot, request.name)
        shown = show(answer)
        variant = ""
        if request.flag("conflicts"):
            shown["conflicts"] = show_conflicts(snapshot, answer.row.registers)
            variant = "conflicts"
        if request.flag("follow"):
            variant += _follow(snapshot, request.name, shown)
        return Reply(shown, token=shown["token"], variant=variant)


def _check_together(request: Request) -> None:
    """Raises: Invalid, for parameters of which one would have no effect beside another."""
    query = request.query
    for name in ("contains", "limit", "cursor"):
        if name in query and "set" not in query:
            raise Invalid(name, "goes with set=FIELD")
        if name in query and name != "contains" and "contains" in query:
            raise Invalid(name, "is of a page, and contains asks for one element")
    for name, asked in (("at", "at" in query), *((name, request.flag(name)) for name in ("conflicts", "follow"))):
        if asked and "set" in query:
            raise Invalid(name, "goes with the whole stream, not with set or contains")
    if "at" in query and request.flag("follow"):
        raise Invalid("follow", "shows the stream as it is now, and at as it was")


def _follow(snapshot: Snapshot, name: str, shown: dict[str, Any]) -> str:
    """Add to an answer what was split off its stream; what tells this showing from others."""
    row = existing_row(snapshot, name)
    state = state_of_row(snapshot, name, row)
    shown["registers"], shown["sets"] = state.registers, dict(state.sets)
    parts = parts_of(snapshot, name, row.values)
    shown["parts"] = {part: format_token(part, found.vector) for found, part in parts}
    return f"|follow={sorted(shown['parts'].items())}"


def show(answer: StreamAnswer) -> dict[str, Any]:
    """A stream as it is answered."""
    shown: dict[str, Any] = {
        "stream": answer.stream,
        "registers": answer.row.values,
        "sets": answer.sets,
        "token": format_token(answer.stream, answer.row.vector),
    }
    if answer.large:
        path = format_path(answer.stream)
        shown["large_sets"] = {
            field: {"count": count, "href": f"/streams/{path}?set={format_path(field)}"}
            for field, count in answer.large.items()
        }
    return shown


def show_conflicts(snapshot: Snapshot, live: Mapping[str, Register]) -> dict[str, Any]:
    """The writes that lost (I10), greatest first: value, region, author, time, dot."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for field, writes in conflicts(dict(live)).items():
        shown[field] = []
        for write in writes:
            row = snapshot.event(write.dot)
            body = read_entry(row).body if row else None
            shown[field].append(
                {
                    "value": write.value,
                    "region": region_of(write.origin),
                    "author": body.actor if body else None,
                    "timestamp": format_timestamp(write.timestamp),
                    "dot": str(write.dot),
                }
            )
    return shown


def _read_set(request: Request, snapshot: Snapshot) -> Reply:
    field = check_text(request.query["set"], "set", FIELD_BYTES_MAX)
    row = existing_row(snapshot, request.name)
    token = format_token(request.name, row.vector)
    shown: dict[str, Any] = {"stream": request.name, "set": field, "token": token}
    if "contains" in request.query:
        element = check_text(request.query["contains"], "contains", ELEMENT_BYTES_MAX)
        shown |= {"element": element, "contains": contains(snapshot, row, field, element)}
        return Reply(shown, token=token, variant=f"set={field}|contains={element}")
    start = text_position(request)
    members, following = page_set(snapshot, row, field, start, request.limit)
    shown |= {"count": row.sets.get(field, 0), "members": members}
    variant = f"set={field}|{start}|{request.limit}"
    return Reply(shown, headers=next_link(request, following), token=token, variant=variant)


async def _past(request: Request) -> Reply:
    """The stream as it was at a token or a time."""
    at = request.query["at"]
    vector: VersionVector | None = None
    timestamp: int | None = None
    if "~" in at:
        vector = parse_scoped(at, request.name, "at")
        await request.node.wait_for(vector, wait_seconds(request))
    else:
        timestamp = parse_moment(at, "at")
    with request.node.replica.read() as snapshot:
        reached, answer = resolve_past(snapshot, request.name, vector=vector, timestamp=timestamp)
        shown = _show_past(request.name, reached, answer)
        if request.flag("conflicts"):
            shown["conflicts"] = show_conflicts(snapshot, answer.live)
    return Reply(shown, token=shown["token"], variant=f"at={at}|{request.flag('conflicts')}")


def _show_past(stream: str, reached: VersionVector, answer: Answer) -> dict[str, Any]:
    return {
        "stream": stream,
        "registers": answer.registers,
        "sets": answer.sets,
        "token": format_token(stream, reached),
    }
