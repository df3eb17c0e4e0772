"""Three `atoll serve` processes whose links go through proxies that the test can cut."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from node.bench.processes import HOST, free_ports
from node.commands.tcp_proxy import Link

REGIONS = ("us", "eu", "ap")
ATOLL = (sys.executable, "-m", "node")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60
"""How long what must come to be may take: a busy machine takes twenty seconds to start three nodes."""


@dataclass
class Cluster:
    """The processes, by region, and the links between them."""

    directory: Path
    client: httpx.AsyncClient
    ports: dict[str, int] = field(default_factory=lambda: dict(zip(REGIONS, free_ports(3), strict=True)))
    links: dict[tuple[str, str], Link] = field(default_factory=dict)
    proxies: dict[tuple[str, str], int] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    modules: Path | None = None

    @property
    def urls(self) -> dict[str, str]:
        return {region: f"http://{HOST}:{port}" for region, port in self.ports.items()}

    async def start(self, region: str) -> None:
        """Start a region's process, and wait until it is ready."""
        peers = [f"--peer=http://{HOST}:{self.proxies[region, peer]}" for peer in REGIONS if peer != region]
        log = (self.directory / f"{region}.log").open("a")
        with log:
            self.processes[region] = subprocess.Popen(  # noqa: ASYNC220  # it outlives this function
                [*ATOLL, "serve", "--region", region, "--data", str(self.directory / region),
                 "--listen", f"{HOST}:{self.ports[region]}", "--gossip-interval-ms", "200", *peers, *self.options],
                stdout=log, stderr=log, text=True, cwd=ROOT,
                env=os.environ | ({"PYTHONPATH": str(self.modules)} if self.modules else {}),
            )  # fmt: skip
        with trio.fail_after(PATIENCE_S):
            while not await self.ready(region):
                await trio.sleep(0.05)

    async def ready(self, region: str) -> bool:
        try:
            return (await self.client.get(f"{self.urls[region]}/readyz")).status_code == 200
        except httpx.TransportError:
            assert self.processes[region].poll() is None, self.log(region)
            return False

    def log(self, region: str) -> str:
        return (self.directory / f"{region}.log").read_text()

    def kill(self, region: str) -> None:
        """SIGKILL: nothing is closed, flushed or said."""
        self.processes[region].kill()
        self.processes[region].wait()

    def cut(self, region: str, cut: bool) -> None:
        """Cut a region off from all others, or heal it."""
        for ends, link in self.links.items():
            if region in ends:
                link.set_cut(cut)

    async def status(self, region: str) -> dict[str, Any]:
        status: dict[str, Any] = (await self.client.get(f"{self.urls[region]}/status")).json()
        return status

    async def settle(self) -> dict[str, Any]:
        """Wait until all heads are equal; those heads."""
        with trio.fail_after(PATIENCE_S):
            while True:
                heads = [(await self.status(region))["heads"] for region in REGIONS]
                if heads[0] == heads[1] == heads[2]:
                    return heads[0]  # type: ignore[no-any-return]  # a JSON document
                await trio.sleep(0.05)

    async def answers(self, region: str) -> dict[str, Any]:
        """Everything that a region answers: stream to registers and sets, large sets paged."""
        found: dict[str, Any] = {}
        path = "/streams/?limit=1000"
        while path:
            listed = await self.client.get(self.urls[region] + path)
            names = [item["stream"] for item in listed.json()["streams"]]
            resolved = await self.client.post(f"{self.urls[region]}/resolve", json={"streams": names})
            for answer in resolved.json()["streams"]:
                sets = dict(answer["sets"])
                for name, large in answer.get("large_sets", {}).items():
                    sets[name] = await self._members(region, large["href"])
                found[answer["stream"]] = {"registers": answer["registers"], "sets": sets}
            path = listed.links["next"]["url"] if "next" in listed.links else ""
        return found

    async def _members(self, region: str, path: str) -> list[str]:
        members: list[str] = []
        while path:
            page = await self.client.get(self.urls[region] + path)
            members += page.json()["members"]
            path = page.links["next"]["url"] if "next" in page.links else ""
        return members

    async def load(self, file: Path, max_in_flight: int) -> str:
        """Run `atoll load`; what it printed."""
        nodes = [f"--node={region}={url}" for region, url in self.urls.items()]
        command = [*ATOLL, "load", str(file), f"--max-in-flight={max_in_flight}", *nodes]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stderr == b"", "quiet in a pipe"
        return bytes(done.stdout).decode()

    async def stop(self) -> None:
        """Ask every process to stop; each does so soon, cleanly and without a word."""
        for process in self.processes.values():
            process.send_signal(signal.SIGINT)
        for region, process in self.processes.items():
            assert await trio.to_thread.run_sync(process.wait, 10) == 0, self.log(region)
            assert "Traceback" not in self.log(region), self.log(region)


@asynccontextmanager
async def running(
    directory: Path, options: tuple[str, ...] = (), modules: Path | None = None
) -> AsyncIterator[Cluster]:
    """Three regions, each linked to both others; at the end all stores are verified."""
    async with (
        trio.open_nursery() as nursery,
        httpx.AsyncClient(timeout=30, trust_env=False) as client,
    ):
        cluster = Cluster(directory, client, options=options, modules=modules)
        for caller in REGIONS:
            for peer in REGIONS:
                if caller != peer:
                    link = cluster.links[caller, peer] = Link((HOST, cluster.ports[peer]))
                    [listener] = await trio.open_tcp_listeners(0, host=HOST)
                    cluster.proxies[caller, peer] = listener.socket.getsockname()[1]
                    nursery.start_soon(link.serve, listener)
        try:
            async with trio.open_nursery() as starting:
                for region in REGIONS:
                    starting.start_soon(cluster.start, region)
            yield cluster
            await cluster.stop()
        finally:
            for process in cluster.processes.values():
                process.kill()
                process.wait()
            nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        for region in REGIONS:
            nursery.start_soon(verify, directory / region)


async def verify(directory: Path) -> None:
    """The store is clean, says `atoll verify`."""
    command = [*ATOLL, "verify", str(directory)]
    done = await trio.run_process(command, capture_stdout=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout.decode()
    print(done.stdout.decode(), end="")
