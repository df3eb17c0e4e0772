"""Gossip: push at commit, pull from a random peer now and then, answer those who call.

A push sends a peer what it is known to lack, one message in flight a peer, so commits in between share the next
one. It says who else is seen to, so that its receiver does not pass it on to them: each event normally reaches each
region once. The jittered pull repairs whatever pushes missed, from one peer at a time unless that keeps silent; while
batches of it are stored the next is fetched, and the peer that gives does not push the same beside it. A peer that
does not answer is left alone for a while that doubles, and given less at once.
What arrives is committed and wakes the pushes in turn, so a region that is cut off from one peer is reached through
another.
"""

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

import trio

from node.committer import Committer
from node.limits import (
    BACKOFF_MAX_S,
    INTRODUCTION_S,
    LOGGED_MAX,
    MESSAGE_BYTES_LEAST,
    PIECE_BYTES_MAX,
    PIECE_TRANSACTIONS_MAX,
    PULLED_MESSAGES_MAX,
    SLOW_CALL_S,
)
from node.peer import Peer
from node.seams import Clock, Transport, Unreachable
from replication import messages
from replication.admission import LeftOut, Transaction
from replication.errors import PeerError, Refused
from replication.exchange import claims, find_forks, heads_after, is_behind, lacking
from replication.limits import ORIGINS_MAX
from replication.messages import Claim, Digest, Events, Fork, Message, Pull, Received, Refusal
from replication.origin import region_of
from replication.replica import Applied, Arrival, NewIncarnation, Outcome, Replica
from replication.tables import Head
from replication.withheld import WithheldTransactions

log = logging.getLogger("atoll.gossip")


