"""The headers that carry tokens: what to wait for, what must hold, what the author has seen.

| header                | on          | does                                                                      |
|-----------------------|-------------|---------------------------------------------------------------------------|
| If-Match: "T"         | write       | the stream is exactly at T, else 412; waits for T first; T is the context |
| If-Match: *           | write       | the stream exists, else 404                                               |
| If-None-Match: *      | write       | the stream does not exist, else 412                                       |
| Causal-After: T, T    | read, write | this node holds all of T first, else 503                                  |
| Causal-Context: T     | write       | the context to write with                                                 |
| Prefer: wait=SECONDS  | read, write | how long to wait [2, at most 30]                                          |

Conditions hold per region: two regions cut from each other can both accept a write at the same token.
"""

import re
from collections.abc import Iterable

import msgspec

from crdt.version_vector import VersionVector, join
from node.interface.request import Request
from node.limits import WAIT_DEFAULT_S, WAIT_MAX_S
from node.service import NotCaughtUp
from replication.errors import ContextAhead, Invalid
from replication.tokens import parse_scoped, parse_token

_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,6}(?:\.\d{1,3})?)\"?\s*", re.IGNORECASE)
_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*')


class WriteConditions(msgspec.Struct, frozen=True):
    """What a write to one stream asks for. Shape: `expected` is None without If-Match, and holds its tokens else."""

    expected: tuple[VersionVector, ...] | None
    present: bool
    absent: bool
    context: VersionVector | None


def wait_seconds(request: Request) -> float:
    """How long the client would wait."""
    for preference in (request.headers.get("prefer") or "").split(","):
        match = _WAIT.fullmatch(preference.split(";")[0])
        if match:
            return min(float(match[1]), WAIT_MAX_S)
    return WAIT_DEFAULT_S


async def wait_causal(request: Request) -> None:
    """Wait for what `Causal-After` names, whatever its scope.

    Raises: Invalid; NotCaughtUp; LostDots.
    """
    vector = causal_vector(request)
    if vector is not None:
        await request.node.wait_for(vector, wait_seconds(request))


def causal_vector(request: Request) -> VersionVector | None:
    """What `Causal-After` names; None without one. Raises: Invalid."""
    header = request.headers.get("causal-after")
    if header is None:
        return None
    return _join(parse_token(text, "Causal-After").vector for text in tokens_in(header))


def tokens_in(header: str) -> list[str]:
    """The tokens of a list of them: as they are, or inside of tags, weak ones and variants too."""
    return [text.strip().removeprefix("W/").strip('"').partition("+")[0] for text in header.split(",")]


def _join(vectors: Iterable[VersionVector]) -> VersionVector:
    joined: dict[str, int] = {}
    for vector in vectors:
        joined = join(joined, vector)
    return joined


def parse_conditions(request: Request) -> WriteConditions:
    """The conditions of a write to the request's stream. Raises: Invalid."""
    if_match, if_none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if if_none_match not in (None, "*"):
        raise Invalid("If-None-Match", "is * on a write; to write at a state, send If-Match")
    expected = None if if_match in (None, "*") else _expected(if_match or "", request.name)
    context = request.headers.get("causal-context")
    return WriteConditions(
        expected,
        if_match == "*",
        if_none_match == "*",
        None if context is None else parse_scoped(context.strip().strip('"'), request.name, "Causal-Context"),
    )


def _expected(header: str, stream: str) -> tuple[VersionVector, ...]:
    matches = [_TAG.fullmatch(part) for part in header.split(",")]
    tags = [match[2] for match in matches if match is not None and not match[1]]
    if not tags or None in matches:
        raise Invalid("If-Match", 'is * or tokens in double quotes, such as "9c1f03aa~eu-west.5f2c9a10.12"')
    return tuple(parse_scoped(tag.partition("+")[0], stream, "If-Match") for tag in tags)


async def wait_conditions(request: Request, conditions: WriteConditions) -> None:
    """Wait for Causal-After, for the state of If-Match where it is ahead, and for the context.

    Raises: NotCaughtUp; ContextAhead; LostDots.
    """
    await wait_causal(request)
    if conditions.expected is not None and len(conditions.expected) == 1:
        await request.node.wait_for(conditions.expected[0], wait_seconds(request))
    if conditions.context is not None:
        try:
            await request.node.wait_for(conditions.context, wait_seconds(request))
        except NotCaughtUp as error:
            raise ContextAhead(error.missing) from None
