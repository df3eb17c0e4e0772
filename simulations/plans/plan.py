"""A plan: everything that will be done to a cluster, as data.

Operations and faults are drawn from the seed before the run begins, so a plan can be printed, edited by hand, run
again and made smaller. What it cannot say beforehand, the tokens, it says as whose they are: a client's newest of
this stream, or all that it holds.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from node.limits import WAIT_MAX_S
from replication.limits import MESSAGE_TARGET_BYTES

REGIONS_MAX = 16
DURATION_MAX_S = 86_400.0

Point = Literal["", "before", "during", "after"]
"""Where in a commit a machine dies; empty: anywhere."""

Seconds = Annotated[float, Meta(ge=0, le=DURATION_MAX_S)]


class Operation(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One request of one client, who does one thing at a time.

    `do`: write (an event on `stream`), delete, transaction (`events`), read, conflicts (a read that shows them), rows
    (a view, at `path`), scim (`method`, `path` and `body` of a request to the directory).
    `expect`: token (If-Match: the client's newest of the stream, or that it is absent) or absent.
    `context`: what the client says it has seen: its token, a part of it, or nothing.
    `after`: what must have arrived first: the client's token of the stream, or all of its tokens.
    `key`: with an idempotency key, and tried again elsewhere where no answer came.
    `again`: the region where the same request is sent a second time, with the same key.
    `source`: the line of the file that the event was taken from; tried until it is written.
    """

    at: Seconds
    client: int
    region: str
    do: Literal["write", "delete", "transaction", "read", "conflicts", "rows", "scim"]
    stream: str = ""
    body: dict[str, Any] = {}
    events: tuple[dict[str, Any], ...] = ()
    expect: Literal["", "token", "absent"] = ""
    context: Literal["", "token", "part", "nothing"] = ""
    after: Literal["", "stream", "session"] = ""
    wait: Annotated[float, Meta(ge=0, le=WAIT_MAX_S)] = 2.0
    key: bool = False
    again: str = ""
    source: int = 0
    method: Literal["", "GET", "POST", "PUT", "PATCH", "DELETE"] = ""
    path: str = ""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that goes wrong, from `at` for `lasts` seconds. `simulations.plans.faults` says what each kind means.

    `region` and `other` are the ends of a link, or `region` is the machine; `amount` is how strong it is.
    """

    at: Seconds
    kind: str
    lasts: Seconds = 0.0
    region: str = ""
    other: str = ""
    side: tuple[str, ...] = ()
    amount: float = 0.0
    point: Point = ""


class Link(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Two regions that gossip with each other, and how long a message takes."""

    left: str
    right: str
    delay_ms: Annotated[float, Meta(gt=0, le=60_000)] = 50.0


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What will be done to a cluster. Equal plans, run by the same versions, leave equal traces."""

    format: Literal[1] = 1
    seed: int
    regions: Annotated[tuple[str, ...], Meta(min_length=1, max_length=REGIONS_MAX)]
    duration: Seconds
    links: tuple[Link, ...]
    message_bytes: Annotated[int, Meta(ge=1, le=MESSAGE_TARGET_BYTES)] = MESSAGE_TARGET_BYTES
    gossip_interval_ms: Annotated[int, Meta(ge=10, le=60_000)] = 1_000
    home: str = ""
    """The region that gives names; empty: each gives its own."""
    sabotage: str = ""
    faults: tuple[Fault, ...] = ()
    operations: tuple[Operation, ...] = ()


def dump(plan: Plan) -> str:
    """The plan as JSON, one operation or fault a line."""
    fields = msgspec.to_builtins(plan)
    lines: list[str] = []
    for name, value in fields.items():
        if name in ("faults", "operations"):
            items = ",\n".join(f"  {_json(item)}" for item in value)
            lines.append(f" {_json(name)}: [\n{items}\n ]")
        else:
            lines.append(f" {_json(name)}: {_json(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def is_connected(plan: Plan) -> bool:
    """Whether every region can be reached from every other: only then can they converge."""
    reached, edge = {plan.regions[0]}, [plan.regions[0]]
    while edge:
        region = edge.pop()
        for link in plan.links:
            if region in (link.left, link.right):
                beyond = {link.left, link.right} - reached
                reached |= beyond
                edge.extend(sorted(beyond))
    return reached >= set(plan.regions)
