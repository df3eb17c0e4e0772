"""When a commit begins: once nobody adds to it."""

from functools import partial
from typing import Any

import pytest
import trio

from node import disk
from replication.command import Command, Draft
from replication.store import Store
from tests.gossiping import World, write
from tests.helpers import operations


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each commit. No time passes for the writer: it counts rounds."""
    monkeypatch.setattr(disk, "QUIET_S", 60.0)
    monkeypatch.setattr(disk, "GATHER_S", 60.0)
    made: list[int] = []
    commit = Store._commit

    def noted(store: Store, transaction: object) -> None:
        made.append(len(made))
        commit(store, transaction)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(Store, "_commit", noted)
    return made


async def test_who_writes_one_after_the_other_without_a_pause_shares_a_commit(
    world: World, commits: list[int]
) -> None:
    async with world.node("us") as us:

        async def after(rounds: int) -> None:
            for _ in range(rounds):
                await trio.lowlevel.checkpoint()
            await write(us, f"s/{rounds}", set={"n": rounds})

        before = len(commits)
        async with trio.open_nursery() as nursery:
            for rounds in range(10):
                nursery.start_soon(partial(after, rounds))
        assert len(commits) == before + 1


async def test_a_commit_begins_in_the_end_though_more_and_more_comes(
    world: World, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "GATHER_S", 0.01)
    command = Command((Draft("s/1", operations(set={"n": 1})),))
    told = 0

    def tell(_: object) -> None:
        nonlocal told
        told += 1

    async with world.node("us") as us:
        with trio.fail_after(10):
            while told < 10:
                us.enqueue([command], 0, tell)
                await trio.lowlevel.checkpoint()


async def test_others_have_a_turn_between_the_pieces_of_a_commit(
    world: World, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.committer.PIECE_TRANSACTIONS_MAX", 2)
    rounds, at, told, all_told = 0, list[int](), list[object](), trio.Event()

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await trio.lowlevel.checkpoint()

    def tell(outcomes: object) -> None:
        told.append(outcomes)
        if len(told) == 10:
            all_told.set()

    async with world.node("us") as us, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        take, before = us.replica.take, len(commits)

        def noted(*arguments: Any) -> Any:
            at.append(rounds)
            return take(*arguments)

        monkeypatch.setattr(us.replica, "take", noted)
        for number in range(10):
            us.enqueue([Command((Draft(f"s/{number}", operations(set={"n": 1})),))], 0, tell)
        with trio.fail_after(10):
            await all_told.wait()
        nursery.cancel_scope.cancel()
    assert len(at) == 5
    assert at[-1] - at[0] >= 3, "in rounds of their own, each before or after whoever counts"
    assert len(commits) == before + 1
