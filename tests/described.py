"""Every answer that a test's client is given is held to what /openapi.json says of it."""

import json
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no annotations

from node.interface import openapi, routes
from node.interface.content import JSON_TYPE, PROBLEM_TYPE, SCIM_TYPE
from node.interface.problems import Problem
from replication.errors import Invalid

HEADERS = ("etag", "location", "link")


@cache
def _document() -> dict[str, Any]:
    return openapi.describe(routes.ROUTES)


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": _document()["components"]})


async def check_answer(response: httpx.Response) -> None:
    """A hook of httpx's."""
    request = response.request
    try:
        route, _ = routes.find(request.method, routes.locate(request.url.raw_path.partition(b"?")[0]))
    except (Problem, Invalid):
        described = {"content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/problem"}}}}
    else:
        described = _described(_document()["paths"][route.path][route.method.lower()]["responses"], response)
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if response.is_success:
        headers = {name.lower() for name in described.get("headers", {})}
        assert {name for name in HEADERS if name in response.headers} <= headers, (request.method, request.url)
    if response.status_code in (204, 304) or request.method == "HEAD":
        return
    assert media_type in described["content"], (request.method, request.url, media_type, described)
    if media_type in (JSON_TYPE, PROBLEM_TYPE, SCIM_TYPE):
        await response.aread()
        schema = json.dumps(described["content"][media_type]["schema"])
        _validator(schema).validate(response.json())


def _described(responses: dict[str, Any], response: httpx.Response) -> dict[str, Any]:
    status = str(response.status_code)
    found: dict[str, Any] = responses.get(status) or responses.get(f"{status[0]}XX") or responses["default"]
    assert response.is_error or found is not responses["default"], f"{status} is not described"
    return found
