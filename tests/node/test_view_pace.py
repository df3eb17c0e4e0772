"""When views follow the log: at once where somebody waits for them, and after everything else where nobody does."""

from functools import partial

import pytest
import trio
import trio.testing

from crdt.version_vector import includes
from node import committer, service
from node.limits import VIEW_EVENTS_A_PIECE
from replication.command import Command, Draft
from replication.replica import Outcome
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


async def test_views_let_writes_gather_while_more_wait_and_not_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "VIEW_GATHER_S", 60.0)
    monkeypatch.setattr(committer, "BATCH_COMMANDS_MAX", 1)
    async with world.node("us") as us:

        def shown() -> bool:
            return includes(us.views.serving("users")[1].vector, us.replica.vector)

        for number in range(5):
            await trio.testing.wait_all_tasks_blocked()  # so that the write before is over for the views too
            await write(us, f"users/{number}", set={"userName": f"u{number}"})
            await until(shown)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(partial(write, us, f"users/{number}", set={"n": number}))
        await trio.sleep(0.1)
        assert not shown()
        with trio.fail_after(10):
            await us.views.wait_for("users", us.replica.vector, 60)


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
