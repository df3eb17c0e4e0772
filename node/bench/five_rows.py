"""The floor of an event that is five rows: of the log, the index, its stream's history, its stream and its cell.

An event is two rows here, so the floor of those says how little it is to the disk. This one is of the layout that
comes to mind first, a table for each question: the same events in the same commits, and no more in their rows than
the two hold, but apart. What lies between the floors is what fewer rows bring.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from node.bench.floor import Rows, replay
from node.bench.workload import FILL
from replication.event_codec import decode_header
from replication.packing import pack, unpack_own
from replication.snapshot import read
from replication.store import Store
from replication.tables import decode_log, number_key

NAME = "bare rows, five an event"
LOG, INDEX, HISTORY, STREAM, CELL = "log", "requests", "milestones", "streams", "elements"
"""Where they stand. A table is keys and rows: the store's that hold nothing of this workload take what has none."""


def spread(rows: Rows) -> Rows:
    """What a commit of two rows an event puts, as five."""
    put = dict(rows)
    streams: list[tuple[bytes, bytes]] = []
    cells: list[tuple[bytes, bytes]] = []
    numbers: dict[bytes, bytes] = {}
    for name, row in put[STREAM]:
        if name.endswith(b"/"):  # a prefix's vector
            streams.append((name, row))
            continue
        number, vector, cleared, cell, *counts = unpack_own(row)
        numbers[name] = number_key(number)
        streams.append((name, pack((number, vector, cleared, *counts))))
        cells.append((numbers[name], pack(cell)))
    index: list[tuple[bytes, bytes]] = []
    history: list[tuple[bytes, bytes]] = []
    for key, row in put[LOG]:
        event = decode_log(row)
        header = decode_header(event.encoded.header)
        index.append((number_key(event.position), key))
        history.append((numbers[header.stream.encode()] + number_key(header.timestamp) + key, b""))
    return [
        (LOG, put[LOG]),
        (INDEX, sorted(index)),
        (HISTORY, sorted(history)),
        (STREAM, streams),
        (CELL, sorted(cells)),
    ]


def spread_store(past: Path, to: Path) -> Path:
    """A store with the events of another that is not open, as five rows each, in commits as the past was filled."""
    source = Store(past, readonly=True)
    to.mkdir()
    replay(to, _spread_turns(source))
    source.close()
    return to


def _spread_turns(source: Store) -> Iterator[Rows]:
    with read(source) as snapshot:
        streams, log = dict(snapshot.walk(STREAM)), snapshot.walk(LOG)
        while events := list(islice(log, FILL)):
            names = {decode_header(decode_log(row).encoded.header).stream.encode() for _, row in events}
            yield spread([(LOG, events), (STREAM, [(name, streams[name]) for name in sorted(names)])])
