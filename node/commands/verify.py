"""`atoll verify`: a store against its own log."""

import sqlite3
from contextlib import closing
from pathlib import Path

from node.commands.printable import printable
from node.commands.progress import progress_bar
from node.directory.builtin_views import BUILTIN
from node.views.check import check
from node.views.index import Index
from replication.snapshot import read
from replication.store import Store
from replication.verify import verify as verify_store


def verify(directory: Path, /) -> int:
    """Check a store: chains, gaps, causal order, indexes, cells against the reference; and views against the streams.

    Reads one committed state, so the node may go on running. Exit status 1 where something is wrong.

    Parameters
    ----------
    directory
        The directory given to `atoll serve --data`.
    """
    with progress_bar("verifying") as advance:
        report = verify_store(directory, advance)
    counted = f"{report.events} events of {report.origins} origins on {report.streams} streams"
    checked, wrong = (0, []) if report.problems else _check_views(directory)
    problems = [*report.problems, *wrong]
    for problem in problems:
        print(printable(problem))
    views = f", {checked} views" if checked else ""
    print(f"{directory}: {counted}{views}: {f'{len(problems)} problems' if problems else 'clean'}")
    return 1 if problems else 0


def _check_views(directory: Path) -> tuple[int, list[str]]:
    """Check the views that every node has, where they have caught up with the store."""
    try:
        index = Index.to_read(directory)
        if index is None:
            return 0, []
        with closing(index), closing(Store(directory, readonly=True)) as store, read(store) as snapshot:
            return check(index, BUILTIN, snapshot)
    except sqlite3.DatabaseError as error:
        return 0, [f"the views' index cannot be read: {error}"]
