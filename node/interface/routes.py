"""The route table: what dispatches, what documents itself at /openapi.json, and what tests walk.

A path is fixed, or a collection followed by a name: `{stream}`, `{prefix}/` (ending in a slash, or empty: the root),
or `{dot}`. Names are taken from the raw path by one parser.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from node.interface import (
    changes,
    conflicts,
    directory,
    events,
    ingest,
    listings,
    openapi,
    peers,
    status,
    streams,
    transactions,
    views,
)
from node.interface.content import JSON_TYPE, MSGPACK_TYPE, NDJSON_TYPE, SCIM_TYPE, SSE_TYPE
from node.interface.problems import Problem
from node.interface.reply import Rendered, Reply, Stream, accepted
from node.interface.request import Request
from replication.stream_name import ROOT, parse_path

Handler = Callable[[Request], Awaitable[Reply | Rendered | Stream]]

PAGED = {
    "limit": "Items a page [100, at most 1,000]",
    "cursor": "Where the page before ended, from its Link header",
}


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Shape: `answer` and `body` name schemas; `forms` are the media types of the answer; `query` maps each parameter to
    what it does, None takes any; `hot` is what is asked so often that no framework comes first.
    """

    method: str
    path: str
    handler: Handler
    answer: str
    query: Mapping[str, str] | None = field(default_factory=dict)
    body: str | None = None
    hot: bool = False
    forms: tuple[str, ...] = (JSON_TYPE, MSGPACK_TYPE)

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or "").strip().splitlines()[0]

    def form(self, accept: str | None) -> str:
        """The media type to answer in; where there is but one, whatever is asked for.

        Raises: Problem (not-acceptable).
        """
        return self.forms[0] if len(self.forms) == 1 else accepted(accept, self.forms)


async def read_openapi(request: Request) -> Reply:
    """This interface, as OpenAPI 3.1."""
    return Reply(openapi.describe(ROUTES))


ROUTES: tuple[Route, ...] = (
    Route("POST", "/streams/{stream}", streams.write_event, "written", body="event", hot=True),
    Route("PATCH", "/streams/{stream}", streams.merge_patch, "written", body="merge-patch", hot=True),
    Route("DELETE", "/streams/{stream}", streams.delete_stream, "written", hot=True),
    Route(
        "GET",
        "/streams/{stream}",
        streams.read_stream,
        "stream",
        {
            "conflicts": "true adds the writes that lost",
            "follow": "true adds the fields that were split off to other streams",
            "at": "A token of this stream, or a time: the stream as it was",
            "set": "One set, paged",
            "contains": "With set: whether it has this element",
            **PAGED,
        },
        hot=True,
    ),
    Route("GET", "/streams/{prefix}/", listings.read_prefix, "listing", PAGED),
    Route("GET", "/events/{stream}", events.read_events, "log", PAGED),
    Route("GET", "/events/{prefix}/", events.read_events, "log", PAGED),
    Route("GET", "/dots/{dot}", events.read_dot, "event"),
    Route(
        "GET",
        "/changes",
        changes.read_changes,
        "changes",
        {
            "prefix": "A stream, or a prefix with its final slash [the root]",
            "after": "A token or cursor of it; `now` starts with what comes next",
            "wait": "Seconds to wait for a change [0, at most 30]",
            "form": "`events`, or `resolved` for each changed stream once [events]",
            "limit": PAGED["limit"],
        },
        hot=True,
        forms=(JSON_TYPE, MSGPACK_TYPE, SSE_TYPE, NDJSON_TYPE),
    ),
    Route("POST", "/transactions", transactions.write_transaction, "transaction", body="transaction", hot=True),
    Route("POST", "/ingest", ingest.ingest, "outcome", body="line", hot=True, forms=(NDJSON_TYPE,)),
    Route("POST", "/resolve", listings.resolve_many, "streams", body="streams", hot=True),
    Route("GET", "/conflicts", conflicts.read_conflicts, "conflicts", {"prefix": "Only below this prefix", **PAGED}),
    Route("GET", "/views", views.list_views, "views"),
    Route(
        "GET",
        "/views/{view}",
        views.read_view,
        "rows",
        {
            "key": "Rows at this key",
            "from": "Rows from this key on",
            "to": "Rows up to this key",
            "q": "Rows whose key holds this text",
            **PAGED,
        },
    ),
    Route("POST", "/views/{view}", views.change_view, "view", body="view-change"),
    *(
        Route(method, "/scim/v2/{path}", directory.scim, "scim", None, hot=True, forms=(SCIM_TYPE,))
        for method in directory.METHODS
    ),
    Route("POST", "/gossip", peers.exchange, "message", body="message", hot=True, forms=(MSGPACK_TYPE,)),
    Route("GET", "/status", status.read_status, "status"),
    Route("GET", "/healthz", status.read_health, "health"),
    Route("GET", "/readyz", status.read_readiness, "readiness"),
    Route("GET", "/openapi.json", read_openapi, "openapi"),
    Route("GET", "/", status.read_status, "status"),
)

_BY_PATH: dict[str, dict[str, Route]] = {}
for _route in ROUTES:
    _BY_PATH.setdefault(_route.path, {})[_route.method] = _route

Place = tuple[str, bytes]
"""A path as the table has it, and the name that it ends in, as it was sent."""

_COLLECTIONS = {b"streams": "streams", b"events": "events", b"dots": "dots", b"views": "views", b"scim": "scim"}
_BARE = {"dots": "/dots/{dot}", "views": "/views/{view}", "scim": "/scim/v2/{path}"}
"""Collections whose names are not streams."""


def find(method: str, place: Place) -> tuple[Route, str]:
    """The route of a request, and the name that its path ends in.

    Raises: Problem (unknown-route, method-not-allowed with `Allow`); Invalid, for a name that is none.
    """
    template, raw = place
    bare = template in _BARE.values()
    name = raw.decode("ascii", "replace") if bare else parse_path(raw) if raw else ROOT
    here = _BY_PATH.get(template)
    if here is None:
        raise Problem("unknown-route", "nothing is at this path; /openapi.json lists what is")
    if method == "HEAD" and "GET" in here:
        method = "GET"
    if method not in here:
        allowed = sorted({*here, "HEAD"} if "GET" in here else here)
        detail = f"{method[:32]} is not for this path; it takes {', '.join(allowed)}"
        raise Problem("method-not-allowed", detail, headers={"allow": ", ".join(allowed)})
    return here[method], name


def is_hot(method: str, place: Place) -> bool:
    """Whether no framework comes first: for what is asked most, and for what nothing is there to answer."""
    route = _BY_PATH.get(place[0], {}).get("GET" if method == "HEAD" else method)
    return route is None or route.hot


def locate(path: bytes) -> Place:
    """Where a path lies in the table."""
    collection, slash, rest = path.removeprefix(b"/").partition(b"/")
    kind = _COLLECTIONS.get(collection) if slash else None
    if kind is None:
        return path.decode("ascii", "replace"), b""
    if kind in _BARE:
        return _BARE[kind], rest
    return f"/{kind}/{{prefix}}/" if not rest or rest.endswith(b"/") else f"/{kind}/{{stream}}", rest
