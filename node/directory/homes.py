"""Home regions: where an operator wants a name given once in the whole cluster, one region gives it.

A transaction that takes a name under such a prefix is sent to its home's node, with the states that its claims need,
and is written there, all or none; this node waits until it has arrived. While the home is out of reach no name is
given: that is what is paid for never giving one twice. Everything else goes on being written here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from scim2_models import ConflictException, InvalidValueException

from crdt.version_vector import VersionVector, join
from node.directory.claims import HomeOutOfReach
from node.directory.names import CLAIMS
from node.interface.drafts import spell
from node.seams import Unreachable
from node.service import Node, NotCaughtUp
from replication.command import Draft
from replication.errors import Invalid, RequestMismatch
from replication.origin import region_of
from replication.packing import DECODE_ERRORS
from replication.stream_name import ancestors
from replication.tokens import format_token, parse_token


class Moved(Exception):
    """A claim at home is in another state than here; what it is in has been waited for."""


def home_of(homes: Mapping[str, str], names: Iterable[str]) -> str | None:
    """The home region of claims, each told by the longest prefix that has one.

    Raises: InvalidValueException, where they have more than one: no region could give them all.
    """
    prefixes = (next((one for one in reversed(ancestors(name)) if one in homes), None) for name in names)
    found = sorted({homes[prefix] for prefix in prefixes if prefix is not None})
    if len(found) > 1:
        raise InvalidValueException(
            detail=f"these values are given by regions of their own, {' and '.join(found)}: set one, then the other"
        )
    return found[0] if found else None


class _Event(msgspec.Struct):
    token: str


class _Answer(msgspec.Struct):
    """What a home says: of a transaction that it wrote, or why it did not."""

    events: tuple[_Event, ...] = ()
    type: str = ""
    detail: str = ""
    name: str = ""
    token: str = ""


async def write_at_home(
    node: Node,
    home: str,
    drafts: Sequence[Draft],
    expect: Mapping[str, VersionVector],
    actor: str,
    named: tuple[str, bytes] | None,
    seconds: float,
) -> None:
    """Have a transaction written in its home region, and wait until it is here.

    Shape: `named` is an idempotency key and the request's fingerprint; asked again under it, it is written once.
    Raises: HomeOutOfReach; Moved; RequestMismatch; ConflictException.
    """
    events = [{"stream": draft.stream, **spell(draft.operations), **_seen(draft)} for draft in drafts]
    states = {name: format_token(name, vector) for name, vector in expect.items()}
    body = json.dumps({"events": events, "expect": states}).encode()
    headers = {"content-type": "application/json", node.configuration.actor_header.lower(): actor}
    if named is not None:
        headers |= {"idempotency-key": named[0], "idempotency-fingerprint": named[1].hex()}
    status, answer = await _ask(node, home, headers, body)
    if status == 412 and answer.name in states:
        await _wait(node, home, [answer.token], seconds)
        if answer.name.startswith(CLAIMS):
            raise Moved
        raise ConflictException(detail=f"the resource has changed in its home region {home}; read it, and try again")
    if answer.type.endswith(":key-reused"):
        raise RequestMismatch(answer.detail)
    if status != 201:
        raise HomeOutOfReach(f"region {home}, which gives this name, refused it: {answer.detail or status}")
    await _wait(node, home, [event.token for event in answer.events], seconds)


def _seen(draft: Draft) -> dict[str, str]:
    return {} if draft.context is None else {"context": format_token(draft.stream, draft.context)}


async def _ask(node: Node, home: str, headers: Mapping[str, str], body: bytes) -> tuple[int, _Answer]:
    for peer in node.gossip.peers:
        if peer.origin is not None and region_of(peer.origin) == home:
            try:
                status, data = await node.transport.ask(peer.url, "/transactions", headers, body)
                return status, msgspec.json.decode(data, type=_Answer)
            except (Unreachable, *DECODE_ERRORS) as error:
                raise HomeOutOfReach(f"region {home}, which gives this name, is out of reach: {error}") from None
    raise HomeOutOfReach(f"region {home}, which gives this name, is no peer of this node that has answered yet")


async def _wait(node: Node, home: str, tokens: Sequence[str], seconds: float) -> None:
    wanted: VersionVector = {}
    try:
        for token in tokens:
            wanted = join(wanted, parse_token(token, "token").vector)
        await node.wait_for(wanted, seconds)
    except Invalid as error:
        raise HomeOutOfReach(f"region {home} was asked, and its answer cannot be read: {error}") from None
    except NotCaughtUp as error:
        raise HomeOutOfReach(
            f"region {home} was asked, and what it wrote has not arrived here yet: {dict(error.missing)}"
        ) from None
