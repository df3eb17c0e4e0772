"""An event file as a workload: each event goes to its own region, after the one before it on its stream.

The same file that `atoll load` takes: one JSON object a line, `region`, `stream`, and any of `set`, `add`, `remove`,
`delete`, `at`. A stream's events are one client's, in order, each sent until it is written.
"""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

from node.errors import BadArguments
from replication.errors import Invalid
from replication.stream_name import check_stream
from simulations.plans.plan import Operation

EVENTS_A_SECOND = 20.0
CLIENTS = 64
WAIT_S = 10.0
OPERATIONS = ("set", "add", "remove", "delete")


def read_event_file(path: Path) -> list[dict[str, Any]]:
    """The file's events, checked. Raises: BadArguments."""
    events: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadArguments(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadArguments(f"{path} is not UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            check_stream(value["stream"])
            events.append({**value, "region": str(value["region"]), "line": number})
        except (ValueError, KeyError, TypeError, Invalid) as error:
            raise BadArguments(f"{path}, line {number}: not an event: {type(error).__name__}: {error}") from None
    if not events:
        raise BadArguments(f"{path} holds no event")
    return events


def file_operations(events: list[dict[str, Any]], duration: float) -> tuple[Operation, ...]:
    """The events as operations, spread evenly over the time."""
    return tuple(
        Operation(
            round(0.1 + place * (duration - 0.1) / len(events), 3),
            _client(event["stream"]),
            event["region"],
            "write",
            event["stream"],
            {name: event[name] for name in OPERATIONS if name in event}
            | ({"occurred_at": event["at"]} if "at" in event else {}),
            after="stream",
            wait=WAIT_S,
            source=event["line"],
        )
        for place, event in enumerate(events)
    )


def _client(stream: str) -> int:
    return int.from_bytes(blake2b(stream.encode(), digest_size=4).digest(), "big") % CLIENTS
