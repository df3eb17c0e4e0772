"""The library `eventsourcing` (PyPI) on SQLite: events recorded as bytes, not mapped from objects.

Each batch is one transaction, in a write-ahead log that SQLite syncs.
"""

import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from node.bench.peers.rates import Rates, scattered

BATCHES = {64: 200, 1_000: 40}
"""Events a transaction, and how many transactions are measured."""
STATE = b"x" * 200


def installed() -> bool:
    """Whether this Python has it."""
    return find_spec("eventsourcing") is not None


def measure(home: Path) -> Rates:
    """Events appended on so many aggregates, by how many a transaction holds."""
    persistence, sqlite = import_module("eventsourcing.persistence"), import_module("eventsourcing.sqlite")
    recorder = sqlite.SQLiteApplicationRecorder(sqlite.SQLiteDatastore(str(home / "events.db")))
    recorder.create_table()
    rates: Rates = {}
    written = 0
    for per_batch, count in BATCHES.items():
        batches = [
            [_event(persistence, number) for number in range(start, start + per_batch)]
            for start in range(written, written + per_batch * count, per_batch)
        ]
        written += per_batch * count
        began = time.perf_counter()
        for batch in batches:
            recorder.insert_events(batch)
        rates[f"append, {per_batch:,} a commit"] = per_batch * count / (time.perf_counter() - began)
    recorder.datastore.close()
    return rates


def _event(persistence: ModuleType, number: int) -> object:
    return persistence.StoredEvent(f"users/{scattered(number)}", number, "users:Changed", STATE)
