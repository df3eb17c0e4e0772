"""The store's tables: which keys and rows stand where. Keys are ordered bytes, numbers big-endian.

| table      | key -> row                                                                          |
|------------|-------------------------------------------------------------------------------------|
| log        | origin number, seq -> position, earlier, chain hash, header, body                   |
| streams    | name -> stream row; prefix (with its slash, the root being `/`) -> vector           |
| milestones | stream number, n -> its vector when it had n * `MILESTONE_EVENTS` events            |
| elements   | stream number, field number, element -> live additions (those in `cleared` are dead) |
| requests   | hash of (actor, key) or of a source -> where its events stand                       |
| conflicted | name of a stream with live conflicts -> nothing                                     |
| purge      | stream number -> name, where to go on: element rows that a delete left dead         |
| origins    | origin number -> origin, and its head                                               |
| meta       | format, cluster, region, own origin, identity of the file, counters                 |

`position` is the event's place in this node's arrival order. `earlier` is the seq of the same origin's event
before it on the same stream: a list to walk from the stream's vector, so that what a context does not cover is
found at a cost of just that (`replication.history`).
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from crdt.dot import Dot
from crdt.event import Event
from crdt.observed_remove_set import Additions
from crdt.operations import JSON, Set
from crdt.register import Register, Write, written
from crdt.version_vector import VersionVector
from replication.event import Encoded, Header, digest
from replication.packing import pack, unpack_own

STORE_FORMAT = 3
TABLES = ("log", "streams", "milestones", "elements", "requests", "conflicted", "purge", "origins", "meta")

_ORIGIN_NUMBER = struct.Struct(">I")
_LOG_KEY = struct.Struct(">IQ")
_LOG_ROW = struct.Struct(">QQ16sI")
_NUMBER = struct.Struct(">Q")
_MILESTONE = struct.Struct(">QQ")
_ELEMENT_HEAD = struct.Struct(">QH")
_ADDITION = struct.Struct(">IQ")
_REQUEST_ROW = struct.Struct(">IQHQ")
ROOT_KEY = b"/"


class Head(msgspec.Struct, frozen=True, gc=False):
    """The newest event of an origin, as the `origins` table holds it."""

    number: int
    seq: int
    chain: bytes
    position: int
    timestamp: int


class OriginNumbers:
    """Origins by number and back, as this store numbers them.

    Every row that is read keeps it, so it keeps no row: a turn's rows go with the turn, and no cycle holds them.
    """

    __slots__ = ("_names", "_numbers", "origin", "origin_number")

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self._names = {head.number: origin for origin, head in heads.items()}
        self._numbers = {origin: head.number for origin, head in heads.items()}
        self.origin = self._names.__getitem__
        """An origin by its number."""
        self.origin_number = self._numbers.__getitem__
        """An origin's number."""

    def add(self, number: int, origin: str) -> None:
        """Number an origin that the heads did not hold when this was made, and will."""
        self._names[number] = origin
        self._numbers[origin] = number


class LogRow(msgspec.Struct, frozen=True, gc=False):
    """One event of the log."""

    position: int
    earlier: int
    chain: bytes
    encoded: Encoded


class RequestRow(NamedTuple):
    """Where the events of a request stand. Units: `at_ms` in Unix milliseconds; 0 is kept for ever."""

    origin: str
    seq: int
    events: int
    at_ms: int


StoredWrite = tuple[int, int, int, JSON]
"""A live write as its row holds it: timestamp, number of its origin, seq, value."""


