"""Whether a file can be written that a command writes in the end: hours may pass until then."""

import os
from pathlib import Path

from node.errors import BadArguments


def check_writable(path: Path | None) -> None:
    """Raises: BadArguments."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise BadArguments(f"{path} cannot be written")
