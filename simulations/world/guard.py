"""A simulated run may read no clock, draw no chance and start no thread: whoever tries ends the run.

What the libraries need for themselves is let through by name: httpx measures how long a request took, the logging
module stamps its records. Neither reaches the product.
"""

import os
import random
import sys
import threading
import time
import uuid  # noqa: TID251  # to forbid it
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

ALLOWED = ("httpx", "http", "logging")

FORBIDDEN: tuple[tuple[Any, str], ...] = (
    (time, "time"),
    (time, "time_ns"),
    (time, "monotonic"),
    (time, "monotonic_ns"),
    (time, "perf_counter"),
    (time, "perf_counter_ns"),
    (time, "sleep"),
    (os, "urandom"),
    (os, "getrandom"),
    (uuid, "uuid1"),
    (uuid, "uuid4"),
    (random.SystemRandom, "random"),
    (random.SystemRandom, "getrandbits"),
    (random, "random"),
    (random, "uniform"),
    (random, "choice"),
    (random, "randint"),
    (random, "getrandbits"),
    (random, "randbytes"),
    (threading.Thread, "start"),
)


class PastASeam(BaseException):
    """The product reached for a clock, for chance or for a thread without going through a seam."""


@contextmanager
def guarded() -> Iterator[None]:
    """While this lasts, every way past a seam ends the run."""
    with ExitStack() as stack:
        for owner, name in FORBIDDEN:
            stack.enter_context(patch.object(owner, name, _guard(owner, name)))
        yield


def _guard(owner: Any, name: str) -> Callable[..., Any]:
    real = getattr(owner, name)

    def refuse(*arguments: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] in ALLOWED:
            return real(*arguments, **options)
        raise PastASeam(f"{caller} called {getattr(owner, '__name__', owner)}.{name}")

    return refuse
