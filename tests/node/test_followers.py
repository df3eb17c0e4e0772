"""Those who follow the log: told a few at a time, of everything, and shown what was made once."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from node.followers import Followers, Part
from node.interface.changes import Following
from tests.helpers import Node
from tests.serving import Served, counting_turns, serving


@pytest.fixture
def eu(workplace: Path) -> Node:
    return Node(workplace / "eu", "eu")


async def test_a_few_are_told_at_a_time(eu: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.followers.FOLLOWERS_AT_ONCE", 2)
    followers, asked, told, seen = Followers(eu.replica), list[int](), list[int](), list[int]()

    async def follow(number: int) -> None:
        asked.append(number)
        await followers.wait(0)
        told.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(followers.run)
        for number in range(7):
            nursery.start_soon(follow, number)
        await trio.testing.wait_all_tasks_blocked()
        followers.tell()
        while len(told) < 7:
            seen.append(len(told))
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    steps = [after - before for before, after in zip(seen, [*seen[1:], 7], strict=True)]
    assert max(steps) <= 4, "everybody else has a turn between; seen from one, two turns may follow each other"
    assert [asked.index(number) // 2 for number in told] == [0, 0, 1, 1, 2, 2, 3], (
        "whoever has waited longest comes first"
    )
    eu.replica.close()


async def test_nothing_is_missed_and_nobody_is_told_twice(eu: Node) -> None:
    followers = Followers(eu.replica)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followers.run)
        since = followers.round
        followers.tell()
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(1):
            await followers.wait(since)  # it was told of while this one was reading
        late, since = followers.round - 1, followers.round
        with trio.move_on_after(0.05) as up_to_date:
            nursery.start_soon(followers.wait, late)
            await followers.wait(since)
        assert up_to_date.cancelled_caught, "another one's news are none to who has read them"
        assert not followers._waiting, "who gave up is forgotten"
        nursery.cancel_scope.cancel()
    eu.replica.close()


def test_a_part_is_made_once_until_the_log_grows(eu: Node) -> None:
    followers, made = Followers(eu.replica), list[str]()

    def make(place: str, data: bytes) -> Callable[[], Part]:
        def part() -> Part:
            made.append(place)
            return Part(data, {}, more=False)

        return part

    for place in ("a", "b", "a", "b", "a"):
        assert followers.shared(place, make(place, place.encode())).data == place.encode()
    assert made == ["a", "b"]
    eu.write("s", set={"n": 1})
    followers.shared("a", make("a", b""))
    assert made == ["a", "b", "a"]
    for _ in range(2):
        followers.shared("large", make("large", bytes(70_000)))
    assert made[3:] == ["large", "large"], "what is large is not kept"
    for place in [*map(str, range(200)), "199"]:
        followers.shared(place, make(place, b""))
    assert made.count("199") == 2, "nor are more places than some"
    eu.replica.close()


async def test_those_who_are_far_behind_are_read_for_one_at_a_time(eu: Node) -> None:
    followers, made, seen = Followers(eu.replica), list[int](), list[int]()

    def make() -> Part:
        made.append(1)
        return Part(b"", {}, more=True)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(followers.in_turn, number, make)
        while len(made) < 8:
            seen.append(len(made))
            await trio.lowlevel.checkpoint()
    assert len(seen) >= 4, "two may follow each other, seen from another"
    eu.replica.close()


async def test_many_followers_see_everything_and_it_is_read_once(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, writes, reads = 60, 40, list[int]()
    part = Following.part

    def counted(following: Following, *arguments: object) -> Part:
        reads.append(1)
        return part(following, *arguments)  # type: ignore[arg-type]  # as they come

    monkeypatch.setattr(Following, "part", counted)
    heard: dict[int, list[int]] = {}
    async with serving(workplace) as served:
        port = httpx.URL(served.url).port
        assert port is not None

        async def follow(number: int, task_status: trio.TaskStatus[None]) -> None:
            where = b"/changes?after=now" + (b"&prefix=s/" if number % 3 else b"")
            stream, said = await trio.open_tcp_stream("127.0.0.1", port), b""
            async with stream:
                await stream.send_all(b"GET %b HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n" % where)
                while len(found := re.findall(rb'"set":{"n":(\d+)}', said)) < writes:
                    said += await stream.receive_some()
                    if b"caught_up" in said and number not in heard:
                        heard[number] = []
                        task_status.started()
            heard[number] = [int(n) for n in found]

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for number in range(count):
                    await nursery.start(follow, number)
                for n in range(writes):
                    await served.write(f"s/{n}", set={"n": n})
    assert [heard[number] for number in range(count)] == [list(range(writes))] * count
    assert len(reads) < count * writes / 4


async def test_others_run_while_a_follower_looks_for_what_is_rare(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.interface.changes.SCAN_ROWS_MAX", 2)
    async with serving(workplace) as served, counting_turns() as turns:
        for n in range(200):
            await served.write(f"s/{n}", set={"n": n})
        before = turns()
        stream = await follow_to_the_end(served, b"/changes?prefix=t/")
        assert turns() - before >= 50, "one for each page, of two rows"
        await stream.aclose()


async def test_a_node_that_stops_ends_what_it_sends_followers(workplace: Path) -> None:
    async with serving(workplace) as served:
        stream = await follow_to_the_end(served, b"/changes")
        said = b""
        served.node.stop()
        with trio.fail_after(5):
            while not said.endswith(b"0\r\n\r\n"):
                said += await stream.receive_some()
        await stream.aclose()


async def follow_to_the_end(served: Served, path: bytes) -> trio.SocketStream:
    """A connection that follows the log, and has been sent what there was."""
    stream, said = await trio.open_tcp_stream("127.0.0.1", httpx.URL(served.url).port or 0), b""
    await stream.send_all(b"GET %b HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n" % path)
    with trio.fail_after(5):
        while b"caught-up" not in said:
            said += await stream.receive_some()
    return stream
