"""What a node logs as its own mistake, while it is simulated, breaks a promise; the rest of its log goes nowhere."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOG = logging.getLogger("atoll")
SHOWN = 600


class _Mistakes(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._say(f"{record.getMessage()}: {logging.Formatter().formatException(record.exc_info)[-SHOWN:]}")


@contextmanager
def mistakes(say: Callable[[str], None]) -> Iterator[None]:
    """While this lasts, each is told of, with the end of its traceback."""
    handler, propagate, level = _Mistakes(say), LOG.propagate, LOG.level
    LOG.addHandler(handler)
    LOG.propagate = False
    LOG.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.propagate = propagate
        LOG.setLevel(level)  # the loggers below remember what they let through until it is set
