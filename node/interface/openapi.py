"""The interface described for machines, from the same table that dispatches it (OpenAPI 3.1)."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from node.interface.content import JSON_TYPE, MERGE_PATCH_TYPE, MSGPACK_TYPE, NDJSON_TYPE, PROBLEM_TYPE
from node.interface.problems import PREFIX, TYPES

if TYPE_CHECKING:
    from node.interface.routes import Route

TOKEN = {"type": "string", "description": "scope~origin.seq_origin.seq"}
ELEMENTS = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    "minProperties": 1,
}
OPERATIONS = {
    "set": {"type": "object", "description": "Registers to write; null clears", "minProperties": 1},
    "add": {**ELEMENTS, "description": "Elements to add to sets"},
    "remove": {**ELEMENTS, "description": "Elements to remove from sets"},
    "delete": {"const": True, "description": "Reset every field that was seen; stands alone"},
}
PROVENANCE = {
    "occurred_at": {"type": "string", "format": "date-time", "description": "When it happened, where not now"},
    "source": {
        "type": "object",
        "description": "Where it was imported from; a repeat is skipped",
        "properties": {"name": {"type": "string"}, "position": {"type": ["integer", "string"]}},
        "required": ["name", "position"],
        "additionalProperties": False,
    },
}
LINE = {
    "context": {**TOKEN, "description": "What the author had seen of the stream"},
    "expect": {**TOKEN, "description": "The stream is exactly there, else this line is refused"},
}
BODIES: dict[str, dict[str, Any]] = {
    "event": {"type": "object", "properties": {**OPERATIONS, **PROVENANCE}, "additionalProperties": False},
    "merge-patch": {"type": "object", "description": "RFC 7396, onto the registers", "minProperties": 1},
    "transaction": {
        "type": "object",
        "properties": {
            "events": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {"stream": {"type": "string"}, **OPERATIONS},
                    "required": ["stream"],
                    "additionalProperties": False,
                },
            },
            "expect": {"type": "object", "additionalProperties": TOKEN},
            **PROVENANCE,
        },
        "required": ["events"],
        "additionalProperties": False,
    },
    "streams": {
        "type": "object",
        "properties": {"streams": {"type": "array", "items": {"type": "string"}}},
        "required": ["streams"],
        "additionalProperties": False,
    },
    "view-change": {
        "type": "object",
        "properties": {"do": {"enum": ["rebuild", "switch", "drop"]}, "build": {"type": "integer"}},
        "required": ["do"],
        "additionalProperties": False,
    },
}
WRITE_HEADERS = {
    "If-Match": 'A token in quotes: the stream is exactly there, else 412. "*": it exists',
    "If-None-Match": "*: the stream does not exist",
    "Causal-Context": "The token that the author had read: what the write may supersede",
    "Idempotency-Key": "A name for this request: asked again, it is answered the same and done once",
    "Idempotency-Fingerprint": "What tells this request from another under its key [a hash of it], in hexadecimal",
    "Atoll-Actor": "Who writes [anonymous]",
}
WAIT_HEADERS = {
    "Causal-After": "Tokens, of any scope, that this node must hold first",
    "Prefer": "wait=SECONDS: how long to wait for them [2, at most 30]",
}
WRITING = {"event", "merge-patch", "transaction"}


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
        "components": {
            "schemas": {
                "problem": {
                    "type": "object",
                    "properties": {
                        "type": {"enum": [PREFIX + kind for kind in TYPES]},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                    },
                    "required": ["type", "title", "status", "detail"],
                }
            }
        },
    }


def _operation(route: "Route") -> dict[str, Any]:
    name = route.path[route.path.find("{") + 1 : route.path.find("}")] if "{" in route.path else None
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}] if name else []
    parameters += [_parameter(name, "query", text) for name, text in (route.query or {}).items()]
    parameters += [_parameter(name, "header", text) for name, text in _headers(route).items()]
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            "201" if route.body in WRITING or route.method == "DELETE" else "200": {"description": "Done"},
            "default": {
                "description": "A problem",
                "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/problem"}}},
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.body)}
    return operation


def _operation_id(route: "Route") -> str:
    if route.query is None:  # one handler for every method: what it does is another document's to say
        return f"{route.handler.__name__}_{route.method.lower()}"
    return route.handler.__name__ + ("_below" if route.path.endswith("}/") else "")


def _headers(route: "Route") -> dict[str, str]:
    if route.path in ("/gossip", "/status", "/healthz", "/readyz", "/openapi.json", "/"):
        return {}
    writes = route.body in WRITING or route.method == "DELETE"
    headers = {**WRITE_HEADERS, **WAIT_HEADERS} if writes else dict(WAIT_HEADERS)
    if route.body == "lines":
        headers |= {
            "Atoll-Actor": WRITE_HEADERS["Atoll-Actor"],
            "Prefer": f"return=minimal: only what was refused, and the summary; {WAIT_HEADERS['Prefer']}",
        }
    if route.body == "transaction":
        headers = {name: text for name, text in headers.items() if name not in list(WRITE_HEADERS)[:3]}
    return headers


def _parameter(name: str, place: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": place, "description": text, "schema": {"type": "string"}}


def _content(body: str) -> dict[str, Any]:
    if body == "lines":
        item = {"type": "object", "properties": {"stream": {"type": "string"}, **OPERATIONS, **LINE, **PROVENANCE}}
        lines = {"schema": {"description": "One event a line (NDJSON), or one msgpack map after another", **item}}
        return {NDJSON_TYPE: lines, MSGPACK_TYPE: lines}
    if body == "message":
        return {MSGPACK_TYPE: {"schema": {"description": "A message of the gossip protocol"}}}
    media_type = MERGE_PATCH_TYPE if body == "merge-patch" else JSON_TYPE
    schema = {"schema": BODIES[body]}
    return {media_type: schema, MSGPACK_TYPE: schema}