class StreamRow(msgspec.Struct, gc=False):
    """Everything about a stream but its elements: one get reads it.

    Shape: `stored` holds each register's live writes, greatest first, as they are stored: an event reads and writes
    the few that it touches; `conflicts` counts those with writes that lost. `sets` holds each set field's count of
    members; a field's number in element keys is its place there. `events` counts its events, `created` is the least
    of their timestamps. `size` is the row's bytes when it was read, and an upper bound of what it grew by since.
    """

    number: int
    numbers: OriginNumbers
    vector: dict[str, int] = {}
    cleared: dict[str, int] = {}
    stored: dict[str, Sequence[StoredWrite]] = {}
    sets: dict[str, int] = {}
    opaque: bool = False
    conflicts: int = 0
    events: int = 0
    created: int = 0
    size: int = 0
    was_conflicted: bool = False
    field_numbers: dict[str, int] = {}

    @property
    def exists(self) -> bool:
        """Whether the stream's answer is not empty."""
        for writes in self.stored.values():
            if writes[0][3] is not None:  # most often the first
                return True
        return any(self.sets.values())

    @property
    def values(self) -> dict[str, JSON]:
        """Each register's value; one whose value is null is left out."""
        return {name: writes[0][3] for name, writes in self.stored.items() if writes[0][3] is not None}

    @property
    def registers(self) -> dict[str, Register]:
        """Every register's live writes."""
        origin = self.numbers.origin
        return {
            name: tuple([Write(timestamp, origin(number), seq, value) for timestamp, number, seq, value in writes])
            for name, writes in self.stored.items()
        }

    def write(self, event: Event, operation: Set) -> None:
        """Put the event's write beside those live writes of the register that its context does not cover."""
        origin, seq = event.dot
        concurrent = self._concurrent(operation.field, event.context)
        write = Write(event.timestamp, origin, seq, operation.value)
        self._put_register(operation.field, written(concurrent, write))

    def overwrite(self, header: Header, writes: Sequence[Set]) -> None:
        """Put an event's writes in the place of all that their registers hold."""
        timestamp, number, seq = header.timestamp, self.numbers.origin_number(header.origin), header.seq
        stored = self.stored
        if self.conflicts:
            self.conflicts -= sum([len(stored.get(one.field, ())) > 1 for one in writes])
        for one in writes:
            stored[one.field] = ((timestamp, number, seq, one.value),)

    def clear_registers(self, context: VersionVector) -> None:
        """Drop every register's live writes that the context covers."""
        for name in list(self.stored):
            self._put_register(name, self._concurrent(name, context))

    def _concurrent(self, name: str, context: VersionVector) -> Register:
        left: list[Write] = []
        origin_of = self.numbers.origin
        for timestamp, number, seq, value in self.stored.get(name, ()):
            origin = origin_of(number)
            if seq > context.get(origin, 0):
                left.append(Write(timestamp, origin, seq, value))
        return tuple(left)

    def _put_register(self, name: str, register: Register) -> None:
        number, stored = self.numbers.origin_number, self.stored
        self.conflicts += (len(register) > 1) - (len(stored.get(name, ())) > 1)
        if register:
            stored[name] = [(timestamp, number(origin), seq, value) for timestamp, origin, seq, value in register]
        else:
            stored.pop(name, None)

    def number_field(self, name: str) -> int:
        """The set field's number, given now if it had none."""
        if name not in self.field_numbers:
            self.field_numbers[name] = len(self.field_numbers)
            self.sets[name] = 0
        return self.field_numbers[name]


def origin_key(number: int) -> bytes:
    return _ORIGIN_NUMBER.pack(number)


def encode_origin(origin: str, head: Head) -> bytes:
    return pack([origin, head.seq, head.chain, head.position, head.timestamp])


_decode_origin = msgspec.msgpack.Decoder(tuple[str, int, bytes, int, int]).decode


def decode_origin(key: bytes, row: bytes) -> tuple[str, Head]:
    origin, seq, chain, position, timestamp = _decode_origin(row)
    return origin, Head(_ORIGIN_NUMBER.unpack(key)[0], seq, chain, position, timestamp)


log_key: Callable[[int, int], bytes] = _LOG_KEY.pack
"""The key of an event's row, from its origin's number and its seq."""


def encode_log(position: int, earlier: int, chain: bytes, encoded: Encoded) -> bytes:
    header = encoded.header
    return _LOG_ROW.pack(position, earlier, chain, len(header)) + header + encoded.body


