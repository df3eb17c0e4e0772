"""Nodes that run in one process, and gossip over links that a test cuts."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from node.configuration import configure
from node.disk import Disk
from node.seams import Unreachable
from node.service import Node, run_node
from replication import messages
from replication.command import Command, Draft, Written
from replication.queries import resolve_stream
from simulations.world.fidelity import Asked, DirectDoor
from tests.helpers import operations
from tests.serving import TestClock

ANSWER_S = 0.01
"""An answer takes a while: what was asked for is done long before whoever asked hears of it."""


@dataclass
class Network:
    """Nodes by URL, calls between them, and which calls are lost."""

    nodes: dict[str, Node] = field(default_factory=dict)
    cut: set[tuple[str, str]] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    """Who takes calls, and never answers."""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    lost: int = 0
    answers_lost: bool = False
    silent: bool = False
    """Nobody gossips; what is asked of a peer is answered."""

    def link(self, caller: str) -> "Link":
        return Link(self, caller)


@dataclass
class Link:
    """One node's way to its peers."""

    network: Network
    caller: str

    async def call(self, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if url in self.network.hanging:
            await trio.sleep_forever()
        if self.network.silent or (self.caller, url) in self.network.cut or url not in self.network.nodes:
            self.network.lost += 1
            raise Unreachable("cut")
        kind = type(messages.decode(message, "atoll").message).__name__
        self.network.calls.append((self.caller, url, kind))
        if sent is not None:
            sent()
        answer, _ = await self.network.nodes[url].gossip.answer(message)
        await trio.sleep(ANSWER_S)
        if self.network.answers_lost:
            raise Unreachable("the answer was lost")
        return answer

    async def ask(self, url: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        await trio.lowlevel.checkpoint()
        if (self.caller, url) in self.network.cut or url not in self.network.nodes:
            raise Unreachable("cut")
        told = await DirectDoor(self.network.nodes[url]).ask(Asked("POST", path, headers, body))
        if self.network.answers_lost:
            raise Unreachable("the answer was lost")
        return told.status, told.body


@dataclass
class World:
    """A cluster under test."""

    directory: Path
    network: Network = field(default_factory=Network)
    clock: TestClock = field(default_factory=TestClock)

    @asynccontextmanager
    async def node(
        self, region: str, *peers: str, ready: bool = True, disk: Disk | None = None, **options: Any
    ) -> AsyncIterator[Node]:
        data = options.pop("data", region)
        configuration = configure(
            {"region": region, "data": str(self.directory / data), "peers": [f"http://{peer}" for peer in peers],
             "gossip_interval_ms": 20, **options}
        )  # fmt: skip
        entropy = random.Random(f"{data}{len(self.network.calls)}")
        link = self.network.link(f"http://{data}")
        async with run_node(configuration, self.clock, link, entropy, disk) as node:
            self.network.nodes[f"http://{data}"] = node
            try:
                if ready:
                    await until(lambda: node.ready)
                yield node
            finally:
                del self.network.nodes[f"http://{data}"]

    def cut(self, left: str, right: str) -> None:
        self.network.cut |= {(f"http://{left}", f"http://{right}"), (f"http://{right}", f"http://{left}")}

    def heal(self) -> None:
        self.network.cut.clear()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.002)


async def write(node: Node, stream: str, **made: Any) -> Written:
    [outcome] = await node.submit([Command((Draft(stream, operations(**made)),))])
    assert isinstance(outcome, Written), outcome
    return outcome


def value(node: Node, stream: str) -> Any:
    with node.replica.read() as snapshot:
        return resolve_stream(snapshot, stream).row.registers["n"][0].value


def same(*nodes: Node) -> bool:
    return all(node.replica.vector == nodes[0].replica.vector for node in nodes)
