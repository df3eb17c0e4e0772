"""`atoll load`: replay an event file into regions, each event to its own region's node, carrying tokens.

An event waits, at its node, for the one before it on its stream (Causal-After), wherever that was written; so the
regions end where the file does, whatever the network does meanwhile. An event is named by file and line, and one
that a node holds is not written again: a load that was interrupted, or retries, repeats nothing.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import httpx
import msgspec
import trio
from cyclopts import Parameter

from node.commands.event_file import read_event_file
from node.commands.progress import progress_bar
from node.configuration import is_url
from node.errors import CommandFailed
from replication.packing import DECODE_ERRORS
from replication.stream_name import format_path

WAIT_S = 10
RETRY_MIN_S, RETRY_MAX_S = 0.05, 2.0


@dataclass(eq=False)
class _Event:
    """One line of the file, and what became of it."""

    line: int
    region: str
    stream: str
    body: dict[str, Any]
    before: "_Event | None"
    done: trio.Event = field(default_factory=trio.Event)
    token: str | None = None


class _Written(msgspec.Struct):
    """What a node answers to a write, as far as it is needed here."""

    token: str


async def load(
    file: Path,
    /,
    *,
    node: Annotated[list[str], Parameter(negative=())],
    max_in_flight: int = 1,
    timeout: float = 300.0,
) -> None:
    """Replay an NDJSON file of events: `region`, `stream`, and any of `set`, `add`, `remove`, `delete`, `at`.

    Other keys are left alone. A node that does not answer is asked again until the timeout.

    Parameters
    ----------
    file
        One JSON object a line, in history order.
    node
        REGION=URL, once for each region that the file names.
    max_in_flight
        Events under way at once; order is kept within each stream.
    timeout
        Seconds to go on trying one event.
    """
    if max_in_flight < 1:
        raise CommandFailed("--max-in-flight must be at least 1")
    nodes = _parse_nodes(node)
    events = _read(file, nodes)
    began = monotonic()
    limits = httpx.Limits(max_connections=max_in_flight * len(nodes), max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=WAIT_S + 20.0, limits=limits, trust_env=False) as client:
        with progress_bar("loading") as advance:
            await _Loading(client, nodes, timeout, max_in_flight).run(events, advance)
    took = monotonic() - began
    print(f"{len(events)} events loaded in {took:.1f} s, {len(events) / max(took, 1e-9):.0f} a second")


def _parse_nodes(pairs: list[str]) -> dict[str, str]:
    nodes: dict[str, str] = {}
    for pair in pairs:
        region, equals, url = pair.partition("=")
        if not equals or not is_url(url):
            raise CommandFailed(f"--node {pair!r} is not REGION=URL")
        if region in nodes:
            raise CommandFailed(f"--node names region {region!r} twice")
        nodes[region] = url.rstrip("/")
    return nodes


def _read(file: Path, nodes: dict[str, str]) -> list[_Event]:
    """Every event of the file, checked before the first is sent."""
    events: list[_Event] = []
    last: dict[str, _Event] = {}
    for one in read_event_file(file):
        if one.region not in nodes:
            raise CommandFailed(f"line {one.line}: region {one.region!r} has no --node; given are {', '.join(nodes)}")
        body = {**one.body, "source": {"name": file.name, "position": one.line}}
        event = _Event(one.line, one.region, one.stream, body, last.get(one.stream))
        last[one.stream] = event
        events.append(event)
    return events


class _Loading:
    def __init__(self, client: httpx.AsyncClient, nodes: dict[str, str], timeout: float, max_in_flight: int) -> None:
        self._client = client
        self._nodes = nodes
        self._timeout = timeout
        self._slots = trio.CapacityLimiter(max_in_flight)
        self._finished = 0

    async def run(self, events: list[_Event], advance: Any) -> None:
        """Start the events in order; each waits for the one before it on its stream."""
        async with trio.open_nursery() as nursery:
            for event in events:
                await self._slots.acquire_on_behalf_of(event)
                nursery.start_soon(self._load, event)
                advance(self._finished, len(events))

    async def _load(self, event: _Event) -> None:
        try:
            if event.before is not None:
                await event.before.done.wait()
            event.token = await self._send(event)
            event.before = None
            event.done.set()
            self._finished += 1
        finally:
            self._slots.release_on_behalf_of(event)

    async def _send(self, event: _Event) -> str:
        url = f"{self._nodes[event.region]}/streams/{format_path(event.stream)}"
        headers = {"prefer": f"wait={WAIT_S}"}
        if event.before is not None and event.before.token is not None:
            headers["causal-after"] = event.before.token
        deadline, pause, said = trio.current_time() + self._timeout, RETRY_MIN_S, "no answer"
        while trio.current_time() < deadline:
            try:
                response = await self._client.post(url, json=event.body, headers=headers)
            except httpx.TransportError as error:
                said = str(error) or type(error).__name__
            else:
                if response.status_code == httpx.codes.CREATED:
                    return self._token(event, response)
                said = f"{response.status_code}: {response.text.strip()}"
                if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise CommandFailed(f"line {event.line}: {said}")
            await trio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX_S)
        raise CommandFailed(f"line {event.line}: gave up after {math.ceil(self._timeout)} s: {said}")

    def _token(self, event: _Event, response: httpx.Response) -> str:
        try:
            return msgspec.json.decode(response.content, type=_Written).token
        except DECODE_ERRORS:
            what = f"what answers at {self._nodes[event.region]} is no node of Atoll's"
            raise CommandFailed(f"line {event.line}: {what}") from None
