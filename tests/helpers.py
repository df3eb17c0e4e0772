"""What the tests share: replicas in temporary directories, writing, exchanging, comparing, verifying at the end."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crdt.answer import Answer
from crdt.event import Event
from crdt.hybrid_clock import COUNTER_BITS
from crdt.operations import JSON, Add, Delete, Operation, Remove, Set
from crdt.reference import resolve
from crdt.version_vector import VersionVector
from replication.admission import Transaction
from replication.command import Command, Draft, Written
from replication.errors import UnknownStream
from replication.event import Encoded, Header, digest, genesis, meaning
from replication.event_codec import decode_body, decode_header, encode_header
from replication.exchange import claims, lacking
from replication.messages import Digest
from replication.packing import pack
from replication.queries import missing, resolve_stream
from replication.replica import Applied, Arrival, Replica
from replication.stream_name import is_prefix
from replication.verify import verify

NOW = 1_700_000_000_000


def operations(
    set: dict[str, JSON] | None = None,
    add: dict[str, list[str]] | None = None,
    remove: dict[str, list[str]] | None = None,
    delete: bool = False,
) -> tuple[Operation, ...]:
    """Operations as the HTTP interface spells them."""
    made: list[Operation] = [Set(field, value) for field, value in (set or {}).items()]
    made += [Add(field, element) for field, elements in (add or {}).items() for element in elements]
    made += [Remove(field, element) for field, elements in (remove or {}).items() for element in elements]
    return (*made, Delete()) if delete else tuple(made)


LATER = "later.00000001"


def later_event(stream: str, cluster: str = "test") -> Encoded:
    """An event of an operation that this version does not know, the first of its origin."""
    body = pack([b"s" * 16, None, [[5, "hits", 1]], "tomorrow", None, None, None])
    stamp = (NOW - 1000) << COUNTER_BITS
    previous = genesis(cluster, LATER)
    return Encoded(encode_header(Header(1, 0, LATER, 1, stream, stamp, {}, previous, digest(body), 0, 1, ())), body)


class Node:
    """A replica under test, with a clock that the test moves."""

    def __init__(self, directory: Path, region: str, *, seed: int = 0, cluster: str = "test", **options: Any) -> None:
        self.directory = directory
        self.region = region
        self.now_ms = NOW
        self._options = options
        self._cluster = cluster
        self._seed = seed
        self.replica = self.reopen()

    def reopen(self) -> Replica:
        """Open the store, as a process that starts does."""
        self._seed += 1
        secret = random.Random(f"{self.region}{self._seed}").randbytes(32)
        self.replica = Replica.open(
            self.directory, region=self.region, cluster=self._cluster, secret=secret, **self._options
        )
        return self.replica

    def run(self, command: Command) -> Written:
        """Write one command; a refusal is raised."""
        [outcome] = self.replica.turn([command], self.now_ms)
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, Written)
        return outcome

    def write(
        self,
        stream: str,
        set: dict[str, JSON] | None = None,
        add: dict[str, list[str]] | None = None,
        remove: dict[str, list[str]] | None = None,
        delete: bool = False,
        context: VersionVector | None = None,
        actor: str = "anonymous",
    ) -> Written:
        """Write one event."""
        return self.run(Command((Draft(stream, operations(set, add, remove, delete), context=context),), actor=actor))

    def apply(self, transactions: Iterable[Transaction]) -> Applied:
        """Take in what a peer sent."""
        [outcome] = self.replica.turn([Arrival(tuple(transactions))], self.now_ms)
        assert isinstance(outcome, Applied)
        return outcome

    def digest(self) -> Digest:
        return Digest(claims(self.replica.mirror.heads), self.now_ms)

    def pull(self, peer: "Node") -> Applied:
        """Take in one message of what the peer has more."""
        with peer.replica.read() as snapshot:
            transactions = lacking(snapshot, self.digest())
        return self.apply(transactions)

    def pull_all(self, peer: "Node") -> None:
        """Take in everything that the peer has more."""
        while self.pull(peer).events:
            pass

    def answer(self, stream: str) -> Answer | None:
        """The stream resolved, or None where it does not exist."""
        with self.replica.read() as snapshot:
            try:
                answer = resolve_stream(snapshot, stream)
            except UnknownStream:
                return None
        return Answer(answer.row.registers, dict(answer.sets))

    def resolved(self, stream: str) -> Answer:
        """The stream resolved; it must exist."""
        answer = self.answer(stream)
        assert answer is not None
        return answer

    def transactions(self) -> list[Transaction]:
        """Everything held, in arrival order."""
        with self.replica.read() as snapshot:
            nothing = Digest({}, 0)
            return list(lacking(snapshot, nothing, byte_limit=1 << 40))

    def events(self) -> dict[str, list[Event]]:
        """Everything held, as meaning, by stream."""
        by_stream: dict[str, list[Event]] = {}
        with self.replica.read() as snapshot:
            for row in missing(snapshot, {}):
                header = decode_header(row.encoded.header)
                event = meaning(header, decode_body(header, row.encoded.body))
                assert event is not None
                by_stream.setdefault(header.stream, []).append(event)
        return by_stream

    def check_answers(self) -> None:
        """Every stream answers what the definition says."""
        for stream, events in self.events().items():
            expected = resolve(events)
            assert self.answer(stream) == (expected if expected.exists else None), stream

    def close(self) -> None:
        """Close the store, and check it."""
        self.replica.close()
        check_store(self.directory)

    def dump(self) -> list[tuple[bytes, bytes]]:
        return dump(self.replica)


def dump(replica: Replica) -> list[tuple[bytes, bytes]]:
    """Every row of the store: what must not change where nothing may."""
    with replica.read() as snapshot:
        return [
            (table.encode() + b":" + key, row) for table in snapshot.store.dbs for key, row in snapshot.walk(table)
        ]


def check_store(directory: Path) -> None:
    """The store is what its log says."""
    assert verify(directory).problems == []


def streams_of(node: Node) -> list[str]:
    """The names of all streams that ever had events."""
    with node.replica.read() as snapshot:
        return [key.decode() for key, _ in snapshot.walk("streams") if not is_prefix(key.decode())]
