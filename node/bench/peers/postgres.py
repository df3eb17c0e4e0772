"""PostgreSQL (Debian: postgresql): inserts committed one by one, with the disk synced, into a table with three
indexes (by dot, by stream in order, and one for the stream's own row, which resolves it here); COPY; and logical
replication of rows that were committed one by one, with the subscriber's disk synced at each of its commits, and, as
is its default, only now and then.
"""

import os
import pwd
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.bench.peers.rates import SECONDS, Rates, scattered
from node.bench.processes import HOST, free_port, run, server

COPY_ROWS = 300_000
CATCH_UP_SYNCED_ROWS, CATCH_UP_ROWS = 50_000, 300_000

TABLE = """
CREATE TABLE events (seq bigserial, origin int, stream text, at timestamptz DEFAULT clock_timestamp(), body text,
                     PRIMARY KEY (origin, seq));
CREATE INDEX ON events (stream, at, origin, seq);
CREATE INDEX ON events (stream);
"""
INSERT = f"""\\set n random(1, 20000)
INSERT INTO events (origin, stream, body) VALUES (1, 'users/' || :n, '{"x" * 200}');
"""


def installed() -> bool:
    """Whether this machine has it."""
    return _programs() is not None


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) if shutil.which("pgbench") else []
    return found[-1].parent if found else None


@contextmanager
def _served(home: Path, programs: Path, port: int) -> Iterator[str]:
    """While this lasts, a cluster serves; its URL. PostgreSQL refuses to run as root."""
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    data = home / f"data-{port}"
    if os.geteuid() == 0:
        for parent in (home, *home.parents):
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(home, user)
    as_user = ["setpriv", f"--reuid={user}", "--clear-groups"] if os.geteuid() == 0 else []
    run([*as_user, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "bench", "-N"])
    options = ["-p", str(port), "-k", str(home), "-c", "wal_level=logical", "-c", f"listen_addresses={HOST}"]
    with server([*as_user, str(programs / "postgres"), "-D", str(data), *options], port, home):
        url = f"postgresql://bench@{HOST}:{port}/postgres"
        deadline = time.monotonic() + 20
        while not _query(url, "SELECT 1", check=False) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield url


def _query(url: str, text: str, *, check: bool = True) -> str:
    return run(["psql", "-tAqX", "-d", url, "-c", text], check=check)


def measure(home: Path) -> Rates:
    """Committed inserts, COPY, and logical replication to a second server."""
    programs = _programs()
    assert programs is not None
    rates: Rates = {}
    port, second = free_port(), free_port()
    script = home / "insert.sql"
    script.write_text(INSERT)
    with _served(home, programs, port) as url, _served(home, programs, second) as other:
        _query(url, TABLE)
        pgbench = [str(programs / "pgbench"), "-n", "-M", "prepared", "-j", "2", "-f", str(script)]
        for clients in (16, 64):
            output = run([*pgbench, "-c", str(clients), "-T", str(SECONDS), url])
            found = re.search(r"tps = ([\d.]+)", output)
            assert found is not None, output
            rates[f"write, {clients} connections"] = float(found[1])
        _query(url, "TRUNCATE events")
        rows = home / "rows.tsv"
        with rows.open("w") as file:
            for number in range(COPY_ROWS):
                file.write(f"{number}\t1\tusers/{scattered(number)}\t{'x' * 200}\n")
        began = time.perf_counter()
        _query(url, f"\\copy events (seq, origin, stream, body) FROM '{rows}'")
        rates["ingest"] = COPY_ROWS / (time.perf_counter() - began)
        rates["catch-up (synced)"] = _catch_up(url, other, pgbench, CATCH_UP_SYNCED_ROWS, synced="on")
        rates["catch-up (not synced)"] = _catch_up(url, other, pgbench, CATCH_UP_ROWS, synced="off")
    return rates


def _catch_up(url: str, other: str, pgbench: list[str], rows: int, *, synced: str) -> float:
    """Rows that were committed one by one while the subscriber was away, replayed by it, each in a commit."""
    for one in (url, other):
        _query(one, "DROP TABLE IF EXISTS events")
        _query(one, TABLE)
    _query(url, "DROP PUBLICATION IF EXISTS everything")
    _query(url, "CREATE PUBLICATION everything FOR ALL TABLES")
    where = url.replace("postgresql://bench@", "host=").replace(f"{HOST}:", f"{HOST} port=").replace("/postgres", "")
    options = f"enabled = off, create_slot = on, copy_data = off, synchronous_commit = {synced}"
    subscribe = f"CREATE SUBSCRIPTION s CONNECTION '{where} user=bench dbname=postgres' PUBLICATION everything"
    _query(other, f"{subscribe} WITH ({options})")
    written = rows // 16 * 16
    run([*pgbench, "-c", "16", "-t", str(rows // 16), url])
    began = time.perf_counter()
    _query(other, "ALTER SUBSCRIPTION s ENABLE")
    while int(_query(other, "SELECT count(*) FROM events")) < written:
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    _query(other, "DROP SUBSCRIPTION s")
    return written / seconds
