"""The Quart application: every request goes through our own table, on the raw path, and nothing ever redirects."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from node.interface import routes
from node.interface.problems import Problem, problem_of
from node.interface.reply import Rendered, Reply, Stream, render, render_problem
from node.interface.request import Request, parse_query
from node.service import Node
from replication.errors import Refused
from replication.limits import MESSAGE_BYTES_MAX

log = logging.getLogger("atoll.interface")


class Application(QuartTrio):
    """The HTTP interface of one node."""

    def __init__(self, node: Node) -> None:
        super().__init__("atoll", static_folder=None)
        self.node = node
        self.config["MAX_CONTENT_LENGTH"] = MESSAGE_BYTES_MAX
        self.config["RESPONSE_TIMEOUT"] = None

    async def dispatch_request(self, request_context: Any = None) -> Any:
        """Answer by our own table; Quart's URL map is not asked."""
        path: bytes = request.scope.get("raw_path") or request.path.encode()
        headers = {key.lower(): ", ".join(request.headers.getlist(key)) for key in set(request.headers.keys())}
        asked = Request(self.node, request.method, path, "", {}, headers, aiter(request.body))
        try:
            answer = await _answer(asked, request.scope["query_string"])
        except Problem as problem:
            answer = render_problem(problem)
        except Refused as refusal:
            answer = render_problem(problem_of(refusal))
        except Exception:  # our own mistake: say so, in the one form that errors have
            log.exception("%s %s failed", request.method, request.path)
            answer = render_problem(Problem("internal", "this node made a mistake; its log says which"))
        if isinstance(answer, Rendered) and not await asked.drain():
            answer.headers["connection"] = "close"
        return self._respond(answer)

    def _respond(self, answer: Rendered | Stream) -> Response:
        if isinstance(answer, Stream) and request.method == "HEAD":
            return Response(b"", 200, {"content-type": answer.media_type})
        if isinstance(answer, Stream):
            headers = {"content-type": answer.media_type, "cache-control": "no-store"}
            response = Response(_until_stopped(answer.body), 200, headers)
            response.timeout = None
            return response
        response = Response(answer.body if request.method != "HEAD" else b"", answer.status)
        response.headers.clear()
        response.headers.update(answer.headers)
        if answer.status != 304:
            response.headers["content-length"] = str(len(answer.body))
        return response


async def _answer(asked: Request, query: bytes) -> Rendered | Stream:
    route, name = routes.find(asked.method, asked.path)
    named = replace(asked, name=name, query=parse_query(query, route.query))
    answer = await route.handler(named)
    if isinstance(answer, Reply):
        return render(answer, asked.header("accept"), asked.header("if-none-match"))
    return answer


async def _until_stopped(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in body:
            yield chunk
    finally:
        with trio.CancelScope(shield=True):
            await body.aclose()  # type: ignore[attr-defined]  # it is an async generator
