"""The floor of a write: the very rows that the product wrote, put again, bare, with the same commits.

Rows are noted as a turn hands them to LMDB. Then the file as it was before takes them once more: sorted, one
multi-put a table, a commit where the product had one. Nothing that keeps these rows can be faster.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import lmdb

from replication.batch import Batch
from replication.store import Store

Rows = list[tuple[str, list[tuple[bytes, bytes]]]]
"""What one commit puts, by table."""


@contextmanager
def recording() -> Iterator[list[Rows]]:
    """While this lasts, note the rows of every turn of this process."""
    turns: list[Rows] = []
    flush, put = Batch.flush, Batch._put

    def noted_flush(batch: Batch, transaction: lmdb.Transaction, now_ms: int) -> None:
        turns.append([])
        flush(batch, transaction, now_ms)

    def noted_put(batch: Batch, table: str, rows: Mapping[bytes, bytes | None]) -> None:
        if ordered := sorted((key, row) for key, row in rows.items() if row is not None):
            turns[-1].append((table, ordered))
        put(batch, table, rows)

    with patch.object(Batch, "flush", noted_flush), patch.object(Batch, "_put", noted_put):
        yield turns


def replay(directory: Path, turns: Iterable[Rows]) -> float:
    """Put the rows into the store in `directory`. Units: seconds."""
    store = Store(directory)
    try:
        began = time.perf_counter()
        for rows in turns:
            with store.env.begin(write=True) as transaction:
                for table, ordered in rows:
                    transaction.cursor(db=store.dbs[table]).putmulti(ordered)
        return time.perf_counter() - began
    finally:
        store.close()


def copied(directory: Path, to: Path) -> Path:
    """A copy of a store that is not open; on the disk, which the first commit would have to wait for else."""
    to.mkdir()
    file = to / "data.mdb"
    shutil.copyfile(directory / "data.mdb", file)
    with file.open("r+b") as written:
        os.fsync(written)
    return to


def timed(work: Callable[[], object]) -> float:
    """Units: seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
