"""`atoll demo`: three regions on this machine, whose links can be cut, healed and delayed.

Each region is a node as `atoll serve` runs it, with a store and a port of its own. A node reaches a peer through a
proxy of its own, so every link has two ends, and both are cut together.
"""

import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import trio

from node.commands.links import control_path
from node.commands.tcp_proxy import DELAY_MAX_S, Link
from node.configuration import Configuration, configure
from node.errors import CommandFailed
from node.seams import SystemClock, system_entropy
from node.server import listen, serve, url_of
from node.service import Node
from node.transport import HttpTransport
from replication.packing import DECODE_ERRORS

REGIONS = ("us", "eu", "ap")
HOST = "127.0.0.1"
PORT_MAX = 65_536 - len(REGIONS)
GOSSIP_INTERVAL_MS = 500
REQUEST_BYTES_MAX = 4096

Request = tuple[Literal["cut", "heal", "delay"], str, str, Annotated[float, msgspec.Meta(ge=0, le=DELAY_MAX_S)]]
"""What is to be done, to the link between which two regions. Units: seconds, each way."""
_decode_request = msgspec.json.Decoder(Request).decode


async def demo(*, port: int = 8081, data: Path | None = None) -> None:
    """Run three regions on this machine, and print what to type.

    Parameters
    ----------
    port
        The first region's port; the others follow it.
    data
        Directory to keep the stores in; without it they go when the demo ends.
    """
    if not 0 < port <= PORT_MAX:
        raise CommandFailed(f"--port must be from 1 to {PORT_MAX}")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    with _directory(data) as directory, _control() as control:
        await _Demo(directory, port, control).run()


@contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="atoll-demo-") as directory:
        yield Path(directory)


@contextmanager
def _control() -> Iterator[socket.socket]:
    """The socket that `atoll cut` and its like reach this demo by. One demo runs at a time."""
    path = control_path()
    probe = socket.socket(socket.AF_UNIX)
    with probe:
        if path.exists():
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink(missing_ok=True)  # left by a demo that was killed
            else:
                raise CommandFailed("a demo runs on this machine already")
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(8)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


class _Demo:
    def __init__(self, directory: Path, port: int, control: socket.socket) -> None:
        self._directory = directory
        self._control = control
        self._listeners = {region: listen(HOST, port + place) for place, region in enumerate(REGIONS)}
        self._urls = {region: url_of(listener) for region, listener in self._listeners.items()}
        self._links: dict[tuple[str, str], Link] = {}
        self._waiting = set(REGIONS)

    async def run(self) -> None:
        stopped = trio.Event()
        transport = HttpTransport()
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            try:
                async with trio.open_nursery() as links, trio.open_nursery() as nodes:
                    configurations = [await self._link(region, links) for region in REGIONS]
                    for configuration in configurations:
                        nodes.start_soon(self._serve, configuration, transport, stopped.wait)
                    control = trio.SocketListener(trio.socket.from_stdlib_socket(self._control))
                    links.start_soon(trio.serve_listeners, self._obey, [control])
                    async for _ in signals:
                        break
                    stopped.set()
                    links.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await transport.aclose()
        print("stopped")

    async def _link(self, region: str, nursery: trio.Nursery) -> Configuration:
        """Start the proxies that a region reaches its peers through; its configuration."""
        proxies: list[str] = []
        for peer in REGIONS:
            if peer != region:
                link = self._links[region, peer] = Link(self._listeners[peer].getsockname()[:2])
                [listener] = await trio.open_tcp_listeners(0, host=HOST)
                host, port = listener.socket.getsockname()[:2]
                proxies.append(f"http://{host}:{port}")
                nursery.start_soon(link.serve, listener)
        return configure(
            {
                "region": region,
                "data": str(self._directory / region),
                "listen": f"{HOST}:0",
                "peers": proxies,
                "cluster": "demo",
                "gossip_interval_ms": GOSSIP_INTERVAL_MS,
            }
        )

    async def _serve(
        self, configuration: Configuration, transport: HttpTransport, stop: Callable[[], Awaitable[None]]
    ) -> None:
        listener = self._listeners[configuration.region]
        entropy = system_entropy()
        await serve(configuration, listener, SystemClock(), transport, entropy, stop, self._started)

    def _started(self, node: Node) -> None:
        self._waiting.discard(node.configuration.region)
        if not self._waiting:
            print(what_to_type(self._urls, prefix=_prefix()), flush=True)

    async def _obey(self, stream: trio.SocketStream) -> None:
        with suppress(OSError, trio.BrokenResourceError):
            request = await stream.receive_some(REQUEST_BYTES_MAX)
            await stream.send_all(json.dumps(self._act(bytes(request))).encode())

    def _act(self, request: bytes) -> tuple[bool, str]:
        try:
            command, first, second, seconds = _decode_request(request)
            ends = (self._links[first, second], self._links[second, first])
        except KeyError:
            return False, f"name two different regions of {', '.join(REGIONS)}"
        except DECODE_ERRORS as error:
            return False, f"the demo was not asked to cut, heal or delay a link: {error}"
        for link in ends:
            match command:
                case "cut":
                    link.set_cut(True)
                case "heal":
                    link.set_cut(False)
                    link.delay_s = 0.0
                case "delay":
                    link.delay_s = seconds
        said = {"cut": "is cut", "heal": "is healed", "delay": f"takes {seconds * 1000:g} ms longer each way"}
        return True, f"{first} - {second} {said[command]}"


def _prefix() -> str:
    """How the commands are reached by whoever typed this one."""
    return "uv run atoll" if "UV" in os.environ or shutil.which("atoll") is None else "atoll"


def what_to_type(urls: dict[str, str], prefix: str) -> str:
    """The tour: each line is a command that works as it is printed."""
    us, eu, ap = (urls[region] for region in REGIONS)
    json_type = "-H 'content-type: application/json'"
    return f"""Three regions are ready: us {us}  eu {eu}  ap {ap}
In another terminal, from the same directory:

  # Write in one region, read it in another.
  curl -s {us}/streams/users/4 {json_type} -d '{{"set": {{"name": "Lisa"}}}}'
  curl -s {eu}/streams/groups/ops {json_type} -d '{{"add": {{"members": ["lisa", "omar"]}}}}'
  curl -s {eu}/streams/users/4

  # Cut eu off from both others; write on both sides.
  {prefix} cut us eu
  {prefix} cut ap eu
  curl -s {us}/streams/users/4 {json_type} -d '{{"set": {{"name": "Lisa Anna"}}}}'
  curl -s {eu}/streams/users/4 {json_type} -d '{{"set": {{"name": "Lisa Maria"}}}}'
  curl -s {us}/streams/groups/ops {json_type} -d '{{"add": {{"members": ["omar", "ravi"]}}}}'
  curl -s {eu}/streams/groups/ops {json_type} -d '{{"remove": {{"members": ["omar"]}}}}'
  curl -s {us}/streams/users/4
  curl -s {eu}/streams/users/4

  # Heal: both sides agree, the name that lost is shown, and omar, added while he was removed, stays.
  {prefix} heal us eu
  {prefix} heal ap eu
  {prefix} status {us} {eu} {ap}
  curl -s '{us}/streams/users/4?conflicts=true'
  curl -s '{eu}/streams/users/4?conflicts=true'
  curl -s {eu}/streams/groups/ops

  # Slow a link down; follow what changes as it arrives.
  {prefix} delay us eu 80ms
  curl -sN -H 'accept: text/event-stream' '{eu}/changes?after=now'

Ctrl-C stops the regions."""
