"""`python -m node` and `atoll`."""

import sys


def main() -> None:
    """Run the command line."""
    from node.commands.application import run

    sys.exit(run())


if __name__ == "__main__":
    main()
