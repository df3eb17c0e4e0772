"""`python -m node` and `atoll`."""

import signal
import sys


def main() -> None:
    """Run the command line. A command that is told to end does so as at Ctrl-C: what it has started is stopped."""
    from node.commands.application import run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run())


if __name__ == "__main__":
    main()
