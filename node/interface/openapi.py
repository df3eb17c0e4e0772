"""The interface described for machines, from the same table that dispatches it (OpenAPI 3.1)."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from node.interface.content import (
    JSON_TYPE,
    MERGE_PATCH_TYPE,
    MSGPACK_TYPE,
    NDJSON_TYPE,
    PROBLEM_TYPE,
    SSE_TYPE,
)
from node.interface.schemas import BODIES, COMPONENTS, DOT, NAME, TEXT, Schema, ref
from node.limits import WAIT_MAX_S
from replication.limits import PAGE_MAX

if TYPE_CHECKING:
    from node.interface.routes import Route

QUERY: dict[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX},
    "wait": {"type": "integer", "minimum": 0, "maximum": WAIT_MAX_S},
    "conflicts": {"type": "boolean"},
    "follow": {"type": "boolean"},
    "form": {"enum": ["events", "resolved"]},
}
"""Parameters that are not any text."""
TOKENS: Schema = {"type": "string", "pattern": "^[^~]*[0-9a-f]{8}~"}
Headers = dict[str, tuple[str, Schema]]
"""What each does, and what it may be."""
CONDITIONS: Headers = {
    "If-Match": (
        'A token in quotes: the stream is exactly there, else 412. "*": it exists',
        {"type": "string", "pattern": r'^(\*|"[0-9a-f]{8}~[^"]*")'},
    ),
    "If-None-Match": ("*: the stream does not exist", {"const": "*"}),
    "Causal-Context": ("The token that the author had read: what the write may supersede", TOKENS),
}
WRITES: Headers = {
    "Idempotency-Key": ("A name for this request: asked again, it is answered the same and done once", NAME),
    "Idempotency-Fingerprint": (
        "What tells this request from another under its key [a hash of it], in hexadecimal",
        {"type": "string", "pattern": "^[0-9a-f]+$"},
    ),
    "Atoll-Actor": ("Who writes [anonymous]", NAME),
}
WAIT = "wait=SECONDS: how long to wait for them [2, at most 30]"
WAITS: Headers = {
    "Causal-After": ("Tokens, of any scope, that this node must hold first", TOKENS),
    "Prefer": (WAIT, TEXT),
}
READS: Headers = {"If-None-Match": ("Tags: 304 where the state still has one of them", TEXT)}
TAGGED = {"stream", "listing", "rows"}
"""Answers that have an ETag, and are left out where the client has them."""
BODY_TYPES = {
    "message": (MSGPACK_TYPE,),
    "line": (NDJSON_TYPE, MSGPACK_TYPE),
    "merge-patch": (MERGE_PATCH_TYPE, JSON_TYPE, MSGPACK_TYPE),
}
"""Media types other than JSON and msgpack."""
FOLLOWED: dict[str, Schema] = {
    SSE_TYPE: TEXT,
    NDJSON_TYPE: {
        "type": "object",
        "description": "A change a line, as on a page; the last for now has the cursor beside it. An item"
        " `caught_up` says that there is nothing more yet",
    },
}
"""What is sent of changes to who follows."""
UNCHANGED = {"description": "The client has this state"}
PROBLEM = {PROBLEM_TYPE: {"schema": ref("problem")}}
BARE = {"message", "views", "view", "status", "health", "readiness", "openapi"}
"""Answers to what takes no headers of ours."""


def describe(routes: "Iterable[Route]") -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Atoll",
            "version": version("atoll"),
            "description": "A multi-region CRDT replication node. Conditions hold per region.",
        },
        "paths": paths,
        "components": {"schemas": COMPONENTS},
    }


def _operation(route: "Route") -> dict[str, Any]:
    name = route.path[route.path.find("{") + 1 : route.path.find("}")] if "{" in route.path else None
    path = {"name": name, "in": "path", "required": True, "schema": DOT if name == "dot" else TEXT}
    parameters = [path] if name else []
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": QUERY.get(name, TEXT)}
        for name, text in (route.query or {}).items()
    ]
    parameters += [
        {"name": name, "in": "header", "description": text, "schema": schema}
        for name, (text, schema) in _headers(route).items()
    ]
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "parameters": parameters,
        "responses": _responses(route),
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.body)}
    return operation


def _operation_id(route: "Route") -> str:
    name = route.handler.__name__
    if route.query is None:  # one handler for every method: what it does is another document's to say
        return f"{name}_{route.method.lower()}"
    return name + ("_at_root" if route.path == "/" else "_below" if route.path.endswith("}/") else "")


def _headers(route: "Route") -> Headers:
    if route.answer in BARE:
        return {}
    if route.answer == "outcome":
        minimal = "return=minimal: only what was refused, and the summary"
        return {"Atoll-Actor": WRITES["Atoll-Actor"], **WAITS, "Prefer": (f"{minimal}; {WAIT}", TEXT)}
    if route.answer == "transaction":
        return WRITES | WAITS
    if route.answer == "written" or (route.answer == "scim" and route.method != "GET"):
        return CONDITIONS | WRITES | WAITS
    return READS | WAITS if route.answer in {*TAGGED, "scim"} else WAITS


def _responses(route: "Route") -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done", "content": _answers(route)}
    headers = _answer_headers(route)
    if headers:
        done["headers"] = {name: {"description": text, "schema": TEXT} for name, text in headers.items()}
    if route.answer == "scim":
        error = {"description": "An error of SCIM's", "content": _answers(route)}
        return {"2XX": {**done, "description": "As RFC 7644 has it"}, "304": UNCHANGED, "default": error}
    responses: dict[str, Any] = {
        "201" if route.answer in ("written", "transaction") else "200": done,
        "default": {"description": "A problem", "content": PROBLEM},
    }
    if route.answer in TAGGED:
        responses["304"] = UNCHANGED
    if route.answer == "readiness":
        responses["503"] = {"description": "Not ready", "content": _answers(route)}
    if route.answer == "message":
        untaken = "Nothing of the message could be taken"
        responses["400"] = {"description": untaken, "content": {**_answers(route), **PROBLEM}}
    return responses


def _answers(route: "Route") -> dict[str, Any]:
    """What is answered, by media type."""
    schema = ref(route.answer)
    if route.answer == "stream":
        schema = {"anyOf": [ref("stream"), ref("members"), ref("membership")]}
    followed = FOLLOWED if route.answer == "changes" else {}
    return {form: {"schema": followed.get(form, schema)} for form in route.forms}


def _answer_headers(route: "Route") -> dict[str, str]:
    headers: dict[str, str] = {}
    if route.answer in TAGGED or route.answer in ("written", "scim"):
        headers["ETag"] = "The token, and what tells this showing of the state from others"
    if route.answer in ("written", "transaction", "scim"):
        headers["Location"] = "What was written"
    if "cursor" in (route.query or {}):
        headers["Link"] = 'rel="next": the next page'
    return headers


def _content(body: str) -> dict[str, Any]:
    return {one: {"schema": BODIES[body]} for one in BODY_TYPES.get(body, (JSON_TYPE, MSGPACK_TYPE))}
