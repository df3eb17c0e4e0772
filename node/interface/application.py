"""The Quart application: every request goes through our own table, on the raw path, and nothing ever redirects."""

from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from node.interface.dispatch import dispatch
from node.interface.reply import Rendered
from node.interface.request import Request
from node.interface.routes import locate
from node.service import Node
from replication.limits import MESSAGE_BYTES_MAX


class Application(QuartTrio):
    """The HTTP interface of one node."""

    def __init__(self, node: Node) -> None:
        super().__init__("atoll", static_folder=None)
        self.node = node
        self.config["MAX_CONTENT_LENGTH"] = MESSAGE_BYTES_MAX

    def create_url_adapter(self, request: Any) -> None:
        """None: what Quart's URL map would read of a request, its host say, need not be what it takes for sound."""

    async def dispatch_request(self, request_context: Any = None) -> Any:
        """Answer by our own table; Quart's URL map is not asked."""
        path: bytes = request.scope.get("raw_path") or request.path.encode()
        headers = {key.lower(): ", ".join(request.headers.getlist(key)) for key in set(request.headers.keys())}
        asked = Request(self.node, request.method, path, "", {}, headers, aiter(request.body))
        answer = await dispatch(asked, locate(path), request.scope["query_string"])
        assert isinstance(answer, Rendered), "what goes on is answered before Quart is asked"
        if not await asked.drain():
            answer.headers["connection"] = "close"
        return self._respond(answer)

    def _respond(self, answer: Rendered) -> Response:
        response = Response(answer.body if request.method != "HEAD" else b"", answer.status)
        response.headers.clear()
        response.headers.update(answer.headers)
        if answer.status != 304:
            response.headers["content-length"] = str(len(answer.body))
        return response
