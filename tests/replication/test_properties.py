"""Replicas over real stores equal the definition, whatever is written, delivered, repeated, cut or shuffled."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.version_vector import cut
from replication import messages
from replication.admission import Transaction
from replication.command import Command, Draft
from replication.errors import PeerError
from replication.event_codec import decode_header
from replication.messages import Events
from tests.conftest import MEMORY
from tests.helpers import Node, streams_of
from tests.histories import random_operations

STREAMS = ("users/1", "users/2", "groups/ops")
randoms = st.randoms(use_true_random=False)


@contextmanager
def cluster(regions: int) -> Iterator[list[Node]]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        nodes = [Node(Path(directory) / f"r{place}", f"r{place}", seed=place * 100) for place in range(regions)]
        try:
            yield nodes
        finally:
            for node in nodes:
                node.close()


def write_something(rng: random.Random, node: Node) -> None:
    """One transaction, of one stream or several, with what the node holds for context or with less."""
    drafts: list[Draft] = []
    for stream in rng.sample(STREAMS, rng.choice([1, 1, 1, 2, 3])):
        context = None
        if rng.random() < 0.3:
            vector = node.replica.vector
            context = cut(vector, {origin: rng.randint(0, seq) for origin, seq in vector.items()})
            context = {origin: seq for origin, seq in context.items() if seq}
        drafts.append(Draft(stream, random_operations(rng), context=context))
    node.run(Command(tuple(drafts)))


def live(rng: random.Random, nodes: list[Node], steps: int) -> None:
    """Write here and there, exchange now and then, reopen a store sometimes."""
    for _ in range(steps):
        node = rng.choice(nodes)
        node.now_ms += rng.randint(-20, 50)
        chance = rng.random()
        if chance < 0.6:
            write_something(rng, node)
        elif chance < 0.95:
            node.pull(rng.choice([other for other in nodes if other is not node] or [node]))
        else:
            node.replica.close()
            node.reopen()


def converge(nodes: list[Node], rng: random.Random) -> None:
    pairs = [(left, right) for left in nodes for right in nodes if left is not right]
    for _ in nodes:
        rng.shuffle(pairs)
        for left, right in pairs:
            left.pull_all(right)


def causal_deliveries(rng: random.Random, transactions: list[Transaction]) -> Iterator[list[Transaction]]:
    """The transactions in some causal order, in batches, with some repeated."""
    waiting, held, sent = list(transactions), dict[str, int](), list[Transaction]()
    rng.shuffle(waiting)
    batch: list[Transaction] = []
    while waiting:
        ready = [one for one in waiting if _ready(one, held)]
        one = rng.choice(ready)
        waiting.remove(one)
        first = decode_header(one[0].header)
        held[first.origin] = first.seq + len(one) - 1
        batch.append(one)
        sent.append(one)
        if rng.random() < 0.3:
            yield batch + rng.choices(sent, k=rng.randint(0, 2))
            batch = []
    yield batch


def _ready(transaction: Transaction, held: dict[str, int]) -> bool:
    first = decode_header(transaction[0].header)
    seen = all(held.get(origin, 0) >= seq for origin, seq, _ in first.seen)
    return seen and held.get(first.origin, 0) == first.seq - 1


@given(randoms, st.integers(2, 5), st.integers(5, 40))
def test_any_history_converges_to_the_definition(rng: random.Random, regions: int, steps: int) -> None:
    with cluster(regions) as nodes:
        live(rng, nodes, steps)
        for node in nodes:
            node.check_answers()
        converge(nodes, rng)
        for node in nodes:
            assert node.digest().heads == nodes[0].digest().heads
            node.check_answers()
            assert [node.answer(name) for name in STREAMS] == [nodes[0].answer(name) for name in STREAMS]


@given(randoms, st.integers(2, 5), st.integers(5, 40))
def test_any_causal_delivery_in_any_batches_gives_the_same_answers(
    rng: random.Random, regions: int, steps: int
) -> None:
    with cluster(regions) as nodes:
        live(rng, nodes, steps)
        converge(nodes, rng)
        with cluster(1) as [fresh]:
            for batch in causal_deliveries(rng, nodes[0].transactions()):
                assert fresh.apply(batch).left_out == ()
            fresh.check_answers()
            assert fresh.digest().heads == nodes[0].digest().heads
            assert sorted(streams_of(fresh)) == sorted(streams_of(nodes[0]))


@given(randoms, st.integers(5, 30))
def test_shuffled_transactions_never_break_causal_order(rng: random.Random, steps: int) -> None:
    with cluster(3) as nodes:
        live(rng, nodes, steps)
        converge(nodes, rng)
        transactions = nodes[0].transactions()
        with cluster(1) as [fresh]:
            for _ in range(len(transactions) + 1):
                rng.shuffle(transactions)
                reasons = {one.reason for one in fresh.apply(transactions).left_out}
                assert reasons <= {"gap", "missing"}
                fresh.check_answers()
            assert fresh.digest().heads == nodes[0].digest().heads


@given(randoms, st.integers(3, 15))
def test_a_damaged_message_is_refused_and_changes_nothing(rng: random.Random, steps: int) -> None:
    with cluster(2) as [sender, receiver]:
        live(rng, [sender], steps)
        whole = messages.encode(Events(sender.digest(), tuple(sender.transactions())), "test", sender.replica.origin)
        before = receiver.dump()
        for _ in range(20):
            damaged = bytearray(whole)
            if rng.random() < 0.5:
                damaged = damaged[: rng.randrange(len(whole))]
            else:
                damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            with pytest.raises(PeerError):
                messages.decode(bytes(damaged), "test")
        assert receiver.dump() == before
        received = messages.decode(whole, "test")
        assert isinstance(received.message, Events)
        assert receiver.apply(received.message.transactions).left_out == ()
        assert receiver.digest().heads == sender.digest().heads


@given(randoms, st.integers(3, 20), st.integers(200, 2_000))
def test_exchange_over_random_subsets_ends_with_equal_heads(rng: random.Random, steps: int, limit: int) -> None:
    """Small messages, some lost, some repeated, some late: every exchange leaves both sides right."""
    from replication.exchange import lacking

    with cluster(3) as nodes:
        live(rng, nodes, steps)
        late: list[tuple[Transaction, ...]] = []
        for _ in range(steps):
            giver, taker = rng.sample(nodes, 2)
            with giver.replica.read() as snapshot:
                sent = lacking(snapshot, taker.digest(), byte_limit=limit)
            late.append(sent)
            if rng.random() < 0.7:
                taker.apply(rng.choice(late))
                taker.check_answers()
        converge(nodes, rng)
        assert nodes[0].digest().heads == nodes[1].digest().heads == nodes[2].digest().heads
