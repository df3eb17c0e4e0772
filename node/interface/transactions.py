"""Transactions: several streams at once, all or none, under conditions on any streams and prefixes of this region."""

from functools import partial, reduce
from typing import Any

from crdt.version_vector import VersionVector, join
from node.interface.conditions import wait_causal, wait_seconds
from node.interface.drafts import OPERATIONS, PROVENANCE, check_object, parse_draft, parse_provenance, parse_state
from node.interface.moments import format_timestamp
from node.interface.reply import Reply
from node.interface.request import Request
from node.interface.writing import actor_of, describe, named, perform
from replication.command import Command, Draft
from replication.errors import Invalid
from replication.stream_name import check_name, check_stream
from replication.tokens import parse_scoped


async def write_transaction(request: Request) -> Reply:
    """Write events on several streams, all or none; replicated and applied as one."""
    for header in ("if-match", "if-none-match", "causal-context"):
        if request.headers.get(header) is not None:
            raise Invalid(header.title(), "is for a single stream; see `expect`, and the `context` of each event")
    value, body = await request.document()
    fields = check_object(value, ("events", "expect", *PROVENANCE))
    expect = _parse_expect(fields.get("expect", {}))
    drafts = _parse_events(fields.get("events"))
    occurred_at, source = parse_provenance(fields)
    states = {name: (vector,) for name, vector in expect.items()}
    command = Command(
        drafts,
        actor=actor_of(request),
        request=named(request, body),
        expect=states,
        occurred_at=occurred_at,
        source=source,
    )
    seen = [draft.context for draft in drafts if draft.context is not None]
    written = await perform(request, command, len(body), partial(_wait, request, (*expect.values(), *seen)))
    shown = {
        "timestamp": format_timestamp(written.timestamp),
        "events": [describe(event) for event in written.events],
    }
    return Reply(shown, 201, {"location": f"/dots/{written.events[0].dot}"})


async def _wait(request: Request, states: tuple[VersionVector, ...]) -> None:
    await wait_causal(request)
    await request.node.wait_for(reduce(join, states, {}), wait_seconds(request))


def _parse_expect(value: Any) -> dict[str, VersionVector]:
    if not isinstance(value, dict):
        raise Invalid("expect", "must be an object from stream or prefix to token")
    return {
        check_name(name, f"expect.{name}"): parse_scoped(token, name, f"expect.{name}")
        for name, token in value.items()
    }


def _parse_events(value: Any) -> tuple[Draft, ...]:
    if not isinstance(value, list) or not value:
        raise Invalid("events", "must be a list of at least one event")
    drafts: list[Draft] = []
    for place, item in enumerate(value):
        path = f"events[{place}]."
        fields = check_object(item, ("stream", *OPERATIONS, "context"), path)
        stream = check_stream(fields.get("stream"), f"{path}stream")
        drafts.append(parse_draft(fields, stream, parse_state(fields, "context", stream, path), path))
    return tuple(drafts)
