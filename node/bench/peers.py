"""Others that do this work, measured in the same run where they are installed: started on loopback, and stopped.

PostgreSQL (Debian: postgresql) commits each insert with the disk synced, into a table with as many indexes as an
event here has rows. PouchDB Server (npm: pouchdb-server) is multi-master over HTTP, and does not sync. Redis (Debian:
redis-server) appends to a file and syncs it with each command.
"""

import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from node.bench import loader
from node.bench.loader import Load
from node.bench.processes import HOST, free_port, server
from node.bench.workload import NAME

SECONDS = 5
COPY_ROWS = 300_000
CATCH_UP_DOCUMENTS = 20_000
CATCH_UP_ROWS = 300_000
LAG_WRITES, LAG_RATE = 300, 100

Rates = dict[str, float]
"""What a peer does, by what was measured."""

TABLE = """
CREATE TABLE events (seq bigserial, origin int, stream text, at timestamptz DEFAULT clock_timestamp(), body text,
                     PRIMARY KEY (origin, seq));
CREATE INDEX ON events (stream, at, origin, seq);
CREATE INDEX ON events (stream);
"""
INSERT = f"""\\set n random(1, 20000)
INSERT INTO events (origin, stream, body) VALUES (1, 'users/' || :n, '{"x" * 200}');
"""


def measure(directory: Path) -> dict[str, Rates]:
    """Every peer that is installed, by name."""
    measured: dict[str, Rates] = {}
    for name, installed, run in (
        ("PostgreSQL", _postgres_programs() is not None, postgres),
        ("PouchDB Server", shutil.which("pouchdb-server") is not None, pouchdb),
        ("Redis", shutil.which("redis-server") is not None, redis),
    ):
        if installed:
            home = directory / name.split()[0].lower()
            home.mkdir()
            measured[name] = run(home)
    return measured


# --- PostgreSQL


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) if shutil.which("pgbench") else []
    return found[-1].parent if found else None


@contextmanager
def _postgres(home: Path, programs: Path, port: int) -> Iterator[str]:
    """While this lasts, a cluster serves; its URL. PostgreSQL refuses to run as root."""
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    data = home / f"data-{port}"
    if os.geteuid() == 0:
        for parent in (home, *home.parents):
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(home, user)
    as_user = ["setpriv", f"--reuid={user}", "--clear-groups"] if os.geteuid() == 0 else []
    _run([*as_user, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "bench", "-N"])
    options = ["-p", str(port), "-k", str(home), "-c", "wal_level=logical", "-c", f"listen_addresses={HOST}"]
    with server([*as_user, str(programs / "postgres"), "-D", str(data), *options], port, home):
        url = f"postgresql://bench@{HOST}:{port}/postgres"
        deadline = time.monotonic() + 20
        while not _query(url, "SELECT 1", check=False) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield url


def _run(command: list[str], *, check: bool = True) -> str:
    done = subprocess.run(command, check=check, capture_output=True, text=True)  # noqa: S603  # our own commands
    return done.stdout.strip()


def _query(url: str, text: str, *, check: bool = True) -> str:
    return _run(["psql", "-tAqX", "-d", url, "-c", text], check=check)


def postgres(home: Path) -> Rates:
    """Committed inserts, COPY, and logical replication to a second server."""
    programs = _postgres_programs()
    assert programs is not None
    rates: Rates = {}
    port, second = free_port(), free_port()
    script = home / "insert.sql"
    script.write_text(INSERT)
    with _postgres(home, programs, port) as url, _postgres(home, programs, second) as other:
        _query(url, TABLE)
        pgbench = [str(programs / "pgbench"), "-n", "-M", "prepared", "-j", "2", "-f", str(script)]
        for clients in (16, 64):
            output = _run([*pgbench, "-c", str(clients), "-T", str(SECONDS), url])
            found = re.search(r"tps = ([\d.]+)", output)
            assert found is not None, output
            rates[f"write, {clients} connections"] = float(found[1])
        _query(url, "TRUNCATE events")
        rows = home / "rows.tsv"
        with rows.open("w") as file:
            for number in range(COPY_ROWS):
                file.write(f"{number}\t1\tusers/{number * 7919 % 20_000}\t{'x' * 200}\n")
        began = time.perf_counter()
        _query(url, f"\\copy events (seq, origin, stream, body) FROM '{rows}'")
        rates["ingest"] = COPY_ROWS / (time.perf_counter() - began)
        rates["catch-up"] = _postgres_catch_up(url, other, pgbench)
    return rates


