"""An event file as a workload: each event goes to its own region, after the one before it on its stream.

The same file that `atoll load` takes. A stream's events are one client's, in order, each sent until it is written.
"""

from hashlib import blake2b

from node.commands.event_file import FileEvent
from simulations.plans.plan import Operation

EVENTS_A_SECOND = 20.0
CLIENTS = 64
WAIT_S = 10.0


def file_operations(events: list[FileEvent], duration: float) -> tuple[Operation, ...]:
    """The events as operations, spread evenly over the time."""
    return tuple(
        Operation(
            round(0.1 + place * (duration - 0.1) / len(events), 3),
            _client(event.stream),
            event.region,
            "write",
            event.stream,
            event.body,
            after="stream",
            wait=WAIT_S,
            source=event.line,
        )
        for place, event in enumerate(events)
    )


def _client(stream: str) -> int:
    return int.from_bytes(blake2b(stream.encode(), digest_size=4).digest(), "big") % CLIENTS
