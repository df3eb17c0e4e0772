"""`/scim/v2`: SCIM 2.0 (RFC 7643, 7644) over the directory, with its own media type and errors.

What the other interfaces do with tokens holds here too: a resource's tag carries its token, `If-Match` compares and
sets, `Causal-After` waits, also for the views that an answer draws on.
"""

import logging
from functools import cache

from scim2_models import Error, SCIMException
from scim2_server.requests import ScimRequest
from scim2_server.responses import SCIM_MEDIA_TYPE, ScimResponse

from crdt.version_vector import VersionVector
from node.directory.aside import aside
from node.directory.bounds import check_bounds
from node.directory.handler import DirectoryHandler
from node.directory.passwords import without_passwords
from node.directory.refusals import scim_error_of
from node.directory.service import DirectoryService
from node.directory.storage import Asking, DirectoryStorage
from node.interface.conditions import causal_vector, tokens_in, wait_causal, wait_seconds
from node.interface.content import dump_json
from node.interface.problems import MISTAKE, Problem
from node.interface.reply import COMMON, Rendered
from node.interface.request import ClientGone, Request
from node.interface.writing import actor_of, named
from node.limits import SCIM_ASIDE_BYTES
from replication.errors import Invalid, Refused
from replication.tokens import parse_token

log = logging.getLogger("atoll.scim")

ROOT = "/scim/v2"
_WRITES = ("POST", "PUT", "PATCH")
_service = cache(DirectoryService)


async def scim(request: Request) -> Rendered:
    """Answer a request to the directory."""
    service = _service(request.node.configuration.cluster)
    headers: dict[str, str] = {}
    try:
        response = await _serve(request, service)
    except SCIMException as error:
        response = service.error_response(error)
    except Problem as problem:
        response = _error(service, problem.status, problem.detail)
        headers |= problem.headers
    except Refused as refusal:
        response = service.error_response(scim_error_of(refusal))
    except ClientGone:
        raise
    except UnicodeError:
        response = _error(service, 400, "the request holds text that is not Unicode", "invalidValue")
    except Exception:  # our own mistake: say so, in the form that this interface's errors have
        log.exception("%s %r failed", request.method, request.path)
        response = _error(service, 500, MISTAKE)
    if response.status == 503:
        headers.setdefault("retry-after", "1")
    return _render(response, headers)


async def _serve(request: Request, service: DirectoryService) -> ScimResponse:
    path = request.path.decode("ascii", "replace").removeprefix(ROOT) or "/"
    body = b""
    if request.method in _WRITES:
        body = await request.content()
        large = len(body) > SCIM_ASIDE_BYTES
        await aside(large, check_bounds, path, body)
        body = await aside(large, without_passwords, body, request.node.configuration.passwords)
    await wait_causal(request)
    await _wait_for_condition(request)
    asking = _asking(request, body)
    handler = DirectoryHandler(service, DirectoryStorage(request.node, asking))
    answer: ScimResponse = await handler.handle(
        ScimRequest(
            method="GET" if request.method == "HEAD" else request.method,
            base_url=_base_url(request),
            path=path,
            query=request.query,
            headers=request.headers,
            body=body,
        )
    )
    return answer


def _asking(request: Request, body: bytes) -> Asking:
    context = request.headers.get("causal-context")
    return Asking(
        actor=actor_of(request),
        named=named(request, body) if request.method != "GET" else None,
        after=causal_vector(request),
        context=None if context is None else tokens_in(context)[0],
        wait_s=wait_seconds(request),
        whole=request.method in ("POST", "PUT")
        or "attributes" in request.query
        or "excludedAttributes" in request.query,
    )


async def _wait_for_condition(request: Request) -> None:
    """Wait for the state of If-Match, where it is ahead of this node. Raises: NotCaughtUp; LostDots."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return
    vectors: list[VersionVector] = []
    for text in tokens_in(header):
        try:
            vectors.append(parse_token(text, "If-Match").vector)
        except Invalid:
            continue  # a tag of another service's: it matches nothing here
    if len(vectors) == 1:
        await request.node.wait_for(vectors[0], wait_seconds(request))


def _base_url(request: Request) -> str:
    """Where the client reaches this interface."""
    configured = request.node.configuration.public_url
    if configured:
        return configured.rstrip("/") + ROOT
    return f"http://{request.headers.get('host') or 'localhost'}{ROOT}"


def _error(service: DirectoryService, status: int, detail: str, kind: str | None = None) -> ScimResponse:
    error = Error(status=status, detail=detail, scim_type=kind)
    return service.error_response(SCIMException.from_error(error))


def _render(response: ScimResponse, headers: dict[str, str]) -> Rendered:
    shown = {**COMMON, **{name.lower(): value for name, value in response.headers.items()}, **headers}
    if response.body is None:
        shown.pop("content-type", None)
        return Rendered(int(response.status), shown, b"")
    shown["content-type"] = SCIM_MEDIA_TYPE
    return Rendered(int(response.status), shown, dump_json(response.body))