def decode_log(data: bytes) -> LogRow:
    position, earlier, chain, size = _LOG_ROW.unpack_from(data)
    middle = _LOG_ROW.size + size
    return LogRow(position, earlier, chain, Encoded(data[_LOG_ROW.size : middle], data[middle:]))


def stream_key(name: str) -> bytes:
    """The key of a stream's row, or of a prefix's."""
    return name.encode() or ROOT_KEY


def encode_stream(row: StreamRow) -> bytes:
    vector, cleared = _flat(row.vector, row.numbers), _flat(row.cleared, row.numbers) if row.cleared else ()
    return pack((row.number, vector, cleared, row.stored, row.sets, row.opaque, row.conflicts,
                 row.events, row.created))  # fmt: skip


def decode_stream(data: bytes, numbers: OriginNumbers) -> StreamRow:
    number, vector, cleared, stored, sets, opaque, conflicts, events, created = unpack_own(data)
    return StreamRow(
        number,
        numbers,
        _unflat(vector, numbers),
        _unflat(cleared, numbers) if cleared else {},
        stored,
        sets,
        opaque,
        conflicts,
        events,
        created,
        len(data),
        conflicts > 0,
        {name: place for place, name in enumerate(sets)} if sets else {},
    )


def encode_vector(vector: dict[str, int], numbers: OriginNumbers) -> bytes:
    return pack(_flat(vector, numbers))


def decode_vector(data: bytes, numbers: OriginNumbers) -> dict[str, int]:
    return _unflat(unpack_own(data), numbers)


def milestone_key(stream: int, number: int) -> bytes:
    return _MILESTONE.pack(stream, number)


def number_key(number: int) -> bytes:
    return _NUMBER.pack(number)


def split_number_key(key: bytes) -> int:
    number: int = _NUMBER.unpack(key)[0]
    return number


def field_key(stream: int, field_number: int) -> bytes:
    """The start of the keys of one set's elements."""
    return _ELEMENT_HEAD.pack(stream, field_number)


def element_key(stream: int, field_number: int, element: str) -> bytes:
    return _ELEMENT_HEAD.pack(stream, field_number) + element.encode()


def element_from_key(key: bytes) -> str:
    return key[_ELEMENT_HEAD.size :].decode()


def encode_additions(additions: Additions, numbers: OriginNumbers) -> bytes:
    return b"".join(_ADDITION.pack(numbers.origin_number(dot.origin), dot.seq) for dot in additions)


def decode_additions(data: bytes, numbers: OriginNumbers) -> Additions:
    return tuple(Dot(numbers.origin(number), seq) for number, seq in _ADDITION.iter_unpack(data))


def request_key(actor: str, key: str) -> bytes:
    """The key of an idempotency key's row."""
    return digest(pack(["request", actor, key]))


def source_key(name: str, position: int | str) -> bytes:
    """The key of an imported event's row."""
    return digest(pack(["source", name, position]))


def encode_request(row: RequestRow, numbers: OriginNumbers) -> bytes:
    return _REQUEST_ROW.pack(numbers.origin_number(row.origin), row.seq, row.events, row.at_ms)


def decode_request(data: bytes, numbers: OriginNumbers) -> RequestRow:
    number, seq, events, at_ms = _REQUEST_ROW.unpack(data)
    return RequestRow(numbers.origin(number), seq, events, at_ms)


def encode_purge(name: str, resume: bytes) -> bytes:
    return pack([name, resume])


def decode_purge(data: bytes) -> tuple[str, bytes]:
    name, resume = unpack_own(data)
    return name, resume


def _flat(vector: dict[str, int], numbers: OriginNumbers) -> list[int]:
    flat: list[int] = []
    for origin, seq in vector.items():
        flat += numbers.origin_number(origin), seq
    return flat


def _unflat(flat: list[int], numbers: OriginNumbers) -> dict[str, int]:
    origin = numbers.origin
    if len(flat) == 2:  # most often
        return {origin(flat[0]): flat[1]}
    return {origin(number): seq for number, seq in zip(flat[::2], flat[1::2], strict=True)}
