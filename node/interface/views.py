"""Views: asking one by key, range or text; what there are and how far each build has come; building and switching."""

from typing import Any

from node.interface.conditions import causal_vector, wait_causal, wait_seconds
from node.interface.cursors import decode_cursor, next_link
from node.interface.drafts import check_object
from node.interface.reply import Reply
from node.interface.request import Request
from node.views.index import Build
from node.views.query import BEGINNING, Place, page, search
from node.views.view import View
from replication.errors import Invalid
from replication.stream_name import ROOT
from replication.tokens import format_token

ACTIONS = ("rebuild", "switch", "drop")


async def read_view(request: Request) -> Reply:
    """Rows of a view: at a key, between two, or of those that hold a text; each as its stream resolves now."""
    await wait_causal(request)
    name, query = request.name, request.query
    await have_shown(request, name)
    kinds = [one for one in ("key", "q") if one in query] + (["from"] if {"from", "to"} & query.keys() else [])
    if len(kinds) > 1:
        raise Invalid(kinds[0], "is not asked together with another of key, q, and from and to")
    after = _after(request)
    with request.node.replica.read() as snapshot:
        if kinds == ["q"]:
            hits, following = search(request.node.views, snapshot, name, query["q"], after, request.limit)
        else:
            first, last = query.get("key", query.get("from", "")), query.get("key", query.get("to"))
            hits, following = page(request.node.views, snapshot, name, first, last, after, request.limit)
        now = snapshot.vector
    _, build = request.node.views.serving(name)
    watermark = format_token(ROOT, build.vector)
    shown = {
        "view": name,
        "version": build.version,
        "rows": [{"key": hit.row.key, "stream": hit.stream, "columns": dict(hit.row.columns)} for hit in hits],
        "watermark": watermark,
    }
    # Rows are as their streams are now, found by what the view shows: the answer is of both states.
    asked = sorted(f"{one}={query[one]}" for one in query)
    variant = "|".join((name, str(build.number), watermark, *asked))
    return Reply(shown, headers=next_link(request, following), token=format_token(ROOT, now), variant=variant)


async def have_shown(request: Request, name: str) -> None:
    """Wait until a view shows what was asked for, and, not for long, whatever this node holds by now.

    Raises: ViewBehind; UnknownView; ViewBuilding.
    """
    await request.node.views.catch_up(name, causal_vector(request), wait_seconds(request))


def _after(request: Request) -> Place:
    match decode_cursor(request):
        case None:
            return BEGINNING
        case [str(key), str(stream)]:
            return key, stream
    raise Invalid("cursor", "is not a cursor that this node gave")


async def list_views(request: Request) -> Reply:
    """Every view, and how far each of its builds has come."""
    return Reply({"views": describe_views(request)})


def describe_views(request: Request) -> dict[str, Any]:
    """Views by name, each with its builds."""
    shown: dict[str, Any] = {}
    held = request.node.replica.mirror
    for view, build in request.node.views.builds():
        about = shown.setdefault(build.view, {"serving": None, "builds": []})
        if build.serving:
            about["serving"] = build.number
        about["builds"].append(_describe(request, view, build, held.position))
    return shown


def _describe(request: Request, view: View | None, build: Build, position: int) -> dict[str, Any]:
    state = "orphaned" if view is None else "scanning" if build.scanning is not None else "following"
    shown = {
        **summarize(build, position),
        "state": state,
        "entries": request.node.views.count(build),
        "failures": build.failures,
        "watermark": format_token(ROOT, build.vector),
    }
    if build.scanning is not None:
        shown |= {"scanned": build.streams, "streams": request.node.replica.mirror.streams}
    return shown


def summarize(build: Build, position: int) -> dict[str, Any]:
    """Which build it is, and how far it has come."""
    return {
        "build": build.number,
        "version": build.version,
        "serving": build.serving,
        "behind": max(0, position - build.position),
    }


async def change_view(request: Request) -> Reply:
    """Build a view anew beside what serves, switch to a build, or drop one."""
    value, _ = await request.document()
    fields = check_object(value, ("do", "build"))
    action, number = fields.get("do"), fields.get("build")
    if action not in ACTIONS:
        raise Invalid("do", f"is one of {', '.join(ACTIONS)}")
    views, name = request.node.views, request.name
    if action == "rebuild":
        number = views.rebuild(name).number
        request.node.wake()
    elif not isinstance(number, int) or isinstance(number, bool):
        raise Invalid("build", "is the number of a build, as GET /views lists them")
    elif action == "switch":
        views.switch(name, number)
    else:
        views.drop(name, number)
    return Reply({"view": name, "build": number, **describe_views(request).get(name, {})})
