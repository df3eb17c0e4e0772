"""Views: they follow the log, are built beside the old, survive being killed, and show what streams resolve to."""

import itertools
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from crdt.operations import JSON
from crdt.version_vector import includes
from node.directory.builtin_views import BUILTIN
from node.views.check import differences
from node.views.folding import fold
from node.views.index import DIRECTORY, FILE, Index
from node.views.query import BEGINNING, page
from node.views.view import Row, State, View, ViewsRefused, check_together
from node.views.views import ViewBuilding, ViewBusy, Views
from replication.command import Command, Draft
from replication.errors import StoreRefused
from replication.limits import PURGE_ROWS_MAX, SET_INLINE_MAX
from replication.queries import live_members
from tests.helpers import Node, later_event, operations

ROOT = Path(__file__).resolve().parents[2]


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_what_a_person_would_call_the_same_folds_alike() -> None:
    assert fold("Müller") == fold("MU\u0308LLER")
    assert fold("Straße") == fold("STRASSE")
    assert fold("ﬁ") == fold("FI")
    assert fold("é") != fold("e")


# --- definitions


def nothing(state: State) -> list[Row]:
    return []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": "Bad Name"}, "a name is of"),
        ({"version": 0}, "count from 1"),
        ({"streams": "users"}, "ends with"),
        ({"rows": None}, "either rows or members"),
        ({"members": "m"}, "either rows or members"),
        ({"rows": None, "members": "m", "searched": True}, "found whole"),
        ({"columns": ("no column",)}, "not a column's name"),
    ],
)
def test_definitions_that_cannot_be_used_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ViewsRefused, match=why):
        View(**{"name": "v", "version": 1, "streams": "users/", "rows": nothing, **options})


def test_a_column_is_of_one_prefix_s_streams() -> None:
    users = View(name="a", version=1, streams="users/", rows=nothing, columns=("email", "n"))
    accounts = View(name="b", version=1, streams="accounts/", rows=nothing, columns=("email",))
    with pytest.raises(
        ViewsRefused, match="'a' and 'b' both fill column 'email', from 'users/' and from 'accounts/'"
    ):
        check_together([users, accounts])
    with pytest.raises(ViewsRefused, match="twice in version 1"):
        check_together([users, users])
    check_together([users, View(name="a", version=2, streams="users/", rows=nothing, columns=("email",))])
    check_together(BUILTIN)


def titles(state: State) -> Iterator[Row]:
    if state.text("title"):
        yield Row(state.text("title"), {"title": state.text("title").upper()})


def words(state: State) -> list[Row]:
    return [Row(word) for word in state.text("title").split()]


def broken(how: Callable[[], Any]) -> Callable[[State], Iterator[Row]]:
    """A function that fails on one stream."""

    def rows(state: State) -> Iterator[Row]:
        yield Row("x") if state.name != "bad" else how()

    return rows


TITLES = View(name="titles", version=1, streams="users/", rows=titles, columns=("title",))
EVERYBODY = View(name="everybody", version=1, streams="groups/", members="members", folded=False)
SEARCHED = View(name="searched", version=1, streams="users/", rows=titles, columns=("title",), searched=True)
ADMINS = View(name="admins", version=1, streams="groups/", members="admins", folded=False)
WORDS = View(name="words", version=1, streams="users/", rows=words)
ALL = (TITLES, EVERYBODY, ADMINS, SEARCHED, WORDS)


class Following:
    """A replica with views that a test moves by hand, and can kill."""

    def __init__(self, node: Node, views: tuple[View, ...] = ALL) -> None:
        self.node = node
        self.definitions = views
        self.views = self._open()

    def _open(self) -> Views:
        return Views(self.node.replica, Index(self.node.directory), lambda: self.definitions)

    def finish(self) -> None:
        while self.views.step():
            pass

    def restart(self) -> None:
        """As after a kill: what was not committed is gone."""
        self.views._index.close()
        self.views = self._open()

    def check(self) -> None:
        """Every build shows everything, and is as a fresh one would be."""
        self.finish()
        with self.node.replica.read() as snapshot:
            for view, build in self.views.builds():
                assert view is not None
                assert build.scanning is None
                assert build.vector == snapshot.vector
                assert differences(self.views._index, build, view, snapshot) == []

    def serving(self, name: str) -> int:
        return self.views.serving(name)[1].number


