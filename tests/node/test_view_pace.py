"""When views follow the log: at once where somebody waits for them, else while only the disk is waited for."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from node import committer, gossip, service
from node.limits import VIEW_BULK_EVENTS, VIEW_EVENTS_A_PIECE
from node.service import Node
from replication import messages
from replication.command import Command, Draft
from replication.exchange import claims, lacking
from replication.messages import Digest, Events
from replication.replica import Outcome
from tests.disk_by_hand import DiskByHand
from tests.gossiping import World, same, until, write
from tests.helpers import operations

MANY = [Command((Draft(f"users/{number}", operations(set={"n": number})),)) for number in range(2_000)]


async def test_views_stand_back_while_a_peer_is_asked_for_more_of_what_comes_in_bulk_until_somebody_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "VIEW_PAUSE_S", 60.0)
    monkeypatch.setattr(service, "VIEW_BULK_S", 60.0)
    monkeypatch.setattr(gossip, "INTRODUCTION_S", 0.01)
    world.network.hanging.add("http://us")
    async with world.node("eu", "us") as eu:
        await until(lambda: eu.gossip.is_taking_in)
        await eu.submit(MANY)
        await trio.sleep(0.5)
        assert followed(eu) < len(MANY)
        with trio.fail_after(20):
            await eu.views.wait_for("users", eu.replica.vector, 60)
        assert followed(eu) == len(MANY)


async def test_events_that_a_peer_sent_are_being_taken_in_until_they_are_stored(world: World) -> None:
    async with world.node("us") as us, world.node("eu") as eu:
        await us.submit(MANY)
        digest = Digest(claims(us.replica.mirror.heads), world.clock.now_ms())
        with us.replica.read() as snapshot:
            events = Events(digest, lacking(snapshot, Digest({}, world.clock.now_ms())))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(eu.gossip.answer, messages.encode(events, "atoll", us.replica.origin))
            taking_in = [eu._is_taking_in]
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            taking_in.append(eu._is_taking_in)
            assert not eu.replica.vector
        taking_in.append(eu._is_taking_in)
        assert taking_in == [False, True, False]
        assert same(us, eu)


async def test_views_that_show_everything_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.node("us") as us:
        await until(lambda: all(build.serving for _, build in us.views.builds()))
        await write(us, "users/1", set={"n": 1})
        await until(lambda: followed(us) == 1)
        steps, step = 0, us.views.step

        def counted() -> bool:
            nonlocal steps
            steps += 1
            return step()

        monkeypatch.setattr(us.views, "step", counted)
        with trio.fail_after(10):
            while True:
                steps = 0
                await trio.sleep(0.3)
                if not steps:
                    break


@pytest.fixture
async def by_hand(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Node, DiskByHand]]:
    """A node that commits when it is told to, and whose views wait for a good moment as long as it takes."""
    disk = DiskByHand()
    async with world.node("us", disk=disk) as us:
        await until(lambda: all(build.serving for _, build in us.views.builds()))
        await trio.sleep(0.1)
        monkeypatch.setattr(service, "VIEW_GATHER_S", 60.0)
        yield us, disk


def commit(node: Node, disk: DiskByHand, first: int, events: int = 1) -> None:
    node.enqueue(
        [Command((Draft(f"users/{first + n}", operations(set={"n": n})),)) for n in range(events)], 0, lambda _: None
    )
    disk.begin()


def followed(node: Node) -> int:
    return node.views.serving("users")[1].position


async def test_views_follow_while_the_disk_is_waited_for(by_hand: tuple[Node, DiskByHand]) -> None:
    us, disk = by_hand
    for number in range(3):
        commit(us, disk, number)
        await trio.testing.wait_all_tasks_blocked()
        assert followed(us) == number
        disk.end()
        await trio.testing.wait_all_tasks_blocked()
        assert followed(us) == number
    with trio.fail_after(10):
        await us.views.wait_for("users", us.replica.vector, 60)
    assert followed(us) == 3


async def test_views_leave_the_disk_s_moments_to_what_comes_in_bulk(
    by_hand: tuple[Node, DiskByHand], monkeypatch: pytest.MonkeyPatch
) -> None:
    us, disk = by_hand
    monkeypatch.setattr(service, "VIEW_PAUSE_S", 60.0)
    monkeypatch.setattr(service, "VIEW_BULK_S", 60.0)
    commit(us, disk, 0, VIEW_BULK_EVENTS)
    for _ in range(3):
        disk.end()
        commit(us, disk, 0, VIEW_BULK_EVENTS)
        await trio.testing.wait_all_tasks_blocked()
        assert followed(us) == 0
    with trio.fail_after(10):
        await us.views.wait_for("users", us.replica.vector, 60)
    assert followed(us) == 3 * VIEW_BULK_EVENTS
    disk.end()


async def test_views_follow_what_comes_in_bulk_where_nothing_more_waits(
    by_hand: tuple[Node, DiskByHand], monkeypatch: pytest.MonkeyPatch
) -> None:
    us, disk = by_hand
    monkeypatch.setattr(service, "VIEW_PAUSE_S", 60.0)
    monkeypatch.setattr(service, "VIEW_BULK_S", 60.0)
    monkeypatch.setattr(service, "VIEW_GATHER_S", 0.005)
    for rounds in range(1, 4):
        commit(us, disk, 0, VIEW_BULK_EVENTS)
        disk.end()
        await until(lambda: followed(us) == rounds * VIEW_BULK_EVENTS)  # noqa: B023  # awaited in its round


async def test_views_wait_no_longer_for_the_disk_where_they_are_far_behind(by_hand: tuple[Node, DiskByHand]) -> None:
    us, disk = by_hand
    for number in range(9):
        commit(us, disk, number * VIEW_EVENTS_A_PIECE, VIEW_EVENTS_A_PIECE)
        disk.end()
    await trio.testing.wait_all_tasks_blocked()
    assert followed(us) == 2 * VIEW_EVENTS_A_PIECE
    commit(us, disk, 0)
    await trio.testing.wait_all_tasks_blocked()
    assert 8 * VIEW_EVENTS_A_PIECE < followed(us) <= 9 * VIEW_EVENTS_A_PIECE


async def test_a_write_that_stands_alone_shows_soon(world: World) -> None:
    async with world.node("us") as us:
        await until(lambda: all(build.serving for _, build in us.views.builds()))
        await write(us, "users/1", set={"userName": "u"})
        await until(lambda: followed(us) == 1)


async def test_views_do_not_let_more_gather_than_they_follow_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "VIEW_GATHER_S", 60.0)
    monkeypatch.setattr(committer, "BATCH_TRANSACTIONS_MAX", 1)
    many = [
        Command((Draft(f"users/{number}", operations(set={"n": 1})),)) for number in range(3 * VIEW_EVENTS_A_PIECE)
    ]
    told: list[list[Outcome]] = []
    async with world.node("us") as us:
        us.enqueue(many, 0, told.append)
        for command in many[:20]:
            us.enqueue([command], 0, told.append)
        await until(lambda: len(told) == 21)
        assert us.views.serving("users")[1].position > 2 * VIEW_EVENTS_A_PIECE
