"""How a process that serves sets up Python: its cycle collector, and how long a thread waits for its turn."""

import gc
import sys

from node.limits import LOCK_WAIT_S


def set_up() -> None:
    """Once everything is imported, and before anything is served."""
    _spare_the_collector()
    _share_the_lock()


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