@pytest.fixture
def following(node: Callable[..., Node]) -> Iterator[Callable[..., Following]]:
    made: list[Following] = []

    def make(**options: Any) -> Following:
        made.append(Following(node("eu"), **options))
        return made[-1]

    yield make
    for one in made:
        one.check()
        one.views.close()


STREAMS = ("users/1", "users/2", "users/2/part", "groups/1", "groups/2")


def write_something(node: Node, draw: random.Random) -> None:
    """One event, of any kind."""
    stream, kind = draw.choice(STREAMS), draw.randrange(6)
    if kind == 0:
        node.write(stream, delete=True)
    elif kind == 1:
        node.write(stream, set={"moved_from": draw.choice(("users/2", "users/1", None))})
    elif kind == 2:
        moved: JSON = {"users/2/part": ["t*"]} if draw.randrange(2) else None
        node.write("users/2", set={"moved_to": moved})
    elif kind == 3:
        node.write(stream, remove={draw.choice(("members", "admins")): [f"m{draw.randrange(6)}"]})
    elif kind == 4:
        node.write(stream, add={draw.choice(("members", "admins")): [f"m{draw.randrange(6)}"]})
    else:
        node.write(stream, set={"title": draw.choice(("Guide", "guide", "Pilot", "Tour guide", None))})


class Killed(BaseException):
    """The process ends here."""


