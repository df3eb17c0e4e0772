"""PouchDB Server (npm: pouchdb-server): multi-master over HTTP. It does not sync."""

import shutil
import time
from pathlib import Path

import httpx

from node.bench import loader
from node.bench.loader import Load
from node.bench.peers.rates import SECONDS, Rates
from node.bench.processes import HOST, free_port, server
from node.bench.workload import NAME

CATCH_UP_DOCUMENTS = 20_000
LAG_WRITES, LAG_RATE = 300, 100


def installed() -> bool:
    """Whether this machine has it."""
    return shutil.which("pouchdb-server") is not None


def measure(home: Path) -> Rates:
    """Documents written, read and replicated over HTTP."""
    rates: Rates = {}
    port, second = free_port(), free_port()
    command = ["pouchdb-server", "--no-stdout-logs", "--dir"]
    with (
        server([*command, str(home / "one"), "--port", str(port)], port, home),
        server([*command, str(home / "two"), "--port", str(second)], second, home),
        httpx.Client(timeout=600, trust_env=False) as client,
    ):
        database, other = f"http://{HOST}:{port}/users", f"http://{HOST}:{second}/users"
        client.put(database).raise_for_status()
        client.put(other).raise_for_status()
        for number in range(100):
            client.put(f"{database}/{number:07}", json={"displayName": NAME}).raise_for_status()
        body = '{"displayName":"' + NAME + '","revision":1}'
        json_type = {"content-type": "application/json"}
        for connections in (64, 16, 64):  # the first time warms it up: code that runs often is compiled by and by
            write = Load(HOST, port, connections, SECONDS, "POST", "/users", 1, body, json_type, (201,))
            read = Load(HOST, port, connections, SECONDS, "GET", "/users/{n}", 100)
            rates[f"write, {connections} connections (not synced)"] = loader.run(write).rate
            rates[f"read, {connections} connections"] = loader.run(read).rate
        rates["lag p50 ms"] = _lag(client, database, other)
        rates["catch-up (not synced)"] = _catch_up(client, port, second)
    return rates


def _lag(client: httpx.Client, database: str, other: str) -> float:
    """From the answer to a write until continuous replication has it on the other server."""
    replicate = {"source": database, "target": other, "continuous": True}
    client.post(f"{other.rsplit('/', 1)[0]}/_replicate", json=replicate).raise_for_status()
    time.sleep(2)
    lags: list[float] = []
    for number in range(LAG_WRITES):
        client.put(f"{database}/lag{number}", json={"displayName": NAME}).raise_for_status()
        answered = time.perf_counter()
        while client.get(f"{other}/lag{number}").status_code != httpx.codes.OK:
            pass
        lags.append(time.perf_counter() - answered)
        time.sleep(max(0.0, 1 / LAG_RATE - lags[-1]))
    return sorted(lags)[LAG_WRITES // 2] * 1000


def _catch_up(client: httpx.Client, port: int, second: int) -> float:
    source, target = f"http://{HOST}:{port}/log", f"http://{HOST}:{second}/log"
    client.put(source).raise_for_status()
    client.put(target).raise_for_status()
    for start in range(0, CATCH_UP_DOCUMENTS, 1_000):
        documents = [{"_id": f"{start + n:09}", "displayName": NAME} for n in range(1_000)]
        client.post(f"{source}/_bulk_docs", json={"docs": documents}).raise_for_status()
    began = time.perf_counter()
    client.post(f"http://{HOST}:{second}/_replicate", json={"source": source, "target": target}).raise_for_status()
    return CATCH_UP_DOCUMENTS / (time.perf_counter() - began)
