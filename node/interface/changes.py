"""Incremental sync: every event that a token does not cover, in this node's arrival order.

Arrival order is a causal order, and a cursor is a vector, not a position, so a client goes on in any region where
it left off in another. `token` is the state of the stream or prefix that the client has reached; `cursor` covers
in addition what was looked at beside it, so that resuming does not look at that again. Either may be given as
`after`. Forms: a page of JSON (`wait` makes it a long poll), or a stream that stays open: server-sent events, whose
`id` is the cursor, or one JSON object a line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from crdt.version_vector import VersionVector, join
from node.followers import Part
from node.interface.conditions import wait_causal
from node.interface.content import NDJSON_TYPE, SSE_TYPE, dump_json
from node.interface.events import show_event
from node.interface.listings import resolve_or_problem
from node.interface.reply import Reply, SendPart, Stream
from node.interface.request import Request
from node.limits import EVENT_STREAM_ALIVE_S, WAIT_MAX_S
from node.service import Node
from replication.errors import Invalid
from replication.event import Entry
from replication.limits import PAGE_BYTES_MAX, PAGE_MAX, SCAN_ROWS_MAX
from replication.queries import changes
from replication.snapshot import Snapshot
from replication.stream_name import check_name, is_prefix
from replication.tokens import format_token, parse_scoped

Item = dict[str, Any]
Lines = Callable[[str, list[Item]], Iterator[bytes]]
"""Items, and the cursor after them, as they are sent."""


@dataclass(slots=True)
class Page:
    """Changes that follow a vector.

    Shape: `covered` is everything looked at; `reached` the state of stream or prefix that this comes to; `more`
    whether the log goes on.
    """

    covered: dict[str, int]
    reached: dict[str, int] = field(default_factory=dict)
    events: list[Entry] = field(default_factory=list)
    more: bool = False


def read_page(snapshot: Snapshot, name: str, after: VersionVector, limit: int) -> Page:
    """The next changes of a stream or prefix. A transaction is never split between pages."""
    page, size = Page(dict(after)), 0
    for looked_at, (event, inside) in enumerate(changes(snapshot, name, after)):
        header = event.header
        full = len(page.events) >= limit or looked_at >= SCAN_ROWS_MAX or size >= PAGE_BYTES_MAX
        if full and (header.index == 0 or not is_prefix(name)):
            page.more = True
            break
        page.covered[header.origin] = header.seq
        if inside:
            page.events.append(event)
            size += event.encoded.size
    if not page.more:
        page.covered = join(page.covered, snapshot.vector)
    page.reached = _reached(_state(snapshot, name), snapshot.vector, after, page)
    return page


def _state(snapshot: Snapshot, name: str) -> VersionVector:
    if is_prefix(name):
        return snapshot.prefix(name)
    row = snapshot.stream(name)
    return row.vector if row else {}


def _reached(state: VersionVector, held: VersionVector, after: VersionVector, page: Page) -> dict[str, int]:
    """The state that `after` and the page come to, without what was only looked at on the way."""
    reached: dict[str, int] = {}
    delivered: dict[str, int] = {}
    for event in page.events:
        delivered = join(delivered, {event.header.origin: event.header.seq})
    for origin in after.keys() | state.keys():
        seen = after.get(origin, 0)
        if seen > held.get(origin, 0):
            reached[origin] = seen  # another region's events, which have not arrived here
        elif page.covered.get(origin, 0) >= state.get(origin, 0):
            reached[origin] = state.get(origin, 0)
        else:
            reached[origin] = max(seen, delivered.get(origin, 0))
    return {origin: seq for origin, seq in reached.items() if seq}


@dataclass(frozen=True, slots=True)
class Following:
    """What a client follows, and from where."""

    node: Node
    name: str
    after: VersionVector
    resolved: bool

    def read(self, after: VersionVector, limit: int) -> tuple[Page, list[dict[str, Any]]]:
        """The next page, and its items as they are shown."""
        with self.node.replica.read() as snapshot:
            page = read_page(snapshot, self.name, after, limit)
            if not self.resolved:
                return page, [show_event(event) for event in page.events]
            shown: dict[str, dict[str, Any]] = {}
            size = 0
            for count, event in enumerate(page.events):
                if size >= PAGE_BYTES_MAX:
                    page = read_page(snapshot, self.name, after, count)  # a transaction is whole all the same
                    break
                name = event.header.stream
                if name not in shown:
                    shown[name], took = resolve_or_problem(snapshot, name)
                    size += took
            names = dict.fromkeys(event.header.stream for event in page.events)
            return page, [shown.get(name) or resolve_or_problem(snapshot, name)[0] for name in names]

    def part(self, after: VersionVector, lines: Lines) -> Part:
        """The next page as it is sent to who follows."""
        page, items = self.read(after, PAGE_MAX)
        data = b"".join(lines(self.cursor(page.covered), items)) if items else b""
        return Part(data, page.covered, page.more)

    def cursor(self, vector: VersionVector) -> str:
        return format_token(self.name, vector)


async def read_changes(request: Request) -> Reply | Stream:
    """What changed since a token: a page, a long poll, or a stream that stays open."""
    following = _parse(request)
    limit, wait = request.limit, request.number("wait", 0, 0, WAIT_MAX_S)
    await wait_causal(request)
    match request.form:
        case "text/event-stream":
            return Stream(SSE_TYPE, partial(_follow, following, _server_sent, b"event: caught-up\n", b": alive\n\n"))
        case "application/x-ndjson":
            return Stream(NDJSON_TYPE, partial(_follow, following, _lines, b"", b"\n"))
    after, followers = following.after, request.node.followers
    with trio.move_on_after(wait):
        while True:
            since = followers.round
            page, items = following.read(after, limit)
            if items or page.more or request.node.stopping.is_set() or not wait:
                break
            after = page.covered  # what was of no interest is not read again
            await followers.wait(since)
    shown = {
        "changes": items,
        "token": following.cursor(page.reached),
        "cursor": following.cursor(page.covered),
        "more": page.more,
    }
    return Reply(shown)


def _parse(request: Request) -> Following:
    name = check_name(request.query.get("prefix", ""), "prefix")
    form = request.query.get("form", "events")
    if form not in ("events", "resolved"):
        raise Invalid("form", "is events or resolved")
    after = request.headers.get("last-event-id") or request.query.get("after")
    if after == "now":
        vector: VersionVector = request.node.replica.vector
    else:
        vector = {} if after is None else parse_scoped(after, name, "after")
    return Following(request.node, name, vector, form == "resolved")


async def _follow(following: Following, lines: Lines, caught_up: bytes, alive: bytes, send: SendPart) -> None:
    """Everything that changed, then everything that changes, until the client or the node goes."""
    covered, followers = following.after, following.node.followers
    behind = far = True  # not told yet that this is the end; and there may be more than a page
    while not following.node.stopping.is_set():
        since = followers.round
        place = (following.name, following.resolved, lines, following.cursor(covered))
        make = partial(following.part, covered, lines)
        part = await followers.in_turn(place, make) if far else followers.shared(place, make)
        covered, far = part.covered, part.more
        if part.data:
            await send(part.data)
        if part.more:
            continue
        if behind:
            behind = False
            cursor = following.cursor(covered)
            await send(caught_up + b"".join(lines(cursor, [{"caught_up": cursor}])))
        with trio.move_on_after(EVENT_STREAM_ALIVE_S) as waiting:
            await followers.wait(since)
        if waiting.cancelled_caught:
            await send(alive)


def _server_sent(cursor: str, items: list[Item]) -> Iterator[bytes]:
    """Server-sent events. The cursor goes with the last: whoever resumes from it has had all of them."""
    for item in items[:-1]:
        yield b"data: " + dump_json(item) + b"\n"
    yield b"id: " + cursor.encode() + b"\ndata: " + dump_json(items[-1]) + b"\n"


def _lines(cursor: str, items: list[Item]) -> Iterator[bytes]:
    """One JSON object a line; the last one carries the cursor."""
    for item in items[:-1]:
        yield dump_json(item)
    yield dump_json({**items[-1], "cursor": cursor})
