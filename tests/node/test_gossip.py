"""Gossip between running nodes: push, relay, repair, refusals, forks and rollbacks, over links that the test cuts."""

import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node import gossip
from node.committer import Done
from node.interface.status import describe
from node.limits import MESSAGE_BYTES_LEAST, PULLED_MESSAGES_MAX
from node.seams import Unreachable
from node.service import Node
from node.transport import MEDIA_TYPE, HttpTransport
from replication import messages
from replication.command import Command, Draft
from replication.errors import PeerError, StoreFailed
from replication.exchange import claims, lacking
from replication.limits import ORIGINS_MAX
from replication.messages import Claim, Digest, Events, Message, Pull, Refusal
from replication.packing import pack
from replication.replica import Arrival, Turn
from tests.gossiping import ANSWER_S, Link, World, same, until, value, write
from tests.helpers import NOW, check_store, operations
from tests.replication.test_admission import STRANGER, forged
from tests.serving import TestClock, serving


async def write_past(node: Node, events: int) -> None:
    """Events that take several small messages."""
    for number in range(events):
        await write(node, f"s/{number % 7}", set={"n": "x" * 200, "m": number})


async def test_a_commit_is_pushed_once_a_link(world: World) -> None:
    async with world.node("eu", "us", gossip_interval_ms=60_000) as eu, world.node("us") as us:
        await until(lambda: eu.gossip.peers[0].digest is not None or eu.gossip.peers[0].failures > 0)
        eu.gossip.peers[0].retry_at = 0
        await eu.gossip._pull(eu.gossip.peers[0])
        await write(eu, "s", set={"n": 1})
        # It hears so by the answer, which comes after the other's commit.
        await until(lambda: describe(eu)["peers"][0]["behind"] == 0)
        assert same(eu, us)
        assert [call[2] for call in world.network.calls].count("Events") == 1


async def test_what_a_peer_pushes_is_not_sent_back_to_it(world: World) -> None:
    async with (
        world.node("us", "eu", gossip_interval_ms=60_000) as us,
        world.node("eu", "us", gossip_interval_ms=60_000) as eu,
    ):
        for node in (eu, us):
            node.gossip.peers[0].retry_at = 0
            await node.gossip._pull(node.gossip.peers[0])
        for number in range(5):
            await write(eu, "s", set={"n": number})
            await until(lambda: describe(eu)["peers"][0]["behind"] == 0)
            assert describe(us)["peers"][0]["ahead"] == describe(us)["peers"][0]["behind"] == 0
        await trio.sleep(0.1)
        pushed = [(caller, url) for caller, url, kind in world.network.calls if kind == "Events"]
        assert pushed == [("http://eu", "http://us")] * 5


async def test_a_message_that_comes_late_tells_nothing_of_what_its_sender_holds_now(world: World) -> None:
    async with world.node("us") as us, world.node("eu", "us", gossip_interval_ms=60_000) as eu:
        late = messages.encode(Digest(claims(us.replica.mirror.heads), NOW), "atoll", us.replica.origin)
        await write(us, "s", set={"n": 1})
        await eu.gossip._pull(eu.gossip.peers[0])
        assert same(eu, us)
        known = eu.gossip.peers[0].digest
        assert known is not None
        await eu.gossip.answer(late)
        assert eu.gossip.peers[0].digest == known


async def test_in_a_mesh_each_event_goes_to_each_region_once(world: World) -> None:
    regions = ["ap", "eu", "us", "za"]
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                world.node(region, *(other for other in regions if other != region), gossip_interval_ms=60_000)
            )
            for region in regions
        ]
        for node in nodes:
            for peer in node.gossip.peers:
                peer.retry_at = 0
                await node.gossip._pull(peer)
        for number in range(5):
            await write(nodes[number % 4], "s", set={"n": number})
            await until(lambda: same(*nodes))
            await trio.sleep(5 * ANSWER_S)
        pushed = Counter(caller for caller, _, kind in world.network.calls if kind == "Events")
        assert pushed == {"http://ap": 6, "http://eu": 3, "http://us": 3, "http://za": 3}