def _postgres_catch_up(url: str, other: str, pgbench: list[str]) -> float:
    """Rows that were committed one by one while the subscriber was away, replayed by it."""
    for one in (url, other):
        _query(one, "DROP TABLE IF EXISTS events")
        _query(one, TABLE)
    _query(url, "CREATE PUBLICATION everything FOR ALL TABLES")
    where = url.replace("postgresql://bench@", "host=").replace(f"{HOST}:", f"{HOST} port=").replace("/postgres", "")
    _query(other, f"CREATE SUBSCRIPTION s CONNECTION '{where} user=bench dbname=postgres' PUBLICATION everything")
    time.sleep(2)
    _query(other, "ALTER SUBSCRIPTION s DISABLE")
    _run([*pgbench, "-c", "16", "-t", str(CATCH_UP_ROWS // 16), url])
    began = time.perf_counter()
    _query(other, "ALTER SUBSCRIPTION s ENABLE")
    while int(_query(other, "SELECT count(*) FROM events") or 0) < CATCH_UP_ROWS // 16 * 16:
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    _query(other, "DROP SUBSCRIPTION s")
    return CATCH_UP_ROWS / seconds


# --- PouchDB


def pouchdb(home: Path) -> Rates:
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
        write = Load(HOST, port, 16, SECONDS, "POST", "/users", 1, body, json_type, (201,))
        read = Load(HOST, port, 16, SECONDS, "GET", "/users/{n}", 100)
        rates["write, 16 connections"] = loader.run(write).rate
        rates["read, 16 connections"] = loader.run(read).rate
        rates["lag p50 ms"] = _pouchdb_lag(client, database, other)
        rates["catch-up"] = _pouchdb_catch_up(client, port, second)
    return rates


def _pouchdb_lag(client: httpx.Client, database: str, other: str) -> float:
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


def _pouchdb_catch_up(client: httpx.Client, port: int, second: int) -> float:
    source, target = f"http://{HOST}:{port}/log", f"http://{HOST}:{second}/log"
    client.put(source).raise_for_status()
    client.put(target).raise_for_status()
    for start in range(0, CATCH_UP_DOCUMENTS, 1_000):
        documents = [{"_id": f"{start + n:09}", "displayName": NAME} for n in range(1_000)]
        client.post(f"{source}/_bulk_docs", json={"docs": documents}).raise_for_status()
    began = time.perf_counter()
    client.post(f"http://{HOST}:{second}/_replicate", json={"source": source, "target": target}).raise_for_status()
    return CATCH_UP_DOCUMENTS / (time.perf_counter() - began)


# --- Redis


def redis(home: Path) -> Rates:
    """SET of 200 bytes, with every command's append synced."""
    port = free_port()
    rates: Rates = {}
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--dir", str(home)]
    with server([*command, "--appendonly", "yes", "--appendfsync", "always"], port, home):
        for clients in (16, 64):
            output = _run(
                ["redis-benchmark", "-p", str(port), "-t", "set", "-d", "200", "-r", "20000", "-c", str(clients),
                 "-n", "50000", "--csv"]
            )  # fmt: skip
            rates[f"write, {clients} connections"] = float(output.splitlines()[-1].split(",")[1].strip('"'))
    return rates
