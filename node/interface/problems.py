"""Errors as `application/problem+json` (RFC 9457), of a fixed list of types.

A refusal of the replica's has exactly one type and status here; each says what to do, in `detail`, and names what
is wrong in extension members (`field`, `token`, `missing` …).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from node.committer import Overloaded, TurnFailed
from node.directory.claims import HomeOutOfReach
from node.service import LostDots, NotCaughtUp
from node.views.views import UnknownView, ViewBehind, ViewBuilding, ViewBusy, ViewsUnusable
from replication.errors import (
    ClockAhead,
    ConditionFailed,
    ContextAhead,
    Invalid,
    Refused,
    RequestMismatch,
    StoreFailed,
    StoreFull,
    TooLarge,
    TooManyOrigins,
    Unfoldable,
    UnknownStream,
)
from replication.tokens import format_token

PREFIX = "urn:atoll:problem:"
MISTAKE = (
    "this node made a mistake, or its store is damaged: its log says more, and `atoll verify` whether it is the store"
)

TYPES: dict[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "invalid": (400, "The request is wrong in itself"),
    "context-ahead": (400, "The context names events that this node does not hold"),
    "unknown-stream": (404, "The stream does not exist"),
    "unknown-view": (404, "There is no such view, or build of one"),
    "unknown-dot": (404, "The event is not held here"),
    "unknown-route": (404, "Nothing is at this path"),
    "method-not-allowed": (405, "The path does not take this method"),
    "not-acceptable": (406, "The answer has no form that was asked for"),
    "request-in-flight": (409, "A request with this idempotency key is being answered"),
    "view-busy": (409, "The build of the view is not in a state for this"),
    "lost-dots": (410, "The token names events that were declared lost"),
    "condition-failed": (412, "The state is not the expected one"),
    "too-large": (413, "The request is beyond a limit"),
    "unsupported-media-type": (415, "The request's content is of a type that is not taken here"),
    "views-unusable": (422, "The views' definitions cannot be used"),
    "key-reused": (422, "The idempotency key was used for another request"),
    "internal": (500, "The node could not do it"),
    "unfoldable": (501, "The stream holds events that this version cannot fold"),
    "not-caught-up": (503, "Not everything that was asked for has arrived"),
    "home-out-of-reach": (503, "The region that gives this name cannot be asked"),
    "view-building": (503, "The view is being built for the first time"),
    "clock-ahead": (503, "The node's clock is behind its timestamps"),
    "overloaded": (503, "Too many requests wait"),
    "store-failed": (503, "The store failed; writing has ended until the node is restarted"),
    "too-many-origins": (507, "The store knows as many origins as it may"),
    "store-full": (507, "The store has no room"),
}


@dataclass(eq=False)
class Problem(Exception):
    """An error as it is answered. Shape: `type` is a key of TYPES."""

    type: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return TYPES[self.type][0]

    @property
    def document(self) -> dict[str, Any]:
        return {
            "type": PREFIX + self.type,
            "title": TYPES[self.type][1],
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }


_PLAIN: dict[type[Refused], str] = {
    TooLarge: "too-large",
    RequestMismatch: "key-reused",
    Unfoldable: "unfoldable",
    ClockAhead: "clock-ahead",
    Overloaded: "overloaded",
    StoreFailed: "store-failed",
    StoreFull: "store-full",
    TooManyOrigins: "too-many-origins",
    TurnFailed: "internal",
    UnknownView: "unknown-view",
    ViewBuilding: "view-building",
    HomeOutOfReach: "home-out-of-reach",
    ViewBusy: "view-busy",
    ViewsUnusable: "views-unusable",
}
RETRY_AFTER_S = {
    "not-caught-up": "1",
    "overloaded": "1",
    "clock-ahead": "5",
    "view-building": "1",
    "home-out-of-reach": "1",
}


def problem_of(refusal: Refused) -> Problem:
    """The problem that a refusal is answered as."""
    match refusal:
        case Invalid(field=name):
            return Problem("invalid", str(refusal), {"field": name} if name else {})
        case UnknownStream(stream=stream, vector=vector):
            token = format_token(stream, vector)
            return Problem("unknown-stream", str(refusal), {"token": token} if vector else {}, {"etag": f'"{token}"'})
        case ConditionFailed(name=name, vector=vector):
            token = format_token(name, vector)
            extra = {"name": name, "token": token}
            return Problem("condition-failed", f"{refusal}; its token is {token}", extra, {"etag": f'"{token}"'})
        case ContextAhead(missing=missing):
            return Problem("context-ahead", str(refusal), {"field": "Causal-Context", "missing": dict(missing)})
        case NotCaughtUp(missing=missing, held=held) | ViewBehind(missing=missing, held=held):
            wanted = {origin: {"wanted": seq, "held": held[origin]} for origin, seq in missing.items()}
            return Problem("not-caught-up", str(refusal), {"missing": wanted}, {"retry-after": "1"})
        case LostDots(lost=lost):
            return Problem("lost-dots", str(refusal), {"lost": dict(lost)})
    kind = _PLAIN[type(refusal)]
    headers = {"retry-after": RETRY_AFTER_S[kind]} if kind in RETRY_AFTER_S else {}
    return Problem(kind, str(refusal), {}, headers)