async def test_what_a_region_was_promised_and_not_sent_it_is_sent_by_another(world: World) -> None:
    async with (
        world.node("ap") as ap,
        world.node("us", "ap") as us,
        world.node("eu", "us", "ap", gossip_interval_ms=60_000) as eu,
    ):
        for peer in eu.gossip.peers:
            peer.retry_at = 0
            await eu.gossip._pull(peer)
        await until(lambda: us.gossip.peers[0].answers > 0)
        world.network.cut.add(("http://eu", "http://ap"))
        await write(eu, "s", set={"n": 1})
        await until(lambda: same(eu, us))
        assert us.gossip.peers[0].promises, "eu did not know yet that ap is out of its reach"
        await until(lambda: same(us, ap))
        await write(eu, "s", set={"n": 2})
        await until(lambda: same(eu, us, ap))


async def test_no_more_promises_are_kept_than_there_may_be_origins_and_none_that_lapsed(world: World) -> None:
    async with world.node("ap") as ap, world.node("us", "ap", gossip_interval_ms=60_000) as us:
        [peer] = us.gossip.peers
        await us.gossip._pull(peer)
        promise = Digest({}, NOW, also=(ap.replica.origin,))
        for number in range(ORIGINS_MAX + 9):
            await us.gossip.answer(messages.encode(promise, "atoll", f"eu.{number:08x}"))
        assert len(peer.promises) == ORIGINS_MAX
        _, lapses = peer.promises["eu.00000000"]
        await trio.sleep(0.01)
        await us.gossip.answer(messages.encode(promise, "atoll", "eu.00000000"))
        assert peer.promises["eu.00000000"][1] > lapses
        peer.promises = {promiser: (heads, trio.current_time()) for promiser, (heads, _) in peer.promises.items()}
        await us.gossip.answer(messages.encode(promise, "atoll", STRANGER))
        assert peer.promises.keys() == {STRANGER}