@given(seed=st.integers(min_value=0, max_value=1 << 30))
def test_killed_anywhere_views_end_as_a_fresh_build(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    draw = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("node.views.projection.VIEW_EVENTS_A_PIECE", draw.choice((1, 3, 64)))
        patch.setattr("node.views.projection.VIEW_STREAMS_A_PIECE", draw.choice((1, 2, 64)))
        patch.setattr("node.views.projection.VIEW_MEMBERS_A_PIECE", draw.choice((1, 2, 2_000)))
        node = Node(tmp_path_factory.mktemp("views") / "eu", "eu", seed=seed)
        following = Following(node)
        put = Index.put
        fuse = [draw.randrange(1, 12)]

        def dies(*arguments: Any, **options: Any) -> None:
            put(*arguments, **options)
            fuse[0] -= 1
            if not fuse[0]:
                raise Killed

        patch.setattr(Index, "put", dies)
        for _ in range(40):
            action = draw.randrange(10)
            try:
                if action < 5:
                    write_something(node, draw)
                elif action < 7:
                    following.views.step()
                elif action == 7:
                    following.restart()
                elif action == 8:
                    following.views.rebuild(draw.choice(ALL).name)
                else:
                    view, build = draw.choice(list(following.views.builds()))
                    assert view is not None
                    draw.choice((following.views.switch, following.views.drop))(build.view, build.number)
            except ViewBusy:
                continue
            except Killed:
                fuse[0] = draw.randrange(1, 12)
                following.restart()
        patch.setattr(Index, "put", put)
        following.check()
        following.views.close()
        node.close()


@pytest.mark.parametrize("nth", range(1, 4))
def test_a_piece_that_fails_is_done_again(
    following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    one.finish()
    one.node.write("users/1", set={"title": "Pilot"})
    one.views.step()  # not committed yet
    one.node.write("users/2", set={"title": "Guide"})
    one.node.write("groups/1", add={"members": ["m1"], "admins": ["m2"]})
    put, calls = Index.put, itertools.count(1)

    def fails(*arguments: Any) -> None:
        put(*arguments)
        if next(calls) == nth:
            raise OSError("no more memory")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "put", fails)
        with pytest.raises(OSError, match="no more memory"):
            one.finish()
    one.check()


def test_a_part_that_is_given_to_another_stream_shows_no_more_where_it_was(
    following: Callable[..., Following],
) -> None:
    one = following()
    one.node.write("users/2", set={"moved_to": {"users/2/part": ["t*"]}})
    one.node.write("users/2/part", set={"title": "Guide", "moved_from": "users/2"})
    one.finish()
    with one.views.reading("titles") as (_, build, index):
        assert index.streams_at(build, "guide", 9) == ["users/2", "users/2/part"]
        one.node.write("users/2/part", set={"moved_from": "users/1"})
        one.finish()
        assert index.streams_at(build, "guide", 9) == ["users/2/part"]


@pytest.mark.parametrize("stream", ["users/1", "users/1/part", "groups/1"])
def test_a_stream_that_a_later_version_wrote_to_shows_nowhere(
    following: Callable[..., Following], stream: str
) -> None:
    one = following()
    one.node.write("users/1", set={"moved_to": {"users/1/part": ["t*"]}})
    one.node.write("users/1/part", set={"title": "Guide", "moved_from": "users/1"})
    one.node.write("groups/1", add={"members": ["m"]})
    one.finish()

    def found() -> set[str]:
        """What is found, whatever the index may still hold."""
        with one.node.replica.read() as snapshot:
            hits = [hit for name, key in (("titles", "guide"), ("everybody", "m"))
                    for hit in page(one.views, snapshot, name, key, key, BEGINNING, 9)[0]]  # fmt: skip
        return {hit.stream for hit in hits}

    assert found() == {"users/1", "users/1/part", "groups/1"}
    one.node.apply([(later_event(stream),)])
    gone = {"users/1", "users/1/part"} if stream == "users/1/part" else {stream}
    for _ in range(2):
        assert found() == {"users/1", "users/1/part", "groups/1"} - gone
        one.check()
        for view in ("titles", "everybody"):
            one.views.rebuild(view)


def test_of_a_stream_s_rows_those_that_stay_are_left_alone(following: Callable[..., Following]) -> None:
    one = following(views=(WORDS,))
    for title in ("tour guide", "guide of tours", "guide", "pilot guide"):
        one.node.write("users/1", set={"title": title})
        one.check()


def test_a_rebuild_is_beside_the_old_and_can_be_rolled_back(following: Callable[..., Following]) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    one.finish()
    old = one.serving("titles")
    one.node.write("users/2", set={"title": "Pilot"})
    new = one.views.rebuild("titles").number
    with pytest.raises(ViewBusy, match="is being built already"):
        one.views.rebuild("titles")
    with pytest.raises(ViewBusy, match="has not caught up"):
        one.views.switch("titles", new)
    assert one.serving("titles") == old
    one.finish()
    assert one.serving("titles") == old, "an operator switches"
    one.views.switch("titles", new)
    assert one.serving("titles") == new
    with pytest.raises(ViewBusy, match="serves; switch to another one first"):
        one.views.drop("titles", new)
    one.node.write("users/3", set={"title": "Late"})
    one.finish()
    one.views.switch("titles", old)
    assert one.serving("titles") == old
    one.check()
    one.views.drop("titles", new)
    one.restart()
    assert [build.number for _, build in one.views.builds() if build.view == "titles"] == [old]


def test_of_a_build_that_is_dropped_nothing_is_left(following: Callable[..., Following]) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    one.finish()

    def tables() -> set[str]:
        return {name for (name,) in one.views._index._connection.ask("SELECT name FROM sqlite_master")}

    before = tables()
    for view in ALL:
        build = one.views.rebuild(view.name)
        one.finish()
        assert tables() > before
        one.views.drop(view.name, build.number)
        assert tables() == before


def test_a_build_that_shows_less_than_what_serves_does_not_take_over(following: Callable[..., Following]) -> None:
    one = following(views=(TITLES,))
    [(_, first)] = one.views.builds()
    with pytest.raises(ViewBusy, match="nothing serves"):
        one.views.drop("titles", first.number)
    one.finish()
    new = one.views.rebuild("titles")
    one.node.write("users/1", set={"title": "Guide"})
    one.views.step()
    assert new.scanning is None
    assert not includes(new.vector, one.node.replica.vector)
    with pytest.raises(ViewBusy, match="has not caught up"):
        one.views.switch("titles", new.number)
    one.finish()
    one.views.switch("titles", new.number)


def test_views_are_behind_until_they_are_scanned_and_serve(following: Callable[..., Following]) -> None:
    one = following(views=(TITLES,))
    one.node.write("users/1", set={"title": "Guide"})
    [(_, first)] = one.views.builds()
    states = []
    while one.views.are_behind(1_000):
        states.append((first.scanning is None, first.serving))
        one.views.step()
    assert states[0] == (False, False)
    assert states[-1] == (True, False)
    assert first.serving


async def test_who_waits_for_a_view_has_it_go_ahead(following: Callable[..., Following]) -> None:
    one = following(views=(TITLES,))
    one.finish()
    wanted = one.node.write("users/1", set={"title": "Guide"}).events[0].dot
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.views.wait_for, "titles", {wanted.origin: wanted.seq}, 5.0)
            await trio.testing.wait_all_tasks_blocked()
            assert await one.views.stand_back(60.0)
            one.finish()


