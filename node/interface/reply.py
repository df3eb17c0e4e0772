"""An answer before it has a form, and its form: JSON or msgpack, with an ETag that names the state it shows.

`"TOKEN"` is the plain answer of a stream or prefix; another representation of the same state (msgpack, conflicts, a
page) is `"TOKEN+variant"`, so that caches keep them apart and conditions on writes compare the TOKEN.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from node.interface.content import MSGPACK_TYPE, PROBLEM_TYPE, dump_json, dump_msgpack
from node.interface.problems import Problem

COMMON = {"cache-control": "private, no-cache", "vary": "accept"}
VARIANT_BYTES = 4


class Reply(msgspec.Struct, frozen=True):
    """What a handler answers.

    Shape: `token` is the state shown, `variant` what tells this showing of it from others.
    """

    value: Any
    status: int = 200
    headers: Mapping[str, str] = {}
    token: str | None = None
    variant: str = ""


class Rendered(msgspec.Struct, frozen=True):
    """An answer as bytes."""

    status: int
    headers: dict[str, str]
    body: bytes


SendPart = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: server-sent events, or one line an item.

    Shape: `produce` is given what sends one part, and returns after the last. `reads_on`: it reads the request's body
    meanwhile, and so learns by itself when the client goes.
    """

    media_type: str
    produce: Callable[[SendPart], Awaitable[None]]
    reads_on: bool = False


def accepted(accept: str | None, offered: tuple[str, ...]) -> str:
    """The best offered media type. Source: RFC 9110, section 12.5.1.

    Raises: Problem (not-acceptable).
    """
    if not accept or accept == "*/*" or accept == offered[0]:
        return offered[0]
    ranked = [(_quality(accept, media_type), -place) for place, media_type in enumerate(offered)]
    quality, place = max(ranked)
    if quality <= 0:
        raise Problem("not-acceptable", f"the answer can be {' or '.join(offered)}", {"offered": list(offered)})
    return offered[-place]


def _quality(accept: str, media_type: str) -> float:
    """The quality of the most specific range that matches."""
    best = (-1, 0.0)
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        specificity = _specificity(media_range, media_type)
        if specificity > best[0]:
            best = (specificity, quality)
    return best[1] if best[0] >= 0 else 0.0


def _specificity(media_range: str, media_type: str) -> int:
    if media_range == media_type:
        return 2
    if media_range == media_type.split("/")[0] + "/*":
        return 1
    return 0 if media_range == "*/*" else -1


def render(reply: Reply, media_type: str, if_none_match: str | None) -> Rendered:
    """The bytes of an answer, JSON or msgpack, or 304 where the client has them."""
    headers = {**COMMON, **reply.headers, "content-type": media_type}
    if reply.token is not None:
        etag = headers["etag"] = _etag(reply, media_type)
        if reply.status == 200 and if_none_match is not None and _matches(if_none_match, etag):
            return Rendered(304, {**COMMON, "etag": etag}, b"")
    dump = dump_msgpack if media_type == MSGPACK_TYPE else dump_json
    return Rendered(reply.status, headers, dump(reply.value))


def _etag(reply: Reply, media_type: str) -> str:
    variant = reply.variant + ("|msgpack" if media_type == MSGPACK_TYPE else "")
    if not variant:
        return f'"{reply.token}"'
    return f'"{reply.token}+{hashlib.blake2b(variant.encode(), digest_size=VARIANT_BYTES).hexdigest()}"'


def _matches(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def render_problem(problem: Problem) -> Rendered:
    """The bytes of an error."""
    headers = {**COMMON, **problem.headers, "content-type": PROBLEM_TYPE}
    return Rendered(problem.status, headers, dump_json(problem.document))
