"""The interface's documents as JSON schemas (2020-12): what is sent, and what is answered.

Whatever is answered is described whole: a member that is not listed is a mistake, here or in what answers, and the
tests hold every answer that they see to this. What is sent is described as far as a schema can; limits in bytes and
what depends on the state are the handlers' to check.
"""

from typing import Any

from node.interface.problems import PREFIX, TYPES
from replication.limits import PAGE_MAX

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
VALUE: Schema = {"description": "Any JSON"}
TOKEN: Schema = {
    "type": "string",
    "pattern": "^[0-9a-f]{8}~",
    "description": "scope~origin.seq_origin.seq: a state of a stream, a prefix or the whole store (the empty prefix)",
}
DOT: Schema = {"type": "string", "pattern": r"^.+\.[0-9a-f]{8}\.[1-9][0-9]*$", "description": "origin.seq"}
TIMESTAMP: Schema = {
    "type": "string",
    "format": "date-time",
    "description": "Three digits of milliseconds and five of a counter; texts sort as the timestamps do",
}
CHAIN: Schema = {"type": "string", "pattern": "^[0-9a-f]+$", "description": "Hash over the event and all before it"}


def _object(optional: Schema | None = None, /, **required: Schema) -> Schema:
    """An object of these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _map(value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": value}


def ref(name: str) -> Schema:
    """A schema of `COMPONENTS`, by reference."""
    return {"$ref": f"#/components/schemas/{name}"}


# --- what is sent

ELEMENTS: Schema = {
    "type": "object",
    "propertyNames": NAME,
    "additionalProperties": {"type": "array", "items": NAME, "minItems": 1},
    "minProperties": 1,
}
OPERATIONS: dict[str, Schema] = {
    "set": {
        "type": "object",
        "description": "Registers to write; null clears",
        "propertyNames": NAME,
        "additionalProperties": VALUE,
        "minProperties": 1,
    },
    "add": {**ELEMENTS, "description": "Elements to add to sets"},
    "remove": {**ELEMENTS, "description": "Elements to remove from sets"},
    "delete": {"const": True, "description": "Reset every field that was seen; stands alone"},
}
SEEN: Schema = {**TOKEN, "description": "What the author had seen of the stream"}
DOES_SOMETHING: Schema = {
    "oneOf": [{"required": ["delete"]}, {"anyOf": [{"required": [one]} for one in ("set", "add", "remove")]}]
}
SOURCE: Schema = {
    **_object(name=NAME, position={"oneOf": [COUNT, NAME]}),
    "description": "Where it was imported from; a repeat is skipped",
}
PROVENANCE: dict[str, Schema] = {
    "occurred_at": {"type": "string", "format": "date-time", "description": "When it happened, where not now"},
    "source": SOURCE,
}
BODIES: dict[str, Schema] = {
    "event": {**_object({**OPERATIONS, **PROVENANCE}), **DOES_SOMETHING},
    "merge-patch": {"type": "object", "description": "RFC 7396, onto the registers", "minProperties": 1},
    "transaction": _object(
        {"expect": {**_map(TOKEN), "description": "Streams or prefixes that are exactly there"}, **PROVENANCE},
        events={
            "type": "array",
            "minItems": 1,
            "items": {**_object({**OPERATIONS, "context": SEEN}, stream=NAME), **DOES_SOMETHING},
        },
    ),
    "line": {
        **_object(
            {
                **OPERATIONS,
                "context": SEEN,
                "expect": {**TOKEN, "description": "The stream is exactly there, else this line is refused"},
                **PROVENANCE,
            },
            stream=NAME,
        ),
        **DOES_SOMETHING,
        "description": "One event a line (NDJSON), or one msgpack map after another",
    },
    "streams": _object(streams={"type": "array", "maxItems": PAGE_MAX, "items": NAME}),
    "view-change": {
        "type": "object",
        "oneOf": [
            _object({"build": VALUE}, do={"const": "rebuild"}),
            _object(do={"enum": ["switch", "drop"]}, build={"type": "integer"}),
        ],
    },
    "message": ref("message"),
}

# --- what is answered

WRITTEN_EVENT: dict[str, Schema] = {"stream": NAME, "dot": DOT, "token": TOKEN}
CONTEXT: dict[str, Schema] = {"context": {**TOKEN, "description": "What the event supersedes, and itself"}}
SETS = _map(_list(NAME))
LOST = _list(_object(value=VALUE, region=NAME, author={"type": ["string", "null"]}, timestamp=TIMESTAMP, dot=DOT))
CLAIM = _object(stream=NAME, dot=DOT, region=NAME, timestamp=TIMESTAMP)
PROGRESS: dict[str, Schema] = {
    "build": COUNT,
    "version": COUNT,
    "serving": FLAG,
    "behind": {**COUNT, "description": "Events that it does not show yet"},
}
BUILD = _object(
    {"scanned": COUNT, "streams": COUNT},
    **PROGRESS,
    state={"enum": ["orphaned", "scanning", "following"]},
    entries=COUNT,
    failures=COUNT,
    watermark=TOKEN,
)
BUILDS: dict[str, Schema] = {"serving": {"type": ["integer", "null"]}, "builds": _list(BUILD)}
PEER = _object(
    url=TEXT,
    origin={"type": ["string", "null"]},
    region={"type": ["string", "null"]},
    reachable=FLAG,
    behind={"type": ["integer", "null"], "description": "Events that it lacks of those held here"},
    ahead={"type": ["integer", "null"], "description": "Events that it holds and this node lacks"},
    answered_ms_ago={"type": ["integer", "null"]},
    failures=COUNT,
    error={"type": ["string", "null"]},
)

COMPONENTS: dict[str, Schema] = {
    "problem": {
        "type": "object",
        "description": "RFC 9457; further members name what is wrong",
        "properties": {
            "type": {"enum": [PREFIX + kind for kind in TYPES]},
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What to do"},
        },
        "required": ["type", "title", "status", "detail"],
    },
    "written": _object(CONTEXT, **WRITTEN_EVENT, timestamp=TIMESTAMP),
    "transaction": _object(timestamp=TIMESTAMP, events=_list(_object(CONTEXT, **WRITTEN_EVENT))),
    "stream": _object(
        {
            "large_sets": {
                **_map(_object(count=COUNT, href=TEXT)),
                "description": "Sets of too many members for one answer: how many, and where to page through them",
            },
            "conflicts": {**_map(LOST), "description": "The writes that lost, by field, greatest first"},
            "parts": {**_map(TOKEN), "description": "Streams that fields were split off to"},
        },
        stream=NAME,
        registers=_map(VALUE),
        sets=SETS,
        token=TOKEN,
    ),
    "members": _object(stream=NAME, set=NAME, token=TOKEN, count=COUNT, members=_list(NAME)),
    "membership": _object(stream=NAME, set=NAME, token=TOKEN, element=NAME, contains=FLAG),
    "unresolved": {
        "description": "Why a stream of a list is not shown",
        "allOf": [ref("problem"), {"properties": {"stream": NAME}, "required": ["stream"]}],
    },
    "listing": _object(prefix=TEXT, streams=_list(_object(stream=NAME, token=TOKEN)), token=TOKEN),
    "streams": _object(streams=_list({"anyOf": [ref("stream"), ref("unresolved")]})),
    "event": _object(
        {
            "actor": NAME,
            **OPERATIONS,
            "transaction": _object(index=COUNT, count=COUNT),
            "lost": {**_list(NAME), "description": "Registers whose write lost to another one"},
            "unknown": {"const": True, "description": "Of a later version: what it does cannot be read here"},
            "idempotency_key": NAME,
            "occurred_at": TEXT,
            "source": SOURCE,
        },
        dot=DOT,
        stream=NAME,
        region=NAME,
        timestamp=TIMESTAMP,
        context=TOKEN,
        chain=CHAIN,
    ),
    "log": _object(events=_list(ref("event"))),
    "changes": _object(
        changes=_list({"anyOf": [ref("event"), ref("stream"), ref("unresolved")]}),
        token={**TOKEN, "description": "The state that these come to"},
        cursor={**TOKEN, "description": "Where to go on: covers what was looked at besides"},
        more=FLAG,
    ),
    "outcome": {
        "description": "Of one line, once it is durable, or why it was refused; the last sums up",
        "anyOf": [
            _object(CONTEXT, line=COUNT, status={"const": 201}, **WRITTEN_EVENT),
            {"allOf": [ref("problem"), {"properties": {"line": COUNT}, "required": ["line"]}]},
            _object(summary=_object(lines=COUNT, written=COUNT, repeated=COUNT, refused=COUNT)),
        ],
    },
    "conflicts": _object(
        conflicts=_list(
            _object(
                {
                    "fields": _map(_object(value=VALUE, lost=LOST)),
                    "claim": _object(attribute=NAME, value=TEXT, holds=CLAIM, waits=_list(CLAIM)),
                    "strays": {
                        **_object(registers=_map(VALUE), sets=SETS),
                        "description": "Fields written after they were split off",
                    },
                },
                stream=NAME,
                token=TOKEN,
            )
        )
    ),
    "views": _object(views=_map(_object(**BUILDS))),
    "view": _object(BUILDS, view=NAME, build=COUNT),
    "rows": _object(
        view=NAME,
        version=COUNT,
        rows=_list(_object(key=TEXT, stream=NAME, columns=_map(VALUE))),
        watermark=TOKEN,
    ),
    "status": _object(
        version=TEXT,
        region=NAME,
        cluster=NAME,
        origin=NAME,
        ready=FLAG,
        writing=FLAG,
        clock=TIMESTAMP,
        events=COUNT,
        heads=_map({**_list({"type": ["integer", "string"]}), "description": "The last seq, and the chain up to it"}),
        peers=_list(PEER),
        regions=_map(_object(origin=NAME, behind=COUNT)),
        forks=_list(_object(dot=DOT, here=CHAIN, there=CHAIN, at=NAME)),
        left_out=_list(_object(dot=TEXT, reason=NAME, detail=TEXT)),
        refusals=_map(COUNT),
        views=_map(_object(**PROGRESS)),
    ),
    "health": _object(status={"const": "ok"}),
    "readiness": _object(ready=FLAG),
    "openapi": {"type": "object", "description": "This document"},
    "message": {"description": "A message of the gossip protocol"},
    "scim": {"type": "object", "description": "RFC 7643 and 7644; /scim/v2/Schemas describes resources"},
}