def test_a_new_version_is_built_beside_the_old_one_s_and_takes_over_where_the_old_is_gone(
    following: Callable[..., Following],
) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    one.finish()
    two = View(name="titles", version=2, streams="users/", rows=titles, columns=("title",))
    one.definitions = (*ALL, two)
    assert one.views.rebuild("titles").version == 2
    one.finish()
    assert one.views.serving("titles")[1].version == 1
    one.definitions = (two, *ALL[1:])
    one.restart()
    one.finish()
    assert one.views.serving("titles")[1].version == 2, "nobody can follow with the old one any more"
    [old] = [build.number for _, build in one.views.builds() if build.view == "titles" and not build.serving]
    with pytest.raises(ViewBusy, match="version 1 of view 'titles' is not loaded"):
        one.views.switch("titles", old)
    one.views.drop("titles", old)


SPOILT = {
    "no text": (b"CREATE TABLE entry_1 ", b"CREATE \xf2ABLE entry_1 "),
    "an option": (b"'trigram ", b"'trigrim "),
}


@pytest.mark.parametrize(
    "damage", ["gone", "nonsense", "torn", "another format", "a build's state", "a column", *SPOILT]
)
def test_what_is_lost_or_damaged_is_built_anew_from_the_log(following: Callable[..., Following], damage: str) -> None:
    one = following()
    for number in range(200):
        one.node.write(f"users/{number}", set={"title": f"title {number}"})
    one.finish()
    one.views.close()
    file = one.node.directory / DIRECTORY / FILE
    if damage == "gone":
        shutil.rmtree(file.parent)
    elif damage == "nonsense":
        file.write_bytes(b"nonsense" * 1000)
    elif damage in SPOILT:
        data = file.read_bytes()
        assert SPOILT[damage][0] in data
        file.write_bytes(data.replace(*SPOILT[damage]))
    elif damage == "torn":
        torn = bytearray(file.read_bytes())
        torn[8192:16384] = bytes(8192)
        file.write_bytes(torn)
    else:
        change = {
            "another format": "PRAGMA user_version = 77",
            "a build's state": "UPDATE build SET state = '{'",
            "a column": "ALTER TABLE leading RENAME COLUMN keys TO kexs",
        }[damage]
        with sqlite3.connect(file) as connection:
            connection.execute(change)
        connection.close()
    spoilt = damage in ("nonsense", "torn", "a build's state", "no text")
    assert [spoilt, "the views' index cannot be read" in verified(one.node.directory)[1]] == [spoilt, spoilt]
    one.views = one._open()
    one.node.write("users/0", set={"title": "Guide"})  # what no view reads, nobody misses
    one.check()
    assert one.serving("titles")


def test_an_index_that_cannot_be_opened_is_not_thrown_away(following: Callable[..., Following]) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    one.finish()
    old = one.serving("titles")
    one.views.close()
    with pytest.MonkeyPatch.context() as patched:

        def connect(*_: object, **__: object) -> sqlite3.Connection:
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise full

        patched.setattr(sqlite3, "connect", connect)
        with pytest.raises(StoreRefused, match="views cannot be used: database or disk is full"):
            one._open()
    one.views = one._open()
    assert one.serving("titles") == old
    one.views.close()
    (one.node.directory / DIRECTORY).rename(one.node.directory / "aside")
    (one.node.directory / DIRECTORY).touch()
    with pytest.raises(StoreRefused, match=r"views cannot be used.*File exists"):
        one._open()
    (one.node.directory / DIRECTORY).unlink()
    one.views = one._open()


@pytest.mark.parametrize("damage", ["c1", "810191a1ff"], ids=["no keys", "no text"])
def test_a_row_that_is_damaged_under_a_running_node_has_all_built_anew(
    following: Callable[..., Following], damage: str
) -> None:
    one = following(views=BUILTIN)
    one.node.write("users/1", set={"userName": "anna"})
    one.finish()
    one.views._index.begin()
    one.views._index._connection.execute(f"UPDATE leading SET keys = x'{damage}'")
    one.views._index.commit()
    status, said = verified(one.node.directory)
    assert (status, "the views' index cannot be read: what leads to a stream is damaged" in said) == (1, True), said
    one.node.write("users/1", set={"userName": "berta"})
    one.check()


