"""A node behind a real socket, in the test's own trio loop, and a client for it."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from node.configuration import configure
from node.seams import Unreachable
from node.server import listen, serve, url_of
from node.service import Node
from tests.described import check_answer
from tests.helpers import NOW, dump


@dataclass
class TestClock:
    """A wall clock that the test moves."""

    __test__ = False
    ms: int = NOW

    def now_ms(self) -> int:
        return self.ms


@dataclass
class NoTransport:
    """No peer ever answers."""

    async def call(self, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        raise Unreachable("no route")

    async def ask(self, url: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        raise Unreachable("no route")


@dataclass
class Served:
    """A node that serves, and how to reach it."""

    node: Node
    client: httpx.AsyncClient
    clock: TestClock
    url: str
    headers: dict[str, str] = field(default_factory=dict)

    async def write(self, stream: str, headers: dict[str, str] | None = None, **operations: Any) -> dict[str, Any]:
        """Write one event; what was answered."""
        response = await self.client.post(f"/streams/{stream}", json=operations, headers=headers)
        assert response.status_code == 201, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def read(self, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Read what must be there."""
        response = await self.client.get(path, headers=headers)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def dump(self) -> list[tuple[bytes, bytes]]:
        return dump(self.node.replica)


@asynccontextmanager
async def serving(directory: Path, region: str = "eu", **options: Any) -> AsyncIterator[Served]:
    """Run a node without peers, or with those that `options` name and `transport` reaches."""
    transport = options.pop("transport", NoTransport())
    clock = options.pop("clock", None) or TestClock()
    configuration = configure({"region": region, "data": str(directory), "listen": "127.0.0.1:0", **options})
    listener = listen(*configuration.address)
    url, stop, ready = url_of(listener), trio.Event(), trio.Event()
    nodes: list[Node] = []

    def started(node: Node) -> None:
        nodes.append(node)
        ready.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            serve, configuration, listener, clock, transport, random.Random(region), stop.wait, started
        )
        with trio.fail_after(10):
            await ready.wait()
            while not nodes[0].ready:
                await trio.sleep(0.005)
        async with httpx.AsyncClient(
            base_url=url, timeout=30, trust_env=False, event_hooks={"response": [check_answer]}
        ) as client:
            yield Served(nodes[0], client, clock, url)
        stop.set()


@asynccontextmanager
async def counting_turns() -> AsyncIterator[Callable[[], int]]:
    """Count how often others have had a turn: whoever holds up the node for long gives them few."""
    turns = 0

    async def run_beside() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_beside)
        yield lambda: turns
        nursery.cancel_scope.cancel()
