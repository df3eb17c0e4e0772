"""Lists of streams: below a prefix, and many at once."""

from typing import Any

import trio

from node.interface.conditions import wait_causal
from node.interface.cursors import next_link, text_position
from node.interface.drafts import check_object
from node.interface.problems import problem_of
from node.interface.reply import Reply
from node.interface.request import Request
from node.interface.streams import show
from node.limits import RESOLVE_AT_ONCE, RESOLVE_BYTES_AT_ONCE, RESOLVE_BYTES_MAX
from replication.errors import Invalid, Refused, TooLarge
from replication.limits import PAGE_MAX
from replication.queries import list_streams, resolve_stream
from replication.snapshot import Snapshot
from replication.stream_name import check_stream
from replication.tokens import format_token


async def read_prefix(request: Request) -> Reply:
    """List the streams that exist below a prefix, by name."""
    await wait_causal(request)
    start = text_position(request)
    with request.node.replica.read() as snapshot:
        page, following = list_streams(snapshot, request.name, start, request.limit)
        token = format_token(request.name, snapshot.prefix(request.name))
    shown = {
        "prefix": request.name,
        "streams": [{"stream": name, "token": format_token(name, vector)} for name, vector in page],
        "token": token,
    }
    plain = not start and following is None
    variant = "" if plain else f"{start}|{request.limit}"
    return Reply(shown, headers=next_link(request, following), token=token, variant=variant)


async def resolve_many(request: Request) -> Reply:
    """Read many streams at once."""
    value, _ = await request.document()
    names = check_object(value, ("streams",)).get("streams")
    if not isinstance(names, list):
        raise Invalid("streams", "must be a list of stream names")
    if len(names) > PAGE_MAX:
        raise TooLarge(f"{len(names)} streams are asked for; at most {PAGE_MAX} are allowed")
    checked = [check_stream(name, f"streams[{place}]") for place, name in enumerate(names)]
    await wait_causal(request)
    shown: dict[str, tuple[dict[str, Any], int]] = {}
    size = paused = 0
    with request.node.replica.read() as snapshot:
        for count, name in enumerate(checked, 1):
            if name not in shown:
                shown[name] = resolve_or_problem(snapshot, name)
            size += shown[name][1]
            if size > RESOLVE_BYTES_MAX:
                most = f"at most {RESOLVE_BYTES_MAX} bytes of streams are read at once"
                raise TooLarge(f"{most}; ask for fewer of these")
            if count % RESOLVE_AT_ONCE == 0 or size - paused > RESOLVE_BYTES_AT_ONCE:
                paused = size
                await trio.lowlevel.checkpoint()
    return Reply({"streams": [shown[name][0] for name in checked]})


def resolve_or_problem(snapshot: Snapshot, name: str) -> tuple[dict[str, Any], int]:
    """A stream resolved, or why not, as an item of a list; and how many bytes were read for it, about."""
    try:
        answer = resolve_stream(snapshot, name)
    except Refused as refusal:
        return {"stream": name, **problem_of(refusal).document}, 0
    listed = sum(len(member) for members in answer.sets.values() for member in members)
    return show(answer), answer.row.size + listed