def test_who_asks_while_damage_is_found_is_told_to_ask_again(following: Callable[..., Following]) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    one.finish()
    build = one.views.serving("titles")[1]
    one.views._index._connection.execute(f"DROP TABLE entry_{build.number}")
    with pytest.raises(ViewBuilding, match="ask again soon"), one.views.reading("titles") as (_, build, index):
        index.entries(build)
    one.check()
    build = one.views.serving("titles")[1]
    one.views._index._connection.execute(f"DROP TABLE entry_{build.number}")
    with pytest.raises(ViewBuilding, match="ask again soon"):
        one.views.count(build)
    one.check()
    assert one.views.count(one.views.serving("titles")[1]) == 1
    with one.views.reading("titles") as (_, build, index):
        assert len(index.entries(build)) == 1


def test_a_piece_ends_where_a_transaction_does(
    following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.views.projection.VIEW_EVENTS_A_PIECE", 2)
    one = following()
    one.finish()
    one.node.run(Command(tuple(Draft(f"users/{n}", operations(set={"title": "Guide"})) for n in range(5))))
    one.node.write("users/5", set={"title": "Pilot"})
    seen = set()
    while one.views.step():
        seen.add(one.views.serving("titles")[1].position)
    assert seen == {5, 6}


def test_views_that_cannot_be_kept_go_back_once_and_not_again_and_again(
    following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    one.finish()
    one.node.write("users/2", set={"title": "Pilot"})

    def full() -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(one.views._index, "commit", full)
        with pytest.raises(sqlite3.OperationalError):
            one.finish()
        for _ in range(3):
            assert one.views.serving("titles")[1].position == 1
            with pytest.raises(sqlite3.OperationalError):
                one.views.step()
    one.finish()
    assert one.views.serving("titles")[1].position == 2


def test_a_directory_that_is_removed_under_a_running_node_is_built_anew(following: Callable[..., Following]) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    one.finish()
    shutil.rmtree(one.node.directory / DIRECTORY)
    for number in range(2, 300):
        one.node.write(f"users/{number}", set={"title": f"title {number}"})
        one.finish()
    one.restart()
    one.check()


def test_a_store_that_was_rolled_back_takes_its_views_along(following: Callable[..., Following]) -> None:
    one = following()
    one.node.write("users/1", set={"title": "Guide"})
    copy = one.node.directory / "copy"
    one.node.replica.close()
    shutil.copyfile(one.node.directory / "data.mdb", copy)
    one.node.replica = one.node.reopen()
    one.views.close()
    one.views = one._open()
    one.node.write("users/2", set={"title": "Pilot"})
    one.finish()
    one.views.close()
    one.node.replica.close()
    shutil.copyfile(copy, one.node.directory / "data.mdb")
    one.node.replica = one.node.reopen()
    one.views = one._open()
    one.check()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: "x", "no Row"),
        (lambda: Row(7), "no Row"),  # type: ignore[arg-type]  # what an operator may write
        (lambda: Row("x", {"n": 1}), "the columns ['n']"),
    ],
)
def test_a_view_that_fails_on_a_stream_goes_on_with_the_others(
    following: Callable[..., Following], caplog: pytest.LogCaptureFixture, how: Callable[[], Any], why: str
) -> None:
    one = following(views=(View(name="broken", version=1, streams="users/", rows=broken(how)),))
    one.node.write("users/good", set={"n": 1})
    one.node.write("users/bad", set={"n": 1})
    one.finish()
    one.node.write("users/bad", set={"n": 2})
    one.finish()
    [(_, build)] = one.views.builds()
    assert build.failures == 3, "in the scan, and for each of its two events"
    assert "view 'broken' version 1 failed on 'users/bad': " in caplog.text
    assert why in caplog.text


