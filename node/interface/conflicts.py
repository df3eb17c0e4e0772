"""What waits for somebody to look at: writes that lost, values that two users claim, fields written after a split.

Everything shows both sides. A list goes by the streams' names, whatever each is listed for.
"""

from typing import Any

from node.directory.claims import Claim, contested
from node.directory.names import CLAIMS
from node.interface.conditions import wait_causal
from node.interface.cursors import next_link, text_position
from node.interface.moments import format_timestamp
from node.interface.reply import Reply
from node.interface.request import Request
from node.interface.streams import show_conflicts
from node.interface.views import have_shown
from node.views.index import last_with
from node.views.state import MOVED_TO, own_state, strays_of
from node.views.views import Views
from replication.errors import Invalid
from replication.limits import PAGE_MAX
from replication.origin import region_of
from replication.queries import fitting, list_conflicts
from replication.snapshot import Snapshot
from replication.stream_name import check_name, is_prefix
from replication.tokens import format_token

VIEWS = ("contested-claims", "split-streams")


async def read_conflicts(request: Request) -> Reply:
    """List the streams with live conflicts, contested claims, and fields written after they were split off."""
    prefix = check_name(request.query.get("prefix", ""), "prefix")
    if not is_prefix(prefix):
        raise Invalid("prefix", "ends with '/'")
    await wait_causal(request)
    for view in VIEWS:
        await have_shown(request, view)
    start, limit = text_position(request), request.limit
    with request.node.replica.read() as snapshot:
        names, following = list_conflicts(snapshot, prefix, start, limit)
        listed = set(names)
        for view in VIEWS:
            found = _keys(request.node.views, view, prefix, start)
            if len(found) > PAGE_MAX:
                following = min(following or found[-1], found[-1])
            listed |= set(found)
        page = sorted(name for name in listed if following is None or name < following)
        count = fitting(snapshot, page[:limit])
        following = page[count] if len(page) > count else following
        shown = [item for name in page[:count] if (item := _describe(snapshot, name)) is not None]
    return Reply({"conflicts": shown}, headers=next_link(request, following))


def _keys(views: Views, name: str, prefix: str, start: str) -> list[str]:
    """The streams that a view names below a prefix, from one on: up to one more than a page may have."""
    with views.reading(name) as (_, build, index):
        entries = index.between(build, max(start, prefix), last_with(prefix), ("", ""), PAGE_MAX + 1)
    return [key for key, _ in entries]


def _describe(snapshot: Snapshot, name: str) -> dict[str, Any] | None:
    """What there is to look at in a stream; None where that is over."""
    row = snapshot.stream(name)
    if row is None or row.opaque:
        return None
    shown: dict[str, Any] = {"stream": name}
    lost = show_conflicts(snapshot, row.registers)
    if lost:
        registers = row.registers
        shown["fields"] = {
            field: {"value": registers[field][0].value, "lost": writes} for field, writes in lost.items()
        }
    if name.startswith(CLAIMS):
        claim = contested(snapshot, name)
        if claim is not None:
            attribute, value, (first, *others) = claim
            shown["claim"] = {
                "attribute": attribute,
                "value": value,
                "holds": _show_claim(first),
                "waits": [_show_claim(other) for other in others],
            }
    if MOVED_TO in row.stored:
        strays = strays_of(own_state(snapshot, name, row))
        if strays is not None:
            sets = {field: list(members) for field, members in strays.sets.items()}
            shown["strays"] = {"registers": dict(strays.registers), "sets": sets}
    return shown | {"token": format_token(name, row.vector)} if len(shown) > 1 else None


def _show_claim(claim: Claim) -> dict[str, str]:
    return {
        "stream": claim.stream,
        "dot": f"{claim.origin}.{claim.seq}",
        "region": region_of(claim.origin),
        "timestamp": format_timestamp(claim.timestamp),
    }
