"""The directory at size: 100,000 users, 2,000 groups, one of 100,000 members; views built while writes go on."""

import json
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import trio
from scim2_server.requests import ScimRequest

from crdt.operations import Add, Operation, Set
from node.bench.figure import Figure
from node.bench.workload import SECRET, command, open_replica, write
from node.configuration import configure
from node.directory.handler import DirectoryHandler
from node.directory.mapping import canonical
from node.directory.service import DirectoryService
from node.directory.storage import Asking, DirectoryStorage
from node.seams import SystemClock, Unreachable
from node.service import Node, run_node
from node.views.index import last_with
from node.views.query import BEGINNING, page, search
from replication.command import Command, Draft

USERS, GROUPS, MEMBERS_EACH = 100_000, 2_000, 20
ASKED, SEARCHED, SLOW_ASKED = 2_000, 500, 30
WRITES_AT_ONCE = 16
FIRST = ("Barbara", "José", "Wei", "Olga", "Anna", "Mikhail", "Søren", "Ngozi", "Priya", "Liam")
LAST = ("Jensen", "García", "Zhang", "Petrova", "Kim", "Müller", "Okafor", "Ito", "Novak", "Singh")
EVERYBODY = "groups/everybody"
BASE = "http://localhost/scim/v2"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class _Nobody:
    """No peers."""

    async def call(self, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        raise Unreachable("no peers")

    async def ask(self, url: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        raise Unreachable("no peers")


def directory(home: Path) -> Iterator[Figure]:
    """Fill a store, and ask a node on it, inside this process."""
    _fill(home / "eu")
    yield from trio.run(_measure, home / "eu")


def _user(number: int) -> str:
    return f"{number:032x}"


def _email(number: int) -> str:
    return f"{FIRST[number % 10]}.{LAST[number // 10 % 10]}{number}@example.com".lower()


def _operations(number: int) -> tuple[Operation, ...]:
    first, last = FIRST[number % 10], LAST[number // 10 % 10]
    return (
        Set("userName", f"{first}.{last}{number}"),
        Set("displayName", f"{first} {last}"),
        Set("name.givenName", first),
        Set("name.familyName", last),
        Set("active", True),
        Set("externalId", f"ext-{number}"),
        Add("emails", canonical({"type": "work", "value": _email(number)})),
    )


def _fill(store: Path) -> None:
    replica, rng = open_replica(store), random.Random(1)
    drafts = [Draft(f"users/{_user(number)}", _operations(number)) for number in range(USERS)]
    for number in range(GROUPS):
        members = {_user(rng.randrange(USERS)) for _ in range(MEMBERS_EACH)}
        adds = [Add("members", member) for member in sorted(members)]
        drafts.append(Draft(f"groups/{number:032x}", (Set("displayName", f"Group {number}"), *adds)))
    for start in range(0, USERS, 5_000):
        some = range(start, min(start + 5_000, USERS))
        drafts.append(Draft(EVERYBODY, tuple(Add("members", _user(number)) for number in some)))
    for start in range(0, len(drafts), 1_000):
        write(replica, [Command((draft,)) for draft in drafts[start : start + 1_000]])
    replica.close()


async def _measure(store: Path) -> list[Figure]:
    configuration = configure({"region": "eu", "data": str(store), "cluster": "bench"})
    async with run_node(configuration, SystemClock(), _Nobody(), random.Random(SECRET)) as node:
        figures = await _rebuild(node)
        for _, build in node.views.builds():  # what was written meanwhile is not found under what it was before
            await node.views.wait_for(build.view, node.replica.vector)
        return [*figures, *_look_up(node), *await _ask(node)]


async def _rebuild(node: Node) -> list[Figure]:
    """Build every view from nothing, while a writer waits for one commit after another."""
    written, rng = 0, random.Random(2)

    async def go_on_writing() -> None:
        nonlocal written
        while True:
            names = [f"users/{_user(rng.randrange(USERS))}" for _ in range(WRITES_AT_ONCE)]
            await node.submit([command(name, written) for name in names])
            written += len(names)

    streams, began = node.replica.mirror.streams, perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on_writing)
        while not written or any(not build.serving for _, build in node.views.builds()):  # noqa: ASYNC110  # it only looks now and then
            await trio.sleep(0.01)
        seconds = perf_counter() - began
        nursery.cancel_scope.cancel()
    what = f"all views built, {streams:,} streams"
    return [Figure(what, streams / seconds, "streams/s"), Figure("writes meanwhile", written / seconds, "events/s")]


def _look_up(node: Node) -> list[Figure]:
    """Each look-up as the interface does it: candidates from the index, resolved in one snapshot."""
    views, replica = node.views, node.replica

    def by_key(view: str, key: str, least: int = 1) -> None:
        with replica.read() as snapshot:
            assert len(page(views, snapshot, view, key, key, BEGINNING, 100)[0]) >= least

    def by_prefix(prefix: str) -> None:
        with replica.read() as snapshot:
            assert page(views, snapshot, "users-by-name", prefix, last_with(prefix), BEGINNING, 10)[0]

    def by_text(text: str) -> None:
        with replica.read() as snapshot:
            assert search(views, snapshot, "users-search", text, BEGINNING, 10)[0]

    rng = random.Random(3)
    numbers = [rng.randrange(USERS) for _ in range(ASKED)]
    return [
        _median("by e-mail", numbers, lambda number: by_key("users-by-email", _email(number))),
        _median("by prefix, ten rows", numbers, lambda number: by_prefix(_email(number).partition("@")[0][:-1])),
        _median("by a part of the name", numbers[:SEARCHED], lambda number: by_text(_email(number)[2:-12])),
        _median("groups of a user", numbers, lambda number: by_key("groups-of", _user(number))),
    ]  # fmt: skip


def _median(what: str, numbers: list[int], ask: Callable[[int], None]) -> Figure:
    seconds: list[float] = []
    for number in numbers:
        began = perf_counter()
        ask(number)
        seconds.append(perf_counter() - began)
    return Figure(f"look-up {what}, p50", median(seconds) * 1e3, "ms")


async def _ask(node: Node) -> list[Figure]:
    """Requests as SCIM has them, but for HTTP: parsed, done, answered as a document."""
    service, rng = DirectoryService("bench"), random.Random(4)

    async def scim(method: str, path: str, query: dict[str, str], document: Any = None) -> None:
        handler = DirectoryHandler(service, DirectoryStorage(node, Asking("bench")))
        body = b"" if document is None else json.dumps(document).encode()
        await handler.handle(ScimRequest(method, BASE, path, query, {}, body))

    async def add(number: int) -> None:
        operation = {"op": "add", "path": "members", "value": [{"value": f"new-{number}"}]}
        await scim("PATCH", f"/Groups/{EVERYBODY[7:]}", {}, {"schemas": [PATCH], "Operations": [operation]})

    async def by_name(_: int) -> None:
        number = rng.randrange(USERS)
        name = _email(number).partition("@")[0]
        await scim("GET", "/Users", {"filter": f'userName eq "{name}"'})

    async def listed(_: int) -> None:
        await scim("GET", "/Users", {"count": "100", "startIndex": str(rng.randrange(1, USERS))})

    async def bare(_: int) -> None:
        await scim("GET", f"/Groups/{EVERYBODY[7:]}", {"excludedAttributes": "members"})

    return [
        await _median_of("SCIM userName eq", by_name),
        await _median_of("SCIM a page of 100 users", listed),
        await _median_of(f"SCIM one member added to {USERS:,}", add),
        await _median_of(f"SCIM a group of {USERS:,} without members", bare),
    ]


async def _median_of(what: str, ask: Callable[[int], Awaitable[None]]) -> Figure:
    seconds: list[float] = []
    for number in range(SLOW_ASKED):
        began = perf_counter()
        await ask(number)
        seconds.append(perf_counter() - began)
    return Figure(f"{what}, p50", median(seconds) * 1e3, "ms")
