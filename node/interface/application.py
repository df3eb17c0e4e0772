"""The Quart application: every request goes through our own table, on the raw path, and nothing ever redirects."""

from collections.abc import AsyncIterator
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from node.interface.dispatch import dispatch
from node.interface.reply import Rendered, Stream
from node.interface.request import Request
from node.service import Node
from replication.limits import MESSAGE_BYTES_MAX


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
        answer = await dispatch(asked, request.scope["query_string"])
        if isinstance(answer, Rendered) and not await asked.drain():
            answer.headers["connection"] = "close"
        return self._respond(answer)

    def _respond(self, answer: Rendered | Stream) -> Response:
        if isinstance(answer, Stream) and request.method == "HEAD":
            return Response(b"", 200, {"content-type": answer.media_type})
        if isinstance(answer, Stream):
            headers = {"content-type": answer.media_type, "cache-control": "no-store"}
            response = Response(until_stopped(answer.body), 200, headers)
            response.timeout = None
            return response
        response = Response(answer.body if request.method != "HEAD" else b"", answer.status)
        response.headers.clear()
        response.headers.update(answer.headers)
        if answer.status != 304:
            response.headers["content-length"] = str(len(answer.body))
        return response


async def until_stopped(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts of an answer, whose making is ended in order wherever its sending ends."""
    try:
        async for chunk in body:
            yield chunk
    finally:
        with trio.CancelScope(shield=True):
            await body.aclose()  # type: ignore[attr-defined]  # it is an async generator