def test_failures_are_logged_so_often_and_counted_always(
    following: Callable[..., Following], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.views.projection.VIEW_FAILURES_LOGGED", 2)
    one = following(views=(View(name="broken", version=1, streams="users/", rows=broken(lambda: 1 / 0)),))
    for number in range(5):
        one.node.write("users/bad", set={"n": number})
        one.finish()
    [(_, build)] = one.views.builds()
    assert build.failures == 6, "in the scan, and for each of its events"
    assert caplog.text.count("failed on") == 2


def test_a_set_larger_than_a_piece_is_scanned_in_pieces(
    following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.views.projection.VIEW_MEMBERS_A_PIECE", 100)
    one = following()
    one.finish()
    one.node.write("groups/big", add={"members": [f"m{number}" for number in range(SET_INLINE_MAX + 500)]})
    one.node.write("groups/small", add={"members": ["m1"]})
    one.finish()
    build = one.views.rebuild("everybody")
    pieces = 0
    while one.views.step():
        pieces += 1
        one.node.write("groups/big", remove={"members": [f"m{pieces}"]}) if pieces < 10 else None
    assert pieces > 15
    assert build.streams == 2


def test_sets_that_are_large_together_are_scanned_in_pieces(
    following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.views.projection.VIEW_MEMBERS_A_PIECE", 10)
    one = following()
    for number in range(8):
        one.node.write(f"groups/{number}", add={"members": list("abcde")})
    one.finish()
    build, pieces = one.views.rebuild("everybody"), 0
    while build.scanning is not None:
        one.views.step()
        pieces += 1
    assert pieces >= 4


def test_a_scan_goes_on_where_the_set_that_it_stood_in_is_gone(
    following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.views.projection.VIEW_MEMBERS_A_PIECE", 10)
    one = following()
    one.node.write("groups/1", add={"members": [f"m{number}" for number in range(30)]})
    one.node.write("groups/2", add={"members": ["m"]})
    one.node.write("users/1", set={"title": "Guide"})
    one.views.step()
    assert {build.scanning and build.scanning[0] for _, build in one.views.builds()} == {"groups/1"}
    one.node.write("groups/1", delete=True)
    one.check()


def test_what_a_delete_left_to_be_purged_is_no_member(following: Callable[..., Following]) -> None:
    one = following()
    for _ in range(2):
        one.node.write("groups/1", add={"members": [f"m{number}" for number in range(3 * PURGE_ROWS_MAX)]})
        one.node.write("groups/1", delete=True)
    one.node.write("groups/1", add={"members": ["m7"]})
    with one.node.replica.read() as snapshot:
        row = snapshot.stream("groups/1")
        assert row is not None
        assert not all(live for _, live in live_members(snapshot, row, "members")), "else this tests nothing"
    one.check()


def verified(directory: Path) -> tuple[int, str]:
    """What `atoll verify` says of a store that a process has open: this one."""
    done = subprocess.run(
        [sys.executable, "-m", "node", "verify", directory], capture_output=True, text=True, cwd=ROOT
    )
    return done.returncode, done.stdout


def test_verify_looks_at_views_too(following: Callable[..., Following]) -> None:
    one = following(views=BUILTIN)
    one.node.write("users/1", set={"userName": "anna"})
    one.finish()
    status, said = verified(one.node.directory)
    assert (status, f"{len(BUILTIN)} views: clean" in said) == (0, True), said
    with one.views.reading("users-by-name") as (_, build, index):
        index.begin()
        index.put(build, [("berta", "users/1")])
        index.remove(build, [("anna", "users/1")])
    with one.views.reading("users-search") as (_, searched, _):
        index.put(searched, index.entries(searched))
    index.commit()
    status, said = verified(one.node.directory)
    assert status == 1
    assert f"users-search: build {searched.number} has entries twice" in said
    assert "lacks ('anna', 'users/1')" in said
    assert "still has ('berta', 'users/1')" in said
    for name, spoilt in (("users-by-name", build), ("users-search", searched)):
        one.views.rebuild(name)
        one.finish()
        one.views.switch(name, max(other.number for _, other in one.views.builds()))
        one.views.drop(name, spoilt.number)


def test_verify_lets_views_of_another_version_s_format_be(following: Callable[..., Following]) -> None:
    one = following(views=BUILTIN)
    one.node.write("users/1", set={"userName": "anna"})
    one.finish()
    one.views.close()
    with sqlite3.connect(one.node.directory / DIRECTORY / FILE) as connection:
        connection.execute("PRAGMA user_version = 77")
        connection.execute("DROP TABLE leading")
    connection.close()
    status, said = verified(one.node.directory)
    assert (status, "views" in said.partition(": ")[2]) == (0, False), said
    one.views = one._open()
