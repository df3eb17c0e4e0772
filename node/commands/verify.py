"""`atoll verify`: a store against its own log."""

from pathlib import Path

from node.commands.progress import progress_bar
from replication.verify import verify as verify_store


def verify(directory: Path, /) -> int:
    """Check a store: chains, gaps, causal order, indexes, cells against the reference.

    Reads one committed state, so the node may go on running. Exit status 1 where something is wrong.

    Parameters
    ----------
    directory
        The directory given to `atoll serve --data`.
    """
    with progress_bar("verifying") as advance:
        report = verify_store(directory, advance)
    counted = f"{report.events} events of {report.origins} origins on {report.streams} streams"
    for problem in report.problems:
        print(problem)
    print(f"{directory}: {counted}: {f'{len(report.problems)} problems' if report.problems else 'clean'}")
    return 1 if report.problems else 0
