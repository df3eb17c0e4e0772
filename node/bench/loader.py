"""A load on an HTTP server, from a process of its own: so many connections, each with one request under way.

Requests are made beforehand and answers are read no further than their length, so one core drives several times what
any of the servers measured can answer. Run as `python -m node.bench.loader`, with a `Load` as JSON on standard input.
"""

import random
import selectors
import socket
import subprocess
import sys
import time

import msgspec

CONTENT_LENGTH = b"content-length:"
REQUESTS_MADE = 20_000


class Load(msgspec.Struct, frozen=True):
    """What to ask. Shape: `{n}` in path and body becomes a number below `keys`, another one for each request."""

    host: str
    port: int
    connections: int
    seconds: float
    method: str
    path: str
    keys: int = 1
    body: str = ""
    headers: dict[str, str] = {}
    statuses: tuple[int, ...] = (200,)


class Loaded(msgspec.Struct, frozen=True):
    """What came of it. Units: latencies in milliseconds. Shape: `unexpected` counts answers of other statuses."""

    rate: float
    p50: float
    p99: float
    unexpected: int


def run(load: Load) -> Loaded:
    """Put the load on, from another process."""
    done = subprocess.run(  # our own module
        [sys.executable, "-m", "node.bench.loader"], input=msgspec.json.encode(load), capture_output=True, check=True
    )
    return msgspec.json.decode(done.stdout, type=Loaded)


def _requests(load: Load) -> list[bytes]:
    rng = random.Random(load.port)
    made: list[bytes] = []
    for _ in range(REQUESTS_MADE if load.keys > 1 else 1):
        number = f"{rng.randrange(load.keys):07}"
        body = load.body.replace("{n}", number).encode()
        headers = {"host": f"{load.host}:{load.port}", **load.headers}
        if body:
            headers["content-length"] = str(len(body))
        lines = [f"{load.method} {load.path.replace('{n}', number)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        made.append("\r\n".join([*lines, "", ""]).encode() + body)
    return made


class _Connection:
    """One connection; made again where the server ends it between requests, as some do after a thousand."""

    def __init__(self, load: Load, selector: selectors.BaseSelector) -> None:
        self._address = (load.host, load.port)
        self._selector = selector
        self.received = b""
        self.sent_at = 0.0
        self._request = b""
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(self._address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self.socket, selectors.EVENT_READ, self)

    def ask(self, request: bytes) -> None:
        self.received = b""
        self._request = request
        self.sent_at = time.perf_counter()
        try:
            self.socket.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            self._again()

    def _again(self) -> None:
        self._selector.unregister(self.socket)
        self.socket.close()
        self._connect()
        self.socket.sendall(self._request)

    def answered(self) -> int:
        """The status, once the answer is whole; 0 before."""
        try:
            data = self.socket.recv(262_144)
        except ConnectionResetError:
            data = b""
        if not data:
            self._again()
            return 0
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return 0
        lower = head.lower()
        at = lower.find(CONTENT_LENGTH)
        if at >= 0:
            whole = len(body) >= int(lower[at + len(CONTENT_LENGTH) :].split(b"\r\n", 1)[0])
        else:
            whole = b"chunked" not in lower or body.endswith(b"0\r\n\r\n")
        return int(head[9:12]) if whole else 0


def _drive(load: Load) -> Loaded:
    requests, number = _requests(load), 0
    latencies: list[float] = []
    unexpected = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(load.connections):
            connection = _Connection(load, selector)
            connection.ask(requests[number % len(requests)])
            number += 1
        began = time.perf_counter()
        while time.perf_counter() - began < load.seconds:
            for key, _ in selector.select(1.0):
                connection = key.data
                status = connection.answered()
                if status:
                    latencies.append(time.perf_counter() - connection.sent_at)
                    unexpected += status not in load.statuses
                    connection.ask(requests[number % len(requests)])
                    number += 1
        took = time.perf_counter() - began
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * share)] * 1000 if latencies else 0.0 for share in (0.5, 0.99))
    return Loaded(len(latencies) / took, p50, p99, unexpected)


if __name__ == "__main__":
    result = _drive(msgspec.json.decode(sys.stdin.buffer.read(), type=Load))
    sys.stdout.buffer.write(msgspec.json.encode(result))
