"""`atoll serve`: one region's node."""

import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import trio
from cyclopts import Parameter

from node import interpreter
from node.configuration import configure, read_file
from node.seams import SystemClock, system_entropy

if TYPE_CHECKING:
    from node.service import Node

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


async def serve(
    *,
    config: Path | None = None,
    region: str | None = None,
    data: Path | None = None,
    listen: str | None = None,
    peer: Annotated[list[str] | None, Parameter(negative=())] = None,
    cluster: str | None = None,
    gossip_interval_ms: int | None = None,
    max_drift_ms: int | None = None,
    map_bytes: int | None = None,
    message_bytes: int | None = None,
    http: Literal["httptools", "hypercorn"] | None = None,
    lost: Annotated[list[str] | None, Parameter(negative=())] = None,
    actor_header: str | None = None,
    public_url: str | None = None,
    passwords: Literal["refuse", "drop"] | None = None,
    unique_external_ids: Annotated[bool | None, Parameter(negative=())] = None,
    home: Annotated[list[str] | None, Parameter(negative=())] = None,
    view: Annotated[list[str] | None, Parameter(negative=())] = None,
) -> None:
    """Run one region's node until it is told to stop (SIGINT, SIGTERM).

    What is not given is taken from the file; what stands in neither has a default.

    Parameters
    ----------
    config
        A TOML file of the keys below, with underscores, and `peers` for all peers. Unknown keys are refused.
    region
        This node's place, such as eu-west.
    data
        Directory of the store, made where it is absent.
    listen
        HOST:PORT for clients and peers [127.0.0.1:8080]. There is no authentication yet.
    peer
        URL of another region's node; once for each.
    cluster
        Name of the cluster [atoll].
    gossip_interval_ms
        Mean time between repairs from a random peer [1000].
    max_drift_ms
        How far ahead of a receiver's clock a timestamp may be; the same in the whole cluster [60000].
    map_bytes
        The most that the store may grow to, in bytes.
    message_bytes
        Where a message to a peer takes up no more transactions [1048576].
    http
        What serves HTTP/1.1 [httptools].
    lost
        ORIGIN.SEQ: the last event of an origin whose disk was lost; once for each.
    actor_header
        The header that says who writes [Atoll-Actor].
    public_url
        Where clients reach this node, for the locations that SCIM shows [as they asked].
    passwords
        What SCIM does with a password, which is never kept [refuse].
    unique_external_ids
        Claim a user's externalId as its userName is claimed: once in a region.
    home
        PREFIX=REGION: the one region that gives names under a prefix; once for each.
    view
        A module that holds views of your own, in a list VIEWS; once for each.
    """
    given: dict[str, Any] = {
        "region": region,
        "data": None if data is None else str(data),
        "listen": listen,
        "peers": peer,
        "cluster": cluster,
        "gossip_interval_ms": gossip_interval_ms,
        "max_drift_ms": max_drift_ms,
        "map_bytes": map_bytes,
        "message_bytes": message_bytes,
        "http": http,
        "lost": lost,
        "actor_header": actor_header,
        "public_url": public_url,
        "passwords": passwords,
        "unique_external_ids": unique_external_ids,
        "homes": home,
        "views": view,
    }
    values = {} if config is None else read_file(config)
    values |= {name: value for name, value in given.items() if value is not None}
    await _serve(values)


async def _serve(values: dict[str, Any]) -> None:
    configuration = configure(values)
    # The server's libraries take a second to import: not before it is known that they are needed.
    from node.server import listen, serve, url_of
    from node.transport import HttpTransport

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    interpreter.set_up()
    listener = listen(*configuration.address)
    url = url_of(listener)
    transport = HttpTransport()

    def started(node: "Node") -> None:
        with suppress(OSError):  # a log whose disk is full
            print(f"{configuration.region} serves {url} as {node.replica.origin}", flush=True)

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

        async def stop() -> None:
            async for _ in signals:
                return

        try:
            await serve(configuration, listener, SystemClock(), transport, system_entropy(), stop, started)
        finally:
            listener.close()
            await transport.aclose()
