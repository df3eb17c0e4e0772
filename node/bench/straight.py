"""A durable write over HTTP in straight lines: the least that any node of these parts would do for one.

As `bare`, and the events are real: JSON is read, the stream's row too, the event is stamped, packed, hashed twice and
folded, its writer is told its dot, token and time; the store that it leaves passes `verify`. But nothing is checked,
since this load is all that comes: registers on streams that are there, of one origin, with no condition, context or
key. No HTTP but what this load sends, no views, no peers.

`python -m node.bench.straight DIRECTORY PORT`.
"""

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import trio

from crdt.hybrid_clock import next_timestamp
from node.bench.bare import Asked, Puts, main
from node.bench.floor import Rows
from node.interface.content import dump_json
from node.interface.moments import format_timestamp
from node.seams import SystemClock, system_entropy
from replication import tables
from replication.event import FORMAT, SALT_BYTES, SET, Encoded, digest
from replication.limits import MILESTONE_EVENTS
from replication.packing import pack, unpack_own
from replication.snapshot import read
from replication.store import Store
from replication.tables import Head
from replication.tokens import format_token

NAME = "a server in straight lines"

_decode_json = msgspec.json.Decoder().decode


class Body(Asked):
    """A request, and what it says. Its headers are heard as well: somebody would have to look at them."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    def on_message_begin(self) -> None:
        self.headers, self.body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body


class Events(Puts):
    """Writes events, after those that the store has."""

    asked: ClassVar[type[Asked]] = Body

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        with read(store) as snapshot:
            mirror = store.read_mirror(snapshot.transaction, "")
            [(self._origin, head)] = mirror.heads.items()
        self._chain, self._clock, self._streams = head.chain, mirror.clock, mirror.streams
        self._wall, self._entropy = SystemClock(), system_entropy()

    def turn(self, writes: Sequence[Asked]) -> tuple[Rows, Sequence[bytes]]:
        origin, number, seq, chain, clock = self._origin, self._number, self._seq, self._chain, self._clock
        salts, now_ms = self._entropy.randbytes(SALT_BYTES * len(writes)), self._wall.now_ms()
        log: list[tuple[bytes, bytes]] = []
        milestones: list[tuple[bytes, bytes]] = []
        changed: dict[bytes, list[Any]] = {}
        answers: list[bytes] = []
        with self._store.reading() as transaction:
            for place, asked in enumerate(writes):
                assert isinstance(asked, Body)
                key = asked.stream
                row = changed.get(key)
                if row is None:
                    held = self._store.get(transaction, "streams", key)
                    assert held is not None, "the load writes to streams that are there"
                    row = changed[key] = unpack_own(held)
                vector, registers, earlier = row[1], row[3], row[1][1]
                fields = _decode_json(asked.body)["set"]
                name, seq, clock = key.decode(), seq + 1, next_timestamp(clock, now_ms)
                salt = salts[place * SALT_BYTES : (place + 1) * SALT_BYTES]
                operations = sorted([(SET, field, value) for field, value in fields.items()])
                body = pack((salt, None, operations, "anonymous", None, None, None))
                context = ((origin, earlier),)
                header = pack((FORMAT, 0, origin, seq, name, clock, context, chain, digest(body), (0, 1), ()))
                chain = digest(header)
                log.append(
                    (tables.log_key(number, seq), tables.encode_log(seq, earlier, chain, Encoded(header, body)))
                )
                for field, value in fields.items():
                    registers[field] = [(clock, number, seq, value)]
                vector[1] = seq
                row[7] += 1
                if row[7] % MILESTONE_EVENTS == 0:
                    milestones.append((tables.milestone_key(row[0], row[7] // MILESTONE_EVENTS), pack(vector)))
                answers.append(_answer(name, origin, seq, clock))
        streams = [(key, pack(row)) for key, row in changed.items()]
        above = pack((number, seq))
        head = Head(number, seq, chain, seq, clock)
        self._seq, self._chain, self._clock = seq, chain, clock
        return [
            ("log", log),
            ("milestones", sorted(milestones)),
            ("streams", sorted([*streams, (tables.ROOT_KEY, above), (b"users/", above)])),
            ("origins", [(tables.origin_key(number), tables.encode_origin(origin, head))]),
            ("meta", [(b"counters", pack((clock, seq, self._streams)))]),
        ], answers


def _answer(name: str, origin: str, seq: int, timestamp: int) -> bytes:
    dot, token = f"{origin}.{seq}", format_token(name, {origin: seq})
    said = {"stream": name, "dot": dot, "token": token, "context": token, "timestamp": format_timestamp(timestamp)}
    body = dump_json(said)
    head = f"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f'{head}location: /dots/{dot}\r\netag: "{token}"\r\n\r\n'.encode() + body


if __name__ == "__main__":
    trio.run(main, Events, *sys.argv[1:])
