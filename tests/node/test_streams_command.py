"""`atoll streams split` and `join`: everything that is named moves, in one transaction, or nothing."""

from pathlib import Path
from typing import Any

import pytest

from node.commands import streams
from node.commands.streams import join, split
from node.errors import CommandFailed
from replication.limits import SET_INLINE_MAX
from tests.serving import Served, serving

USER, PART, OTHER = "users/4", "users/4/mail", "users/4/likes"


async def shown(served: Served, name: str) -> dict[str, Any]:
    registers: dict[str, Any] = (await served.read(f"/streams/{name}"))["registers"]
    return registers


async def test_sets_move_whole_however_large(workplace: Path) -> None:
    many = [f"{number:05}" for number in range(SET_INLINE_MAX + 5)]
    async with serving(workplace / "eu") as served:
        await served.write(USER, set={"name": "Lisa"}, add={"mail": ["a", "b"], "likes": many, "roles": ["chef"]})
        await split(USER, fields=["mail", "likes"], to=PART, node=served.url)
        assert (await served.read(f"/streams/{USER}"))["sets"] == {"roles": ["chef"]}
        moved = await served.read(f"/streams/{PART}")
        assert moved["sets"] == {"mail": ["a", "b"]}
        assert moved["large_sets"]["likes"]["count"] == len(many)
        await join(PART, into=USER, node=served.url)
        back = await served.read(f"/streams/{USER}")
        assert (back["registers"], back["sets"]) == ({"name": "Lisa"}, {"mail": ["a", "b"], "roles": ["chef"]})
        assert back["large_sets"]["likes"]["count"] == len(many)
        assert (await served.read(f"/streams/{PART}"))["sets"] == {}


async def test_both_ends_note_what_was_split_off_where(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        await served.write(USER, set={"a": 1, "b": 2, "c": 3})
        for field, to in (("a", PART), ("b", OTHER), ("c", PART)):
            await split(USER, fields=[field], to=to, node=served.url)
        assert await shown(served, USER) == {"moved_to": {PART: ["a", "c"], OTHER: ["b"]}}
        assert await shown(served, PART) == {"a": 1, "c": 3, "moved_from": USER}
        await join(PART, into=USER, node=served.url)
        assert await shown(served, USER) == {"a": 1, "c": 3, "moved_to": {OTHER: ["b"]}}
        await join(OTHER, into=USER, node=served.url)
        assert await shown(served, USER) == {"a": 1, "b": 2, "c": 3}
        assert await shown(served, PART) == {"moved_from": USER, "moved_to": {USER: ["*"]}}
        await split(USER, fields=["a"], to=PART, node=served.url)
        assert await shown(served, PART) == {"a": 1, "moved_from": USER}
        await served.write(USER, set={"a": 9})
        await split(USER, fields=["a"], to=PART, node=served.url)
        assert await shown(served, PART) == {"a": 9, "moved_from": USER}, "what was written in the old place since"


async def test_nothing_moves_where_something_was_written_meanwhile(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(workplace / "eu") as served:
        await served.write(USER, set={"a": 1, "b": 2})
        move = streams._move

        for meanwhile in (USER, PART):

            async def late(*arguments: Any, stream: str = meanwhile) -> None:
                await served.write(stream, set={"new": stream})
                await move(*arguments)

            monkeypatch.setattr(streams, "_move", late)
            with pytest.raises(CommandFailed, match=meanwhile):
                await split(USER, fields=["a"], to=PART, node=served.url)
        assert await shown(served, USER) == {"a": 1, "b": 2, "new": USER}
        assert await shown(served, PART) == {"new": PART}


async def test_what_cannot_be_moved_is_refused(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        first = await served.write(USER, set={"a": 1})
        await served.write(USER, set={"a": 2})
        await served.write(USER, {"causal-context": first["token"]}, set={"a": 3})
        await served.write("groups/1", set={"displayName": "Guides"}, add={"members": ["4"]})
        await served.write("claims/userName/1", add={"holders": [USER]})
        for refused, why in (
            (
                split(USER, fields=["a"], to=PART, node=served.url),
                f"{USER} has conflicts in a: write these fields first",
            ),
            (split("users/5", fields=["a"], to="users/5/mail", node=served.url), "users/5 has no field that a names"),
            (
                split("groups/1", fields=["*"], to="groups/1/part", node=served.url),
                "groups/1: a group's members and the holders of a claim stay where they are",
            ),
            (
                split("claims/userName/1", fields=["holders"], to="claims/userName/1/part", node=served.url),
                "claims/userName/1: a group's members and the holders of a claim stay where they are",
            ),
            (join("users/5/mail", into="users/5", node=served.url), "users/5/mail was not split off users/5"),
        ):
            with pytest.raises(CommandFailed) as failed:
                await refused
            assert str(failed.value) == why
        await served.write(USER, set={"a": 4})
        await served.write(PART, set={"moved_from": "users/5"})
        with pytest.raises(CommandFailed, match="was split off 'users/5'"):
            await split(USER, fields=["a"], to=PART, node=served.url)


async def test_no_other_value_is_overwritten(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        await served.write(USER, set={"a": 1, "b": 2})
        await served.write(PART, set={"a": 1})
        await split(USER, fields=["a"], to=PART, node=served.url)  # the same value is no other one
        assert await shown(served, PART) == {"a": 1, "moved_from": USER}
        await served.write(USER, set={"a": 7})
        with pytest.raises(CommandFailed, match=f"{USER} holds other values of a"):
            await join(PART, into=USER, node=served.url)
        await served.write(USER, set={"a": None})
        await join(PART, into=USER, node=served.url)
        await served.write(PART, set={"a": 9})  # after it was given back
        with pytest.raises(CommandFailed, match=f"{PART} holds other values of a"):
            await split(USER, fields=["a"], to=PART, node=served.url)
        assert (await shown(served, USER))["a"] == 1
        assert (await shown(served, PART))["a"] == 9
        with pytest.raises(CommandFailed, match="lies below it"):
            await split(USER, fields=["b"], to=f"{USER}4", node=served.url)


async def test_notes_of_two_regions_at_once_are_no_hindrance(workplace: Path) -> None:
    async with serving(workplace / "eu") as served:
        first = await served.write(USER, set={"a": 1, "b": 2})
        await split(USER, fields=["a"], to=PART, node=served.url)
        noted = (await shown(served, USER))["moved_to"]
        await served.write(USER, {"causal-context": first["token"]}, set={"moved_to": noted})
        assert "moved_to" in (await served.read(f"/streams/{USER}?conflicts=true"))["conflicts"]
        await split(USER, fields=["b"], to=PART, node=served.url)
        assert await shown(served, PART) == {"a": 1, "b": 2, "moved_from": USER}
