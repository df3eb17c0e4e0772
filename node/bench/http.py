"""Single requests over HTTP: durable writes and resolved reads, at 1, 16 and 64 connections."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from node.bench import loader, straight
from node.bench.figure import Figure
from node.bench.floor import copied
from node.bench.loader import Load, Loaded
from node.bench.processes import HOST, atoll, free_port, shows_all_it_has, stand_in, wait_until
from node.bench.workload import NAME, fill, open_replica

STREAMS = 20_000
CONNECTIONS = (1, 16, 64)
SECONDS = 5.0
BODY = '{"set":{"displayName":"' + NAME + '","revision":{n}}}'.replace("{n}", "1")
JSON = {"content-type": "application/json"}
NODE = "node"


def write_load(port: int, connections: int) -> Load:
    path = "/streams/users/{n}"
    return Load(HOST, port, connections, SECONDS, "POST", path, STREAMS, BODY, JSON, (201,))


def read_load(port: int, connections: int) -> Load:
    return Load(HOST, port, connections, SECONDS, "GET", "/streams/users/{n}", STREAMS)


def _prepare(directory: Path) -> None:
    replica = open_replica(directory / "eu")
    fill(replica, STREAMS, STREAMS)
    replica.close()


def writes(directory: Path) -> Iterator[Figure]:
    """Single durable writes; the floor is a server that puts the rows of an event, and does nothing else."""
    yield from _measure(directory, "write", write_load, "bare", {straight.NAME: "straight"})


def reads(directory: Path) -> Iterator[Figure]:
    """Reads of a resolved stream; the floor is the same handlers behind Quart on stock hypercorn."""
    yield from _measure(directory, "read", read_load, "stock", {})


def _measure(
    directory: Path, kind: str, load: Callable[[int, int], Load], floor: str, beside: Mapping[str, str]
) -> Iterator[Figure]:
    """One after the other at each number of connections: a machine's speed varies, and they are to meet the same."""
    _prepare(directory)
    ports = {module: free_port() for module in (floor, *beside.values(), NODE)}
    with ExitStack() as served:
        for module in (floor, *beside.values()):
            served.enter_context(stand_in(module, copied(directory / "eu", directory / module), ports[module]))
        wait_until(shows_all_it_has, served.enter_context(atoll(directory, "eu", ports[NODE])))
        for number in CONNECTIONS:
            loaded = {module: _loaded(load(port, number)) for module, port in ports.items()}
            what = f"HTTP {kind}, {number} connections"
            others = {name: loaded[module].rate for name, module in beside.items()}
            yield Figure(what, loaded[NODE].rate, "requests/s", loaded[floor].rate, others)
            yield Figure(f"{what}, p99", loaded[NODE].p99, "ms")


def _loaded(load: Load) -> Loaded:
    loaded = loader.run(load)
    assert not loaded.unexpected, f"{loaded.unexpected} answers of another status to {load.method} {load.path}"
    return loaded


def others(directory: Path) -> Iterator[Figure]:
    """Conditional and forced reads and writes, many reads at once, pages of changes; the floor is as for reads."""
    _prepare(directory)
    port, stock = free_port(), free_port()
    with (
        stand_in("stock", copied(directory / "eu", directory / "stock"), stock),
        atoll(directory, "eu", port) as node,
    ):
        wait_until(shows_all_it_has, node, f"http://{HOST}:{stock}")
        token = _token(port)
        many = '{"streams":[' + ",".join(f'"users/{number:07}"' for number in range(100)) + "]}"
        for what, load in {
            "read, unchanged (304)": Load(
                HOST, port, 16, SECONDS, "GET", "/streams/users/0000001",
                headers={"if-none-match": f'"{token}"'}, statuses=(304,),
            ),
            "read, forced (Causal-After)": Load(
                HOST, port, 16, SECONDS, "GET", "/streams/users/{n}", STREAMS, headers={"causal-after": token}
            ),
            "write, conditional (If-Match)": Load(
                HOST, port, 16, SECONDS, "POST", "/streams/users/{n}", STREAMS, BODY, JSON | {"if-match": "*"}, (201,)
            ),
            "resolve, 100 streams": Load(HOST, port, 16, SECONDS, "POST", "/resolve", body=many, headers=JSON),
            "changes, a page of 100": Load(HOST, port, 16, SECONDS, "GET", "/changes"),
        }.items():  # fmt: skip
            floor = _loaded(replace(load, port=stock))
            yield Figure(f"HTTP {what}, 16 connections", _loaded(load).rate, "requests/s", floor.rate)


def _token(port: int) -> str:
    import httpx

    token: str = httpx.get(f"http://{HOST}:{port}/streams/users/0000001", trust_env=False).json()["token"]
    return token