class Gossip:
    """One node's exchange with its peers."""

    def __init__(
        self,
        replica: Replica,
        committer: Committer,
        transport: Transport,
        clock: Clock,
        entropy: random.Random,
        peers: Iterable[str],
        interval_s: float,
        message_bytes: int,
    ) -> None:
        self.peers = [Peer(url, byte_limit=message_bytes) for url in peers]
        for peer in self.peers:
            peer.pulled.set()
        self.refusals: Counter[str] = Counter()
        self.forks: dict[tuple[str, int], tuple[Fork, str, str]] = {}
        self.withheld = WithheldTransactions()
        self._replica = replica
        self._committer = committer
        self._transport = transport
        self._clock = clock
        self._entropy = entropy
        self._interval_s = interval_s
        self._message_bytes = message_bytes
        self._vectors: dict[str, tuple[str, dict[str, int]]] = {}
        self._logged: set[tuple[str, ...]] = set()

    async def run(self) -> None:
        """Push and pull until cancelled."""
        async with trio.open_nursery() as nursery:
            for peer in self.peers:
                nursery.start_soon(self._push_forever, peer)
            nursery.start_soon(self._pull_forever)

    async def introduce(self) -> None:
        """Hear from every peer once, or for two seconds: a node that was rolled back learns so before it writes."""
        with trio.move_on_after(INTRODUCTION_S):
            async with trio.open_nursery() as nursery:
                for peer in self.peers:
                    nursery.start_soon(self._greet, peer)

    async def _greet(self, peer: Peer) -> None:
        with suppress(Unreachable):
            await self._call(peer, self._digest(pull=True))

    def committed(self) -> None:
        """Events were committed: whoever lacks them is due a push."""
        heads = self._replica.mirror.heads
        for peer in self.peers:
            if peer.is_due(heads):
                peer.wake.set()

    @property
    def is_taking_in(self) -> bool:
        """Whether events of peers are being fetched."""
        return any(peer.is_pulled_from for peer in self.peers)

    def vectors(self) -> dict[str, dict[str, int]]:
        """The newest known vector of every region's node, by origin."""
        known = dict(self._vectors.values())
        known[self._replica.origin] = self._replica.vector
        return known

    # --- answering

    async def answer(self, data: bytes) -> tuple[bytes, bool]:
        """The answer to a peer's message, and whether the message could be taken at all."""
        try:
            received = messages.decode(data, self._replica.meta.cluster)
        except PeerError as error:
            self._count(error.reason, error.detail)
            return self._encode(Refusal(self._digest(), error.reason, error.detail)), False
        forks = await self._hear(received)
        self._called_by(received)
        match received.message:
            case Pull(digest, beyond, byte_limit):
                with self._replica.read() as snapshot:
                    limit = min(byte_limit, self._message_bytes)
                    transactions = lacking(snapshot, replace(digest, heads=beyond), limit)
                    heads = snapshot.heads
                size = sum(event.size for transaction in transactions for event in transaction)
                self._is_pulling(received.sender, size >= limit)
                ours = self._digest(forks, heads, pull=True, also=self._sees_to(received.sender))
                return self._encode(Events(ours, transactions) if transactions else ours), True
            case Events(_, transactions):
                applied = await self._apply(transactions)
                return self._encode(self._after(applied, forks)), True
            case Digest() | Refusal():
                return self._encode(self._digest(forks)), True

    def _after(self, applied: Applied, forks: tuple[Fork, ...]) -> Message:
        ours = self._digest(forks)
        if not applied.left_out:
            return ours
        first = applied.left_out[0]
        return Refusal(ours, first.reason, f"{len(applied.left_out)} left out; the first: {first.detail}"[:1024])

    def _digest(
        self,
        forks: tuple[Fork, ...] = (),
        heads: Mapping[str, Head] | None = None,
        *,
        pull: bool = False,
        also: tuple[str, ...] = (),
    ) -> Digest:
        """What this node holds. What it knows of others goes with pulls and their answers only: a push is small.

        `heads` are those of the snapshot that goes with it: memory learns of a commit a moment later.
        """
        now_ms = self._clock.now_ms()
        held, vectors = claims(heads or self._replica.mirror.heads), self.vectors() if pull else {}
        return Digest(held, now_ms, vectors, self.withheld.stated(now_ms), forks[:ORIGINS_MAX], also=also)

    def _encode(self, message: Message) -> bytes:
        return messages.encode(message, self._replica.meta.cluster, self._replica.origin)

    def _is_pulling(self, sender: str, goes_on: bool) -> None:
        """A peer that is given a full message comes back for more; with less it is done, and pushes are due again."""
        for peer in self.peers:
            if peer.origin == sender:
                peer.pulls_until = trio.current_time() + self._interval_s
                if not goes_on:
                    peer.pulled.set()
                elif peer.pulled.is_set():
                    peer.pulled = trio.Event()

    def _called_by(self, received: Received) -> None:
        """A peer that calls holds what it says, so it is not sent that back; and it can most likely be called: do not
        wait until its time."""
        for peer in self.peers:
            if peer.origin != received.sender:
                continue
            if peer.digest is not None and not is_behind(received.digest, peer.digest.heads):  # none of long ago
                peer.digest = received.digest
            if peer.failures:
                peer.retry_at = 0.0
                peer.heard.set()

    # --- hearing

    async def _hear(self, received: Received) -> tuple[Fork, ...]:
        """Take in what a message's digest says: vectors, whether this node was rolled back, forks."""
        digest = received.digest
        with self._replica.read() as snapshot:
            forks = find_forks(snapshot, digest)
        for fork in forks:
            self._note_fork(fork, received.sender, digest)
        self._learn_vectors(received.sender, digest)
        for peer in self.peers:
            if peer.origin in digest.also:
                peer.note_promise(received.sender, digest.heads, self._interval_s)
        own = digest.heads.get(self._replica.origin)
        if own is not None and own.seq > self._replica.vector.get(self._replica.origin, 0):
            before = self._replica.origin
            with suppress(Refused):
                await self._committer.submit([NewIncarnation(before, own.seq)])
            if self._replica.origin != before:
                log.warning(
                    "%s holds %s up to %d, beyond this store: it was rolled back, and goes on as %s",
                    received.sender, before, own.seq, self._replica.origin,
                )  # fmt: skip
        return forks

    def _note_fork(self, fork: Fork, sender: str, digest: Digest) -> None:
        where = (fork.origin, fork.seq)
        theirs = {(one.origin, one.seq): one.chain for one in digest.forks}
        chain = theirs.get(where) or digest.heads[fork.origin].chain
        if where not in self.forks and len(self.forks) < LOGGED_MAX:
            log.error(
                "fork: %s.%d is %s here and %s at %s; one side wrote with a cloned or rolled-back store",
                fork.origin, fork.seq, fork.chain.hex(), chain.hex(), sender,
            )  # fmt: skip
            self.refusals["fork"] += 1
            self.forks[where] = (fork, sender, chain.hex())

    def _learn_vectors(self, sender: str, digest: Digest) -> None:
        for origin, stated in digest.vectors.items():
            vector = dict(stated)
            known = self._vectors.get(region_of(origin))
            newer = sum(vector.values()) >= sum(known[1].values()) if known else len(self._vectors) < ORIGINS_MAX - 1
            if newer and region_of(origin) not in (self._replica.meta.region, region_of(sender)):
                self._vectors[region_of(origin)] = (origin, vector)
        if region_of(sender) in self._vectors or len(self._vectors) < ORIGINS_MAX - 1:
            self._vectors[region_of(sender)] = (sender, {origin: one.seq for origin, one in digest.heads.items()})

    async def _apply(self, transactions: Iterable[Transaction]) -> Applied:
        """Have them applied, piece by piece; all are enqueued at once, so that no other message comes between."""
        outcomes: list[Outcome] = []
        waiting, all_told = 0, trio.Event()

        def told(some: list[Outcome]) -> None:
            outcomes.extend(some)
            if len(outcomes) == waiting:
                all_told.set()

        refusal: Refused | None = None
        for piece, size in _pieces(transactions):
            try:
                self._committer.enqueue([Arrival(piece)], size, told)
            except Refused as reason:
                refusal = reason
                break
            waiting += 1
        if waiting:
            await all_told.wait()
        if refusal is not None:
            outcomes.append(refusal)
        return self._sum_up(outcomes)

    def _sum_up(self, outcomes: list[Outcome]) -> Applied:
        events, left_out = 0, list[LeftOut]()
        for outcome in outcomes:
            if isinstance(outcome, Applied):
                events += outcome.events
                left_out += outcome.left_out
            else:
                left_out.append(LeftOut("", 0, "store", str(outcome)))
        self.withheld.note(left_out, self._clock.now_ms())
        for one in left_out:
            self._count(one.reason, one.detail, one.origin)
        return Applied(events, tuple(left_out))

    def _count(self, reason: str, detail: str, origin: str = "") -> None:
        """Count a refusal; log the first of its kind."""
        self.refusals[reason] += 1
        if (reason, origin) not in self._logged and len(self._logged) < LOGGED_MAX:
            self._logged.add((reason, origin))
            log.warning("left out of what a peer sent: %s: %s", reason, detail)

    # --- calling

    async def _call(self, peer: Peer, message: Message, sent: Callable[[], None] | None = None) -> Received:
        """One message to a peer; its answer. Raises: Unreachable."""
        began, known = trio.current_time(), peer.digest
        peer.called_at = min(peer.called_at, began)
        try:
            data = await self._transport.call(peer.url, self._encode(message), sent)
            received = messages.decode(data, self._replica.meta.cluster)
        except (Unreachable, PeerError) as error:
            self._failed(peer, error)
            raise Unreachable(str(error)) from None
        await self._hear(received)
        said = None if peer.digest is known else peer.digest  # in another message, meanwhile
        if said is None or not is_behind(received.digest, said.heads):
            peer.digest = received.digest
        peer.origin = received.sender
        peer.failures, peer.error, peer.retry_at, peer.called_at = 0, None, 0.0, math.inf
        peer.heard.set()
        peer.last_answer_ms = self._clock.now_ms()
        peer.answers += 1
        took = trio.current_time() - began
        if took > SLOW_CALL_S:
            peer.byte_limit = max(peer.byte_limit // 2, MESSAGE_BYTES_LEAST)
        elif peer.byte_limit < self._message_bytes:
            peer.byte_limit = min(peer.byte_limit * 2, self._message_bytes)
        return received

    def _failed(self, peer: Peer, error: Unreachable | PeerError) -> None:
        if isinstance(error, PeerError):
            self._count(error.reason, f"{peer.url}: {error.detail}", peer.url)
        elif peer.failures == 0:
            log.info("%s does not answer: %s", peer.url, error)
        peer.failures += 1
        peer.byte_limit = min(max(peer.byte_limit // 4, MESSAGE_BYTES_LEAST), self._message_bytes)
        peer.error, peer.called_at = str(error), math.inf
        peer.heard = trio.Event()
        delay = min(BACKOFF_MAX_S, self._interval_s * 2 ** min(peer.failures - 1, 16))
        peer.retry_at = trio.current_time() + delay * self._entropy.uniform(0.5, 1.0)

    async def _pull(self, peer: Peer) -> None:
        """Take in what the peer has more, message by message: while some are stored, the next is fetched."""
        heads: Mapping[str, Claim] = claims(self._replica.mirror.heads)
        fetched: tuple[Transaction, ...] = ()
        room, stuck = trio.Semaphore(PULLED_MESSAGES_MAX), False

        async def store(message: tuple[Transaction, ...], asked: trio.Event) -> None:
            nonlocal stuck
            # A turn stops this thread, and the peer would have nothing to do meanwhile. So messages are enqueued in
            # order, too: each once the next is asked for, before that is here.
            await asked.wait()
            applied = await self._apply(message)
            # What could not be stored, others build on; what was held already, somebody else is sending.
            stuck = stuck or bool(applied.left_out) or not applied.events
            room.release()

        async with trio.open_nursery() as nursery:
            while True:
                asked = trio.Event()
                if fetched:
                    await room.acquire()
                    if stuck:
                        break
                    nursery.start_soon(store, fetched, asked)
                try:
                    fetched = await self._fetch(peer, heads, asked)
                except Unreachable:
                    return
                if not fetched:
                    break
                heads = heads_after(heads, fetched)
        peer.wake.set()

    async def _fetch(self, peer: Peer, heads: Mapping[str, Claim], asked: trio.Event) -> tuple[Transaction, ...]:
        """What the peer has beyond these heads, as much as one message holds; `asked` is set once it knows that we
        want it.

        Raises: Unreachable.
        """
        try:
            received = await self._call(peer, Pull(self._digest(pull=True), heads, peer.byte_limit), asked.set)
        finally:
            asked.set()
        return received.message.transactions if isinstance(received.message, Events) else ()

    async def _push(self, peer: Peer) -> None:
        """Send the peer what it lacks, message by message, as long as that moves it on."""
        while (known := peer.digest) is not None and peer.is_due(self._replica.mirror.heads):
            with self._replica.read() as snapshot:
                transactions = lacking(snapshot, known, peer.byte_limit)
                ours = self._digest(heads=snapshot.heads, also=self._sees_to(peer.origin))
            if not transactions:
                return
            await self._call(peer, Events(ours, transactions))
            if _unmoved(known, peer.digest):
                return

    def _sees_to(self, whom_to_tell: str | None) -> tuple[str, ...]:
        """The other peers, as far as they answer and soon: what this node holds, they hold or are being sent."""
        since = trio.current_time() - SLOW_CALL_S
        others = [peer for peer in self.peers if not peer.failures and peer.called_at >= since]
        return tuple(peer.origin for peer in others if peer.origin not in (None, whom_to_tell))[:ORIGINS_MAX]

    async def _push_forever(self, peer: Peer) -> None:
        while True:
            await peer.wake.wait()
            peer.wake = trio.Event()
            if peer.failures:
                with trio.move_on_at(peer.retry_at):
                    await peer.heard.wait()
            while not peer.pulled.is_set() and peer.pulls_until > trio.current_time():
                with trio.move_on_at(peer.pulls_until):
                    await peer.pulled.wait()
            try:
                await self._push(peer)
            except Unreachable:
                peer.wake.set()

    async def _pull_forever(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                due = [
                    peer for peer in self.peers if peer.retry_at <= trio.current_time() and not peer.is_pulled_from
                ]
                if due:
                    peer = self._entropy.choice(due)
                    peer.is_pulled_from = True
                    nursery.start_soon(self._pull_and_end, peer, ended := trio.Event())
                    await _ended_or_silent(peer, ended)
                await trio.sleep(self._interval_s * self._entropy.uniform(0.5, 1.5))

    async def _pull_and_end(self, peer: Peer, ended: trio.Event) -> None:
        try:
            await self._pull(peer)
        finally:
            peer.is_pulled_from = False
            ended.set()


def _pieces(transactions: Iterable[Transaction]) -> Iterator[tuple[list[Transaction], int]]:
    """What arrived, as much at a time as is worked out before others have a turn; and its bytes."""
    piece: list[Transaction] = []
    size = 0
    for transaction in transactions:
        piece.append(transaction)
        for event in transaction:
            size += len(event.header) + len(event.body)
        if len(piece) == PIECE_TRANSACTIONS_MAX or size >= PIECE_BYTES_MAX:
            yield piece, size
            piece, size = [], 0
    if piece:
        yield piece, size


async def _ended_or_silent(peer: Peer, pull: trio.Event) -> None:
    """Wait for a pull to end, or for the peer to leave a call without an answer for so long that others go first."""
    answers = -1
    while not pull.is_set() and answers != peer.answers:
        answers = peer.answers
        with trio.move_on_after(SLOW_CALL_S):
            await pull.wait()


def _unmoved(before: Digest, after: Digest | None) -> bool:
    return after is not None and before.heads == after.heads and before.left_out == after.left_out
