"""What nodes tell each other beside events, and what each makes of it: digests, refusals, vectors, when to call again."""

from collections.abc import Callable

import pytest
import trio

from node.peer import Peer
from node.service import Node
from replication import messages
from replication.errors import StoreFailed
from replication.event import Encoded, genesis
from replication.limits import ORIGINS_MAX
from replication.messages import Claim, Digest, Events, Message, Pull, Refusal
from replication.replica import Applied, Arrival
from tests.gossiping import Link, World, same, until, write
from tests.helpers import NOW
from tests.replication.test_admission import STRANGER, after, forged

OTHER = "ww.00000001"
AHEAD = (NOW + 999_999) << 16


async def told(node: Node, message: Message, sender: str = STRANGER) -> Message:
    """What a node answers."""
    answer, _ = await node.gossip.answer(messages.encode(message, "atoll", sender))
    return messages.decode(answer, "atoll").message


async def take(node: Node, *events: Encoded) -> None:
    """Have a node take in events, a transaction each."""
    [outcome] = await node.submit([Arrival([(event,) for event in events])])
    assert isinstance(outcome, Applied)
    assert not outcome.left_out


async def test_an_answer_is_no_larger_than_either_side_wants(world: World) -> None:
    async with world.node("us", message_bytes=1024) as us:
        for number in range(60):
            await write(us, f"s/{number}", set={"n": "x" * 200})
        for wanted, most in ((1 << 20, 2_048), (1, 512)):
            given = await told(us, Pull(Digest({}, NOW), {}, wanted))
            assert isinstance(given, Events)
            assert 0 < sum(event.size for one in given.transactions for event in one) < most


async def test_a_peer_that_owes_an_answer_for_long_is_not_called_seen_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.gossip.SLOW_CALL_S", 0.05)
    async with world.node("ap") as ap, world.node("eu", "ap") as eu:
        await until(lambda: eu.gossip._sees_to(None) == (ap.replica.origin,))
        world.network.hanging.add("http://ap")
        await until(lambda: eu.gossip._sees_to(None) == ())
        assert eu.gossip.peers[0].failures == 0, "nothing has failed yet"


async def test_who_asks_is_told_of_the_others_that_are_seen_to(world: World) -> None:
    async with world.node("us") as us, world.node("ap") as ap, world.node("eu", "us", "ap", "za") as eu:
        await until(lambda: [peer.origin for peer in eu.gossip.peers] == [us.replica.origin, ap.replica.origin, None])
        ask = Pull(Digest({}, NOW), {}, 4096)
        for asks, also in ((us, (ap.replica.origin,)), (ap, (us.replica.origin,))):
            answer = await told(eu, ask, asks.replica.origin)
            assert isinstance(answer, Digest)
            assert answer.also == also
        world.cut("eu", "ap")
        await until(lambda: eu.gossip.peers[1].failures > 0)
        answer = await told(eu, ask, us.replica.origin)
        assert isinstance(answer, Digest)
        assert answer.also == ()
        eu.gossip.peers += [Peer(f"http://{number}", f"za.{number:08x}") for number in range(70)]
        answer = await told(eu, ask, us.replica.origin)
        assert isinstance(answer, Digest)
        assert len(answer.also) == ORIGINS_MAX
        del eu.gossip.peers[3:]


async def test_what_is_held_back_is_stated(world: World) -> None:
    async with world.node("us") as us:
        refusal = await told(us, Events(Digest({}, NOW), ((forged("atoll", timestamp=AHEAD),),)))
        assert isinstance(refusal, Refusal)
        assert [one.origin for one in refusal.digest.left_out] == [STRANGER]


async def test_who_is_behind_is_told_of_a_fork_too(world: World) -> None:
    async with world.node("us") as us:
        first = forged("atoll")
        await take(us, first, after(first))
        answer = await told(us, Digest({STRANGER: Claim(1, b"another" + bytes(9))}, NOW), OTHER)
        assert isinstance(answer, Digest)
        assert [(fork.origin, fork.seq, fork.chain) for fork in answer.forks] == [(STRANGER, 1, first.chain)]


async def test_what_arrives_at_a_failing_store_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.node("us") as us:
        monkeypatch.setattr(us.replica, "_failed", StoreFailed("disk"))
        refusal = await told(us, Events(Digest({}, NOW), ((forged("atoll"),),)))
        assert isinstance(refusal, Refusal)
        assert refusal.reason == "store"
        monkeypatch.setattr(us.replica, "_failed", None)


async def test_the_newest_vector_of_each_other_region_is_kept(world: World) -> None:
    async with world.node("us") as us:
        await write(us, "s", set={"n": 1})
        own, ap = us.replica.origin, "ap.00000001"
        for seq in (5, 7, 6):
            await told(us, Digest({}, NOW, {ap: {ap: seq}, own: {own: seq}, STRANGER: {STRANGER: seq}}))
        assert us.gossip.vectors() == {own: {own: 1}, ap: {ap: 7}, STRANGER: {}}, "of itself each knows best"


async def test_a_push_that_failed_is_made_again(world: World) -> None:
    async with world.node("us") as us, world.node("eu", "us", gossip_interval_ms=60_000) as eu:
        [peer] = eu.gossip.peers
        await until(lambda: peer.answers > 1)  # its only pull is done
        world.cut("eu", "us")
        await write(eu, "s", set={"n": 1})
        await until(lambda: peer.failures > 0)
        world.heal()
        peer.heard.set()
        await until(lambda: same(us, eu))


async def test_a_push_goes_on_with_what_does_not_depend_on_what_was_held_back(world: World) -> None:
    async with (
        world.node("us", gossip_interval_ms=60_000) as us,
        world.node("eu", "us", gossip_interval_ms=60_000, message_bytes=1, max_drift_ms=3_600_000) as eu,
    ):
        await until(lambda: eu.gossip.peers[0].answers > 1)
        good = forged("atoll", origin=OTHER, previous=genesis("atoll", OTHER))
        await take(eu, forged("atoll", timestamp=AHEAD), good)
        await until(lambda: us.replica.vector == {OTHER: 1})


async def test_a_peer_is_pulled_from_once_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.gossip.SLOW_CALL_S", 0.01)
    call, pulls, most = Link.call, 0, 0

    async def counted(link: Link, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        nonlocal pulls, most
        pulls += (asked := isinstance(messages.decode(message, "atoll").message, Pull))
        most = max(most, pulls)
        try:
            return await call(link, url, message, sent)
        finally:
            pulls -= asked

    monkeypatch.setattr(Link, "call", counted)
    async with world.node("us"), world.node("eu", "us"):
        world.network.hanging.add("http://us")
        await until(lambda: pulls == 1)
        await trio.sleep(0.3)
        assert most == 1


async def test_a_peer_out_of_reach_is_tried_again_before_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.gossip.BACKOFF_MAX_S", 0.05)
    async with world.node("eu", "us") as eu:
        [peer] = eu.gossip.peers
        await until(lambda: peer.failures > 8)
        assert peer.retry_at - trio.current_time() <= 0.05
