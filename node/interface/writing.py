"""From a command to an answer: idempotency, waiting, the shared commit, and what the writer is told.

Order: actor, idempotency, Causal-After, conditions (in the turn, against the state that its batch has reached).
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from node.interface.moments import format_timestamp
from node.interface.problems import Problem
from node.interface.reply import Reply
from node.interface.request import Request
from replication.command import Command, Written, WrittenEvent
from replication.errors import Invalid, Refused
from replication.event import FINGERPRINT_BYTES
from replication.limits import ACTOR_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX
from replication.tokens import format_token
from replication.values import check_text

ANONYMOUS = "anonymous"


def actor_of(request: Request) -> str:
    """Who writes: what the configured header claims. There is no authentication yet that would prove it."""
    name = request.node.configuration.actor_header
    claimed = request.headers.get(name.lower())
    return ANONYMOUS if claimed is None else check_text(claimed, name, ACTOR_BYTES_MAX)


def named(request: Request, body: bytes) -> tuple[str, bytes] | None:
    """The request's idempotency key and its fingerprint: what tells it from another under the same key.

    A node that asks on behalf of its own client states the fingerprint of what that client asked.
    Raises: Invalid.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    stated = request.headers.get("idempotency-fingerprint")
    fingerprint = _fingerprint(request, body) if stated is None else _stated(stated)
    return check_text(key, "Idempotency-Key", IDEMPOTENCY_KEY_BYTES_MAX), fingerprint


async def perform(request: Request, command: Command, size: int, wait: Callable[[], Awaitable[None]]) -> Written:
    """Write a command, once. `wait` waits for whatever the request names first. Units: `size` is the body's bytes.

    A request with an idempotency key that was answered before is answered so again, without waiting.
    Raises: Refused, or Problem (request-in-flight).
    """
    if command.request is None:
        await wait()
        return await _submit(request, command, size)
    actor, key = command.actor, command.request[0]
    in_flight = request.node.requests_in_flight
    if (actor, key) in in_flight:
        raise Problem("request-in-flight", "the first request with this key is still being answered; ask again later")
    in_flight.add((actor, key))
    try:
        if not _known(request, actor, key):
            await wait()
        return await _submit(request, command, size)
    finally:
        in_flight.discard((actor, key))


def _known(request: Request, actor: str, key: str) -> bool:
    with request.node.replica.read() as snapshot:
        return snapshot.request_of(actor, key, request.node.clock.now_ms()) is not None


def _stated(text: str) -> bytes:
    try:
        fingerprint = bytes.fromhex(text)
    except ValueError:
        fingerprint = b""
    if len(fingerprint) != FINGERPRINT_BYTES:
        raise Invalid("Idempotency-Fingerprint", f"must be {FINGERPRINT_BYTES} bytes in hexadecimal")
    return fingerprint


def _fingerprint(request: Request, body: bytes) -> bytes:
    """What tells one request from another under the same key: method, path and body."""
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    for part in (request.method.encode(), request.path, body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


async def _submit(request: Request, command: Command, size: int) -> Written:
    [outcome] = await request.node.submit([command], size)
    if isinstance(outcome, Refused):
        try:
            raise outcome
        finally:
            del outcome  # its traceback holds this frame, which would hold it
    assert isinstance(outcome, Written)
    return outcome


def describe(event: WrittenEvent) -> dict[str, Any]:
    """One written event, for its writer."""
    token = format_token(event.stream, event.vector)
    described = {"stream": event.stream, "dot": str(event.dot), "token": token}
    if event.context is not None:
        described["context"] = token if event.context is event.vector else format_token(event.stream, event.context)
    return described


def written_reply(written: Written) -> Reply:
    """The answer to a write of one event; the same for the request that is asked again."""
    [event] = written.events
    described = describe(event) | {"timestamp": format_timestamp(written.timestamp)}
    return Reply(described, 201, {"location": f"/dots/{event.dot}"}, described["token"])
