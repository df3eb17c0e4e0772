"""Two regions with nothing to tell each other: what an exchange costs them all the same, in bytes and in CPU.

One asks the other every few milliseconds instead of every second, over a link that counts. What an exchange says is
what each holds, so it grows with the origins that ever wrote. The floor is a bare request of the same client's.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import httpx
import trio

from node.bench.figure import Figure
from node.bench.processes import HOST, atoll, free_port, wait_until
from node.bench.workload import NOW, command, open_replica, write
from replication.exchange import lacking
from replication.limits import MESSAGE_TARGET_BYTES
from replication.messages import Digest
from replication.replica import Arrival

ORIGINS = (2, 50)
INTERVAL_MS = 10
SECONDS = 5.0
BARE_REQUESTS = 1_000


def idle(directory: Path) -> Iterator[Figure]:
    """Exchanges of two regions that hold the same; the floor is as many requests that ask whether a node is there."""
    for origins in ORIGINS:
        home = directory / f"{origins}"
        _prepare(home, origins)
        yield from _measure(home, origins)


def _measure(directory: Path, origins: int) -> Iterator[Figure]:
    port, interval = free_port(), ("--gossip-interval-ms", f"{INTERVAL_MS}")
    with atoll(directory, "us", port) as us:
        bare = _bare_request_s(us)
        with _counting(port) as meter, atoll(directory, "eu", free_port(), "--peer", meter.url, *interval) as eu:
            wait_until(lambda told: told["events"] == origins and told["peers"][0]["reachable"], eu)
            requests, size, cpu = meter.requests, meter.bytes, _servers_cpu_s()
            time.sleep(SECONDS)
            count = meter.requests - requests
            what = f"idle exchange, {origins} origins"
            yield Figure(f"{what}, both ways", (meter.bytes - size) / count, "bytes")
            yield Figure(f"{what}, CPU of both", (_servers_cpu_s() - cpu) / count * 1e6, "µs", bare * 1e6)


def _prepare(directory: Path, origins: int) -> None:
    """A store that holds an event of each of so many regions."""
    replica = open_replica(directory / "us", "us")
    for number in range(origins):
        other = open_replica(directory / f"region-{number}", f"region-{number}")
        write(other, [command("users/0000001", number)])
        with other.read() as snapshot:
            transactions = lacking(snapshot, Digest({}, NOW), MESSAGE_TARGET_BYTES)
        other.close()
        replica.turn([Arrival(transactions)], NOW)
    replica.close()


def _bare_request_s(url: str) -> float:
    """What a request takes that says next to nothing, of the client's CPU and the server's. Units: seconds."""
    target = httpx.URL(f"{url}/healthz")

    async def ask() -> None:
        async with httpx.AsyncHTTPTransport(trust_env=False) as wire:
            for _ in range(BARE_REQUESTS):
                response = await wire.handle_async_request(httpx.Request("GET", target))
                await response.aread()
                await response.aclose()

    before = _servers_cpu_s() + time.process_time()
    trio.run(ask)
    return (_servers_cpu_s() + time.process_time() - before) / BARE_REQUESTS


def _servers_cpu_s() -> float:
    """CPU that the servers which this process runs have taken so far. Units: seconds."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime, stime: proc(5), less the two fields before
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class _Meter:
    """What has crossed a link."""

    url: str
    requests: int = 0
    bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        """One way of one connection, to its end."""
        while chunk := source.recv(65_536):
            with self.lock:
                self.bytes += len(chunk)
                self.requests += chunk.count(b"POST /gossip ")
            sink.sendall(chunk)
        with suppress(OSError):  # whose other end is gone already
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def _counting(port: int) -> Iterator[_Meter]:
    """A link to what listens on the port."""

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((HOST, port)) as far:
                for end in (self.request, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=meter.carry, args=(far, self.request))
                back.start()
                meter.carry(self.request, far)
                back.join()

    with ThreadingTCPServer((HOST, 0), Connection) as link:
        meter = _Meter(f"http://{HOST}:{link.server_address[1]}")
        threading.Thread(target=link.serve_forever).start()
        try:
            yield meter
        finally:
            link.shutdown()