async def test_an_answer_that_was_overtaken_tells_nothing_of_what_its_sender_holds_now(world: World) -> None:
    async with world.node("us") as us, world.node("eu", "us", gossip_interval_ms=60_000) as eu:
        [peer] = eu.gossip.peers
        await eu.gossip._pull(peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(eu.gossip._greet, peer)
            await trio.sleep(ANSWER_S / 2)  # us has answered, and eu has not heard it yet
            await write(us, "s", set={"n": 1})
            await eu.gossip.answer(
                messages.encode(Digest(claims(us.replica.mirror.heads), NOW), "atoll", us.replica.origin)
            )
        assert peer.digest is not None
        assert peer.digest.heads == claims(us.replica.mirror.heads)


async def test_a_message_states_all_that_it_brings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a commit the disk tells a moment before memory does."""
    async with (
        world.node("us", gossip_interval_ms=60_000),
        world.node("eu", "us", gossip_interval_ms=60_000) as eu,
    ):
        [peer] = eu.gossip.peers
        await eu.gossip._pull(peer)
        world.network.silent = True
        await write(eu, "s", set={"n": 1})
        before = eu.replica.mirror
        await write(eu, "s", set={"n": 2})
        await trio.sleep(ANSWER_S)
        said: list[Message] = []

        def encode(message: Message) -> bytes:
            said.append(message)
            return b""

        monkeypatch.setattr(eu.replica, "_mirror", before)
        monkeypatch.setattr(eu.gossip, "_encode", encode)
        with suppress(Unreachable):
            await eu.gossip._push(peer)
        await eu.gossip.answer(messages.encode(Pull(Digest({}, NOW), {}, 4096), "atoll", STRANGER))
        monkeypatch.undo()
    assert len(said) == 2, "a push, and the answer to a pull"
    for message in said:
        assert isinstance(message, Events)
        assert len(message.transactions) == message.digest.heads[eu.replica.origin].seq == 2


async def test_an_arrival_that_is_left_out_whole_wakes_nobody(world: World) -> None:
    async with world.node("us") as us, world.node("eu", "us", gossip_interval_ms=60_000) as eu:
        told = eu.followers.round
        early = messages.encode(Events(Digest({}, NOW), ((forged("atoll", seq=5),),)), "atoll", STRANGER)
        answer, _ = await eu.gossip.answer(early)
        assert isinstance(messages.decode(answer, "atoll").message, Refusal)
        await trio.sleep(0.05)
        assert eu.followers.round == told
        assert not eu.gossip.peers[0].wake.is_set()
        await write(us, "s", set={"n": 1})


async def test_a_push_does_not_carry_what_its_sender_knows_of_others_and_a_pull_does(world: World) -> None:
    carried: dict[str, set[bool]] = {"Events": set(), "Pull": set()}
    async with world.node("us", "eu") as us, world.node("eu", "us") as eu:
        heard = eu.gossip.answer

        async def answer(data: bytes) -> tuple[bytes, bool]:
            received = messages.decode(data, "atoll")
            carried[type(received.message).__name__].add(bool(received.digest.vectors))
            return await heard(data)

        eu.gossip.answer = answer  # type: ignore[method-assign]  # to listen
        for number in range(5):
            await write(us, "s", set={"n": number})
            await until(lambda: same(us, eu))
        await until(lambda: all(carried.values()))
    assert carried == {"Events": {False}, "Pull": {True}}


async def test_a_region_cut_from_one_peer_is_reached_through_another(world: World) -> None:
    async with (
        world.node("eu", "us", "ap") as eu,
        world.node("us", "eu", "ap") as us,
        world.node("ap", "eu", "us") as ap,
    ):
        world.cut("eu", "us")
        await write(eu, "s", set={"n": 1})
        await until(lambda: same(eu, us, ap))
        assert value(us, "s") == 1
        await write(us, "s", set={"n": 2})
        await until(lambda: same(eu, us, ap))
        held = {one.replica.origin: one.replica.vector for one in (eu, us, ap)}
        await until(lambda: all(one.gossip.vectors() == held for one in (eu, us, ap)))
    for region in ("eu", "us", "ap"):
        check_store(world.directory / region)


async def test_a_link_named_on_one_side_works_both_ways(world: World) -> None:
    async with world.node("us") as us, world.node("eu", "us") as eu:
        await write(us, "s", set={"n": 1})
        await until(lambda: same(eu, us))
        await write(eu, "s", set={"n": 2})
        await until(lambda: same(eu, us))


async def test_both_sides_write_through_a_cut_and_agree_after_it(world: World) -> None:
    async with world.node("eu", "us") as eu, world.node("us", "eu") as us:
        await until(lambda: eu.gossip.peers[0].answers > 0)
        world.cut("eu", "us")
        for number in range(20):
            await write(eu, f"s/{number}", set={"n": "eu"})
            await write(us, f"s/{number}", set={"n": "us"})
        await until(lambda: eu.gossip.peers[0].failures > 2)
        world.clock.ms += 1_500
        shown = describe(eu)["peers"][0]
        assert (shown["reachable"], shown["answered_ms_ago"]) == (False, 1_500)
        world.heal()
        await until(lambda: same(eu, us))
        await until(lambda: describe(eu)["peers"][0]["answered_ms_ago"] == 0)
        assert [value(eu, f"s/{n}") for n in range(20)] == [value(us, f"s/{n}") for n in range(20)]


async def test_peers_that_never_answer_do_not_keep_it_from_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.gossip.SLOW_CALL_S", 0.05)
    hanging = [f"hanging{number}" for number in range(3)]
    async with world.node("eu") as eu, world.node("us", "eu", *hanging) as us:
        world.network.hanging |= {f"http://{name}" for name in hanging}
        for number in range(10):
            await write(eu, "s", set={"n": number})
            await until(lambda: same(us, eu))
        assert all(peer.is_pulled_from for peer in us.gossip.peers if "hanging" in peer.url)
        assert world.network.calls.count(("http://us", "http://eu", "Pull")) >= 10


async def test_a_peer_out_of_reach_is_called_less_and_less(world: World) -> None:
    async with world.node("us", "eu") as us, world.node("eu", "us") as eu:
        await write(us, "s", set={"n": 1})
        await until(lambda: same(us, eu))
        world.cut("us", "eu")
        await write(us, "s", set={"n": 2})
        await trio.sleep(0.6)
        assert 2 <= world.network.lost <= 24, "each time after twice as long, pushing and pulling"
        world.heal()
        await until(lambda: same(us, eu))


async def test_a_peer_that_calls_is_called_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.gossip.BACKOFF_MAX_S", 60.0)
    async with world.node("eu", "us") as eu, world.node("us", "eu", gossip_interval_ms=60_000) as us:
        [peer] = us.gossip.peers
        await write(us, "s", set={"n": 1})
        await until(lambda: same(us, eu))
        world.cut("us", "eu")
        await write(us, "s", set={"n": 2})
        await until(lambda: peer.failures > 0)
        assert peer.retry_at > trio.current_time() + 20
        world.heal()
        await until(lambda: peer.failures == 0)


async def test_lost_answers_and_repeated_messages_change_nothing(world: World) -> None:
    async with world.node("eu", "us") as eu, world.node("us", "eu") as us:
        world.network.answers_lost = True
        for number in range(5):
            await write(eu, "s", set={"n": number})
            await trio.sleep(0.02)
        world.network.answers_lost = False
        await until(lambda: same(eu, us))
        assert us.gossip.refusals == {}


async def test_an_unreachable_peer_at_start_is_no_error_and_writing_waits_for_no_longer_than_the_introduction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.node("eu", "nowhere") as eu:
        await write(eu, "s", set={"n": 1})
    monkeypatch.setattr("node.gossip.INTRODUCTION_S", 0.2)

    async def never(url: str, message: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(Link, "call", lambda self, url, message, sent=None: never(url, message))
    async with world.node("us", "nowhere", ready=False) as us:
        assert not us.ready
        with trio.fail_after(2):
            await write(us, "s", set={"n": 1})
        assert us.ready


async def test_a_store_rolled_back_in_place_takes_a_new_incarnation_before_it_writes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.node("us") as us:
        async with world.node("eu", "us") as eu:
            await write(eu, "s", set={"n": 1})
        shutil.copyfile(world.directory / "eu/data.mdb", world.directory / "old")
        async with world.node("eu", "us") as eu:
            old = eu.replica.origin
            await write(eu, "s", set={"n": 2})
            await until(lambda: same(eu, us))
        shutil.copyfile(world.directory / "old", world.directory / "eu/data.mdb")
        async with world.node("eu", "us") as eu:
            assert eu.replica.origin != old
            assert f"holds {old} up to 2, beyond this store" in caplog.text
            assert f"goes on as {eu.replica.origin}" in caplog.text
            await write(eu, "s", set={"n": 3})
            await until(lambda: same(eu, us))
            assert value(us, "s") == 3
            assert us.gossip.forks == {}
            assert eu.gossip.forks == {}


async def test_hearing_of_its_own_events_beyond_its_log_is_enough(world: World) -> None:
    async with world.node("eu") as eu:
        await write(eu, "s", set={"n": 1})
        old = eu.replica.origin
        for seq, kept in ((1, True), (2, False)):
            with eu.replica.read() as snapshot:
                chain = snapshot.heads[old].chain if seq == 1 else b"c" * 16
            claim = messages.encode(Digest({old: Claim(seq, chain)}, NOW), "atoll", "us.00000001")
            await eu.gossip.answer(claim)
            assert (eu.replica.origin == old) is kept
        assert (await write(eu, "s", set={"n": 2})).events[0].dot.seq == 1


async def test_a_fork_is_named_on_both_sides_and_everything_else_flows(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.node("us", "eu") as us, world.node("ap", "us", "eu") as ap:
        async with world.node("eu", "us") as eu:
            await write(eu, "s", set={"n": 1})
        shutil.copyfile(world.directory / "eu/data.mdb", world.directory / "old")
        async with world.node("eu", "us") as eu:
            await write(eu, "s", set={"n": "first"})
            await until(lambda: same(eu, us, ap))
        shutil.copyfile(world.directory / "old", world.directory / "eu/data.mdb")
        for peer in ("us", "ap"):
            world.cut("eu", peer)
        async with world.node("eu", "us") as eu:
            forked = eu.replica.origin
            await write(eu, "s", set={"n": "second"})
            world.heal()
            await until(lambda: bool(eu.gossip.forks and us.gossip.forks))
            for node in (eu, us):
                [fork] = describe(node)["forks"]
                assert fork["dot"] == f"{forked}.2"
                assert fork["here"] != fork["there"]
            assert {describe(eu)["forks"][0]["here"], describe(eu)["forks"][0]["there"]} == {
                describe(us)["forks"][0]["here"],
                describe(us)["forks"][0]["there"],
            }
            assert 2 <= caplog.text.count(f"fork: {forked}.2") <= 3, "once a node"
            world.cut("za", "eu")
            world.cut("za", "us")
            async with world.node("za", "eu", "us") as za:
                await write(za, "other", set={"n": 7})  # before it has heard of either side of the fork
                world.heal()
                await until(lambda: all(za.replica.origin in one.replica.vector for one in (eu, us, ap)))
            assert (value(us, "s"), value(eu, "s")) == ("first", "second")
        # za took the side that reached it first, and may have met the other one by now.
        assert caplog.text.count(f"fork: {forked}.2") <= 4, "once a node"
    for region in ("eu", "us", "ap", "za"):
        check_store(world.directory / region)


async def test_a_held_back_stamp_arrives_when_it_is_due_and_holds_nothing_else_back(world: World) -> None:
    ahead = World(world.directory, world.network, TestClock(NOW + 5_000))
    async with (
        world.node("us", max_drift_ms=1_000) as us,
        ahead.node("eu", "us", max_drift_ms=1_000) as eu,
        world.node("ap", "us", max_drift_ms=1_000) as ap,
    ):
        await write(eu, "s", set={"n": 1})
        await until(lambda: bool(us.gossip.withheld.current(us.clock.now_ms())))
        [left] = describe(us)["left_out"]
        assert left["reason"] == "held-back"
        await write(ap, "t", set={"n": 2})
        await until(lambda: ap.replica.origin in us.replica.vector)
        assert eu.replica.origin not in us.replica.vector
        world.clock.ms += 4_000
        await until(lambda: same(us, eu))
        assert us.gossip.refusals["held-back"] < 20


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("malformed", lambda us: b"hello"),
        ("other-cluster", lambda us: messages.encode(Digest({}, 0), "other", "xx.00000001")),
        ("unknown-protocol", lambda us: pack([7, 9])),
    ],
)
async def test_what_cannot_be_heard_is_refused_counted_and_logged_once(
    world: World, caplog: pytest.LogCaptureFixture, reason: str, message: Callable[[Node], bytes]
) -> None:
    async with world.node("us") as us:
        for _ in range(3):
            answer, taken = await us.gossip.answer(message(us))
            refusal = messages.decode(answer, "atoll").message
            assert isinstance(refusal, Refusal)
            assert (refusal.reason, taken) == (reason, False)
        assert describe(us)["refusals"] == {reason: 3}
        assert caplog.text.count(reason) == 1
        assert us.replica.vector == {}


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("gap", {"seq": 2, "previous": b"p" * 16}),
        ("broken-chain", {"previous": b"p" * 16}),
        ("malformed", {"body_hash": b"h" * 16}),
        ("uncovered-context", {"context": {"yy.00000001": 1}}),
        ("held-back", {"timestamp": (NOW + 999_999) << 16}),
        ("missing", {"seen": (("yy.00000001", 1, b"m" * 8),)}),
    ],
)
async def test_what_is_wrong_in_a_message_is_refused_counted_and_logged_once_and_the_rest_applied(
    world: World, caplog: pytest.LogCaptureFixture, reason: str, fields: dict[str, Any]
) -> None:
    from msgspec.structs import replace

    from replication.event import Encoded, Seen, genesis
    from replication.event_codec import decode_header, encode_header

    fields = dict(fields)
    if "seen" in fields:
        fields["seen"] = tuple(Seen(*one) for one in fields["seen"])
    good = forged("atoll", origin="ww.00000001", previous=genesis("atoll", "ww.00000001"))
    wrong = forged("atoll")
    wrong = Encoded(encode_header(replace(decode_header(wrong.header), **fields)), wrong.body)
    sent = Events(Digest({}, NOW), ((wrong,), (good,)))
    async with world.node("us") as us:
        for _ in range(2):
            answer, taken = await us.gossip.answer(messages.encode(sent, "atoll", STRANGER))
            refusal = messages.decode(answer, "atoll").message
            assert isinstance(refusal, Refusal)
            assert (refusal.reason, taken) == (reason, True)
        assert describe(us)["refusals"] == {reason: 2}
        assert caplog.text.count("left out of what a peer sent") == 1
        assert us.replica.vector == {"ww.00000001": 1}
    check_store(world.directory / "us")


async def test_a_peer_of_another_cluster_is_no_peer(world: World) -> None:
    async with world.node("us"), world.node("eu", "us", cluster="other") as eu:
        with pytest.raises(PeerError):
            await world.network.link("http://eu").call("http://us", eu.gossip._encode(Digest({}, 0)))


async def test_a_failing_store_leaves_out_what_arrives_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.node("us") as us, world.node("eu", "us") as eu:
        monkeypatch.setattr(us.replica, "_failed", StoreFailed("disk"))
        await write(eu, "s", set={"n": 1})
        await until(lambda: us.gossip.refusals["store"] > 0)
        monkeypatch.setattr(us.replica, "_failed", None)
        await until(lambda: same(us, eu))


async def test_a_peer_that_can_store_nothing_is_not_sent_the_same_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.node("us") as us, world.node("eu", "us", gossip_interval_ms=200) as eu:
        monkeypatch.setattr(us.replica, "_failed", StoreFailed("disk"))
        await write(eu, "s", set={"n": 1})
        await until(lambda: us.gossip.refusals["store"] > 0)
        await trio.sleep(0.5)
        pulls, pushes = (world.network.calls.count(("http://eu", "http://us", kind)) for kind in ("Pull", "Events"))
        assert pushes <= pulls + 1, "once, and once more after each pull"


async def test_a_push_goes_on_message_by_message(world: World) -> None:
    async with world.node("us", gossip_interval_ms=60_000) as us:
        async with world.node("eu", "us", gossip_interval_ms=60_000, message_bytes=1024) as eu:
            [peer] = eu.gossip.peers
            await until(lambda: peer.answers > 1)  # its only pull is done
            await eu.submit([Command((Draft(f"s/{n}", operations(set={"n": "x" * 200})),)) for n in range(60)])
            await until(lambda: same(us, eu))
        assert world.network.calls.count(("http://eu", "http://us", "Events")) > 3


async def test_a_pull_that_breaks_off_while_a_message_is_stored_is_over_and_another_follows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, broken = Link.call, 0

    async def breaks_off(link: Link, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        nonlocal broken
        asked = messages.decode(message, "atoll").message
        if isinstance(asked, Pull) and asked.beyond and broken < 3:
            broken += 1
            raise Unreachable("gone before it was sent")
        return await call(link, url, message, sent)

    monkeypatch.setattr(Link, "call", breaks_off)
    async with world.node("us") as us:
        await write_past(us, 20)
        async with world.node("eu", "us", message_bytes=1024) as eu:
            await until(lambda: same(us, eu))
    assert broken == 3


async def test_a_pull_fetches_the_next_batch_while_one_is_stored(world: World) -> None:
    """It asks for what follows what it has been given, before that is on its disk; and ends with everything."""
    beyond: list[int] = []
    async with world.node("us") as us:
        await write_past(us, 60)
        heard = us.gossip.answer

        async def answer(data: bytes) -> tuple[bytes, bool]:
            message = messages.decode(data, "atoll").message
            if isinstance(message, Pull):
                held = {claim.seq for claim in message.digest.heads.values()}
                beyond.append(max((claim.seq for claim in message.beyond.values()), default=0) - max(held, default=0))
            return await heard(data)

        us.gossip.answer = answer  # type: ignore[method-assign]  # to listen
        async with world.node("eu", "us", message_bytes=1024) as eu:
            await until(lambda: same(us, eu))
            assert max(beyond) > 0, "it asked for more than it held"
    for region in ("eu", "us"):
        check_store(world.directory / region)


async def test_a_pull_goes_on_until_it_has_everything(world: World) -> None:
    async with world.node("us") as us:
        await write_past(us, 60)
        async with world.node("eu", "us", message_bytes=1024, gossip_interval_ms=60_000) as eu:
            await until(lambda: same(us, eu))


async def test_nothing_is_stored_before_the_peer_knows_what_is_wanted_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, fetched_beyond = Link.call, 0

    async def slow(link: Link, url: str, message: bytes, sent: Callable[[], None] | None = None) -> bytes:
        nonlocal fetched_beyond
        asked = messages.decode(message, "atoll").message
        if link.caller == "http://eu" and isinstance(asked, Pull):
            eu = world.network.nodes["http://eu"]
            fetched = {origin: claim.seq for origin, claim in asked.beyond.items()}
            held = eu.replica.vector
            await trio.sleep(0.02)
            assert held == fetched or eu.replica.vector != fetched
            fetched_beyond += held != fetched
        return await call(link, url, message, sent)

    async with world.node("us") as us:
        await write_past(us, 60)
        async with world.node("eu", "us", message_bytes=1024) as eu:
            monkeypatch.setattr(Link, "call", slow)
            await until(lambda: same(us, eu))
            assert fetched_beyond > 1
    for region in ("eu", "us"):
        check_store(world.directory / region)


@pytest.mark.parametrize(
    ("bound", "value", "commits"), [("BATCH_TRANSACTIONS_MAX", 6, 6), ("BATCH_OPERATIONS_MAX", 12, 4)]
)
async def test_what_arrives_is_committed_in_turns_that_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, commits: int
) -> None:
    """An arrival's operations count once it is read: so a turn may have those of one piece more than its bound."""
    for user in ("gossip", "committer"):
        monkeypatch.setattr(f"node.{user}.PIECE_TRANSACTIONS_MAX", 2)
    monkeypatch.setattr(f"node.committer.{bound}", value)
    async with world.node("us") as us:
        for number in range(30):
            await write(us, f"s/{number}", set={"n": number, "m": number})
        await us.submit([Command((Draft("s/many", operations(add={"m": [f"{n}" for n in range(20)]})),))])
        async with world.node("eu", "us", ready=False) as eu:
            turns: list[int] = []
            commit = eu.replica.commit

            def watched(turn: Turn) -> Any:
                assert turn.batch is not None
                turns.append(turn.batch.mirror.position - turn.base.position)
                return commit(turn)

            monkeypatch.setattr(eu.replica, "commit", watched)
            await until(lambda: same(us, eu))
            assert not eu.gossip.refusals
    most = value if bound == "BATCH_TRANSACTIONS_MAX" else value // 2 + 2
    assert max(turns) <= most
    assert sum(turns) == 31
    assert commits - 1 <= len(turns) <= commits + 1, "bounded, and shared"
    for region in ("eu", "us"):
        check_store(world.directory / region)


async def test_what_arrives_is_cut_in_pieces_of_so_many_transactions_or_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.node("us") as us:
        for number in range(12):
            await write(us, f"s/{number}", set={"n": "x" * 1_000})
        with us.replica.read() as snapshot:
            sent = lacking(snapshot, Digest({}, NOW), 1 << 20)
    monkeypatch.setattr("node.gossip.PIECE_TRANSACTIONS_MAX", 5)
    assert [len(piece) for piece, _ in gossip._pieces(sent)] == [5, 5, 2]
    assert sum(size for _, size in gossip._pieces(sent)) == sum(event.size for one in sent for event in one)
    monkeypatch.setattr("node.gossip.PIECE_BYTES_MAX", 3_000)
    assert [len(piece) for piece, _ in gossip._pieces(sent)] == [3, 3, 3, 3]
    assert list(gossip._pieces([])) == []


async def test_messages_of_a_pull_are_stored_beside_each_other_and_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, most = 0, 0
    async with world.node("us") as us:
        await write_past(us, 60)
        async with world.node("eu", "us", ready=False, message_bytes=2048) as eu:
            apply = eu.gossip._apply

            async def slow(transactions: Any) -> Any:
                nonlocal waiting, most
                waiting += 1
                most = max(most, waiting)
                applied = await apply(transactions)
                await trio.sleep(0.01)
                waiting -= 1
                return applied

            monkeypatch.setattr(eu.gossip, "_apply", slow)
            await until(lambda: same(us, eu))
            assert not eu.gossip.refusals
    assert most == PULLED_MESSAGES_MAX
    for region in ("eu", "us"):
        check_store(world.directory / region)


async def test_over_http_a_message_is_sent_before_it_is_answered(workplace: Path) -> None:
    sent = trio.Event()
    async with serving(workplace / "eu") as served:
        answer, gate = served.node.gossip.answer, trio.Event()

        async def late(data: bytes) -> tuple[bytes, bool]:
            await gate.wait()
            return await answer(data)

        served.node.gossip.answer = late  # type: ignore[method-assign]  # to have it wait
        transport = HttpTransport()
        ours = messages.encode(Digest({}, NOW), "atoll", "us.00000001")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.call, served.url, ours, sent.set)
            with trio.fail_after(10):
                await sent.wait()
            gate.set()
        await transport.aclose()


