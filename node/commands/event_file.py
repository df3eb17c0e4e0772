"""A file of events: one JSON object a line: `region`, `stream`, and any of `set`, `add`, `remove`, `delete`, `at`.

Read as a node reads what it is sent, so that what it would refuse to read is told before anything is done.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from node.errors import CommandFailed
from node.interface.content import JSON_TYPE, parse
from node.interface.problems import Problem
from replication.errors import Invalid
from replication.stream_name import check_stream

OPERATIONS = ("set", "add", "remove", "delete")


class FileEvent(NamedTuple):
    """One line. Shape: `body` is what a node is asked to write."""

    line: int
    region: str
    stream: str
    body: dict[str, Any]


def read_event_file(file: Path) -> list[FileEvent]:
    """Every event of a file, checked. Raises: CommandFailed, naming the line."""
    try:
        with file.open("rb") as lines:
            return [_read(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    except OSError as error:
        raise CommandFailed(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise CommandFailed(f"{file}, {error}") from None


def _read(number: int, line: bytes) -> FileEvent:
    """Raises: ValueError."""
    try:
        value = parse(line, JSON_TYPE)
        stream, region = check_stream(value["stream"]), value["region"]
        body = {operation: value[operation] for operation in OPERATIONS if operation in value}
        if "at" in value:
            body["occurred_at"] = value["at"]
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
        if not isinstance(region, str):
            raise TypeError("region must be a string")
    except Problem as problem:
        raise ValueError(f"line {number}: not an event: {problem.detail}") from None
    except (ValueError, KeyError, TypeError, Invalid) as error:
        raise ValueError(f"line {number}: not an event: {type(error).__name__}: {error}") from None
    return FileEvent(number, region, stream, body)
