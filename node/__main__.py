"""`python -m node` and `atoll`."""

import signal
import sys
from typing import NoReturn


class ToldToEnd(KeyboardInterrupt):
    """SIGTERM, for all that handles Ctrl-C.

    A type of its own: where Ctrl-C's passes an `exec` of text, as when a dataclass is made, `python -m` ends by that
    signal, whatever status the command then ends with.
    """


def main() -> None:
    """Run the command line. A command that is told to end does so as at Ctrl-C: what it has started is stopped."""
    from node.commands.application import run

    signal.signal(signal.SIGTERM, _tell)
    sys.exit(run())


def _tell(*_: object) -> NoReturn:
    raise ToldToEnd


if __name__ == "__main__":
    main()
