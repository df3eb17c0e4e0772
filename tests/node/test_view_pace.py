"""When views follow the log: at once where somebody waits for them, else while only the disk is waited for."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from crdt.version_vector import includes
from node import committer, service
from node.limits import VIEW_BULK_EVENTS, VIEW_EVENTS_A_PIECE
from node.service import Node
from replication.command import Command, Draft
from replication.replica import Outcome
from tests.disk_by_hand import DiskByHand
from tests.gossiping import World, same, until, write
from tests.helpers import operations


async def test_views_stand_back_while_events_come_in_bulk_until_somebody_waits_for_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "VIEW_PAUSE_S", 60.0)
    async with world.node("us") as us:
        many = [Command((Draft(f"users/{number}", operations(set={"n": number})),)) for number in range(2_000)]
        async with world.node("eu", "us") as eu:
            await us.submit(many)
            await until(lambda: same(us, eu))
            await trio.sleep(0.5)
            for node in (us, eu):
                assert not includes(node.views.serving("users")[1].vector, us.replica.vector)
                with trio.fail_after(20):
                    await node.views.wait_for("users", us.replica.vector, 60)
                assert includes(node.views.serving("users")[1].vector, us.replica.vector)


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
    for _ in range(3):
        commit(us, disk, 0, VIEW_BULK_EVENTS)
        await trio.testing.wait_all_tasks_blocked()
        disk.end()
        await trio.testing.wait_all_tasks_blocked()
        assert followed(us) == 0
    with trio.fail_after(10):
        await us.views.wait_for("users", us.replica.vector, 60)
    assert followed(us) == 3 * VIEW_BULK_EVENTS


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
    monkeypatch.setattr(committer, "BATCH_COMMANDS_MAX", 1)
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