async def test_an_answer_that_never_ends_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.transport.PEER_CALL_S", 0.5)

    async def drip(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.msgpack\r\ncontent-length: 9999\r\n\r\n"
        )
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.05)

    transport = HttpTransport()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), drip, 0)
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        with trio.fail_after(5):
            with pytest.raises(Unreachable, match=r"no whole answer within 0.5 s"):
                await transport.call(url, b"")
            with pytest.raises(Unreachable, match=r"no whole answer within 0.5 s"):
                await transport.ask(url, "/transactions", {}, b"")
        await transport.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("media_type", "said"),
    [("text/html", "answered 200 and no message"), (MEDIA_TYPE, "is larger than a message may be")],
)
async def test_an_answer_that_is_no_message_is_none(
    media_type: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.transport.MESSAGE_BYTES_MAX", 1)

    async def page(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: 2\r\n\r\nhi"
        await stream.send_all(head.encode())

    transport = HttpTransport()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), page, 0)
        with pytest.raises(Unreachable, match=said):
            await transport.call(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", b"")
        await transport.aclose()
        nursery.cancel_scope.cancel()


async def test_what_builds_on_a_batch_that_could_not_be_stored_is_fetched_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.node("us") as us:
        await write_past(us, 60)
        async with world.node("eu", "us", ready=False, message_bytes=1024) as eu:
            enqueue, failures = eu._committer.enqueue, [3]

            def failing(jobs: Any, size: int, done: Done) -> Any:
                if failures[0] and isinstance(jobs[0], Arrival) and eu.replica.vector:
                    failures[0] -= 1
                    raise StoreFailed("a disk that hiccups")
                return enqueue(jobs, size, done)

            monkeypatch.setattr(eu._committer, "enqueue", failing)
            await until(lambda: same(us, eu))
            assert failures == [0]
    for region in ("eu", "us"):
        check_store(world.directory / region)


async def test_messages_shrink_on_a_slow_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.gossip.SLOW_CALL_S", ANSWER_S / 2)
    async with world.node("us", "eu") as us, world.node("eu", "us"):
        [peer] = us.gossip.peers
        await until(lambda: peer.byte_limit == MESSAGE_BYTES_LEAST)
        assert peer.failures == 0


async def test_messages_shrink_on_a_link_that_fails_and_grow_again(world: World) -> None:
    async with world.node("us", "eu") as us, world.node("eu", "us"):
        [peer] = us.gossip.peers
        await until(lambda: peer.digest is not None)
        most = peer.byte_limit
        world.cut("us", "eu")
        await until(lambda: peer.failures >= 3)
        least = peer.byte_limit
        assert MESSAGE_BYTES_LEAST <= least < most
        world.heal()
        await until(lambda: peer.byte_limit == most)


async def test_a_peer_that_pulls_full_messages_is_not_pushed_the_same_but_for_a_while(world: World) -> None:
    def pushes() -> int:
        return world.network.calls.count(("http://us", "http://eu", "Events"))

    async with world.node("eu") as eu, world.node("us", "eu", gossip_interval_ms=2_000) as us:
        [peer] = us.gossip.peers
        assert peer.origin == eu.replica.origin
        us.gossip._is_pulling(eu.replica.origin, True)  # and then, as if it had died, no more for an interval
        await write(us, "s", set={"n": 1})
        await trio.sleep(0.2)
        assert pushes() == 0
        await until(lambda: same(us, eu))
        assert pushes() == 1
        us.gossip._is_pulling(eu.replica.origin, True)
        await write(us, "s", set={"n": 2})
        us.gossip._is_pulling(eu.replica.origin, False)
        await until(lambda: same(us, eu))
        assert pushes() == 2
