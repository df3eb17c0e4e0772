"""Servers for as long as they are measured: started on loopback, waited for, stopped."""

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from node.errors import CommandFailed

HOST = "127.0.0.1"
READY_S = 30.0
POLL_S = 0.2
AS_WANTED_S = 1800.0


class NotReady(CommandFailed):
    """A server that did not come up, or did not come to be as wanted."""


# Below the range from which the system gives ports to clients and proxies, so that none of those can take one that
# was found free here and is listened on only later, or again after a kill. Processes that look at once begin apart.
_candidates = itertools.count(20_000 + os.getpid() * 997 % 9_000)


def free_ports(count: int) -> list[int]:
    """Ports in a row that nobody listens on, and that this process is given once."""
    ports: list[int] = []
    while len(ports) < count:
        port = next(_candidates)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                ports = []
            else:
                ports.append(port)
    return ports


def free_port() -> int:
    """A port that nobody listens on, and that this process is given once."""
    [port] = free_ports(1)
    return port


def run(command: Sequence[str], *, check: bool = True) -> str:
    """Run a command to its end; what it printed. Raises: CommandFailed, if `check`."""
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603  # as the caller says
    if check and done.returncode:
        raise CommandFailed(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Raises: NotReady."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise NotReady(f"{process.args!r} does not listen on {port}")


@contextmanager
def server(command: Sequence[str], port: int, directory: Path) -> Iterator[None]:
    """While this lasts, the command serves on the port. Raises: NotReady."""
    with (directory / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)  # noqa: S603  # as the caller says
        try:
            wait_for_port(port, process)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def atoll(directory: Path, region: str, port: int, *options: str) -> Iterator[str]:
    """While this lasts, a node serves; its URL."""
    command = [sys.executable, "-m", "node", "serve", "--region", region, "--data", str(directory / region)]
    with server([*command, "--listen", f"{HOST}:{port}", "--cluster", "bench", *options], port, directory):
        yield f"http://{HOST}:{port}"


@contextmanager
def stand_in(module: str, directory: Path, port: int) -> Iterator[None]:
    """While this lasts, a server of this package takes the load in a node's place, on the store in `directory`."""
    with server([sys.executable, "-m", f"node.bench.{module}", str(directory), str(port)], port, directory):
        yield


def wait_until(done: Callable[[dict[str, Any]], bool], *urls: str) -> None:
    """Until what each node tells of itself is as wanted. Raises: NotReady, where that does not come."""
    deadline = time.monotonic() + AS_WANTED_S
    with httpx.Client(trust_env=False, timeout=30) as client:
        while not all(done(client.get(f"{url}/status").json()) for url in urls):
            if time.monotonic() > deadline:
                raise NotReady(f"{' and '.join(urls)}: not as wanted after {AS_WANTED_S:g} s")
            time.sleep(POLL_S)


def shows_all_it_has(told: dict[str, Any]) -> bool:
    """A node that finds a log makes its views of it first."""
    return all(view["serving"] and not view["behind"] for view in told["views"].values())
