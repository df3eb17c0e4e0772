"""How a process that serves sets itself up: Python's cycle collector and lock, and how many files may be open."""

import gc
import resource
import sys
from contextlib import suppress

from node.limits import LOCK_WAIT_S


def set_up() -> None:
    """Once everything is imported, and before anything is served."""
    _spare_the_collector()
    _share_the_lock()
    _have_files()


def _spare_the_collector() -> None:
    """Have the cycle collector leave alone what is loaded for good, and look at the rest less often.

    A request leaves no cycles behind, and what a node keeps between requests is little.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _share_the_lock() -> None:
    """Have a thread that wants Python's lock get it soon.

    At the usual 5 ms the writer, once its commit is on the disk, may wait for longer than the disk took, while what
    arrived is being read.
    """
    sys.setswitchinterval(LOCK_WAIT_S)


def _have_files() -> None:
    """Have as many files open as the system lets us: what is usual, 1,024, is for programs that wait by `select`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # where the most has no bound, and the system has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
