"""Single durable writes beside clients that follow the log; the floor is the same without any.

Followers are sockets in a process of their own, which reads what comes and drops it:
`python -m node.bench.followers PORT COUNT` says `ready` once all of them have reached the end of the log.
"""

import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.bench import loader
from node.bench.figure import Figure
from node.bench.http import write_load
from node.bench.processes import HOST, atoll, free_port

COUNTS = (0, 100, 500)
CONNECTIONS = 16
FOLLOW = b"GET /changes?after=now HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"


def followers(directory: Path) -> Iterator[Figure]:
    """Writes at 16 connections, with ever more clients that are sent all of them."""
    port, alone = free_port(), 0.0
    with atoll(directory, "eu", port):
        for count in COUNTS:
            with _following(port, count):
                loaded = loader.run(write_load(port, CONNECTIONS))
            alone = alone or loaded.rate
            what = f"HTTP write beside {count} followers, {CONNECTIONS} connections"
            yield Figure(what, loaded.rate, "requests/s", alone)
            yield Figure(f"{what}, p99", loaded.p99, "ms")


@contextmanager
def _following(port: int, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "node.bench.followers", str(port), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603  # our own module
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n", "the followers do not follow"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _drop(port: int, count: int) -> None:
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            follower = socket.create_connection((HOST, port))
            follower.sendall(FOLLOW)
            while b"caught-up" not in (said := follower.recv(65_536)):
                _check(said)
            selector.register(follower, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in selector.select(1.0):
                _check(key.fileobj.recv(262_144))  # type: ignore[union-attr]  # a socket, as it was registered


def _check(said: bytes) -> None:
    if not said:
        raise SystemExit("a follower was cut off")


if __name__ == "__main__":
    _drop(*map(int, sys.argv[1:]))
