"""Asking views over HTTP: rows, forced reads, what cannot be asked, views of the operator's own."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio

from node.limits import VIEW_KEY_CHARACTERS_MAX
from node.views.views import Views
from tests.scim import check_views
from tests.serving import Served, serving


async def wait_built(served: Served, name: str) -> dict[str, Any]:
    with trio.fail_after(10):
        while True:
            view: dict[str, Any] = (await served.read("/views"))["views"][name]
            if all(build["state"] == "following" and not build["behind"] for build in view["builds"]):
                return view
            await trio.sleep(0.01)


async def test_rows_by_key_range_and_text(workplace: Path) -> None:
    async with serving(workplace) as served:
        for name in ("Anna", "andré", "Berta"):
            await served.write(f"users/{name}", set={"userName": name, "displayName": f"{name} Müller"})
        exact = await served.read("/views/users-by-name?key=ANDRÉ")
        assert exact["rows"] == [
            {"key": "andré", "stream": "users/andré", "columns": {"userName": "andré", "displayName": "andré Müller"}}
        ]
        assert [row["key"] for row in (await served.read("/views/users-by-name?from=a&to=anz"))["rows"]] == [
            "andré",
            "Anna",
        ]
        assert [row["key"] for row in (await served.read("/views/users-by-name?from=anna"))["rows"]] == [
            "Anna",
            "Berta",
        ]
        assert len((await served.read("/views/users-search?q=MÜLL"))["rows"]) == 3
        first = await served.client.get("/views/users-by-name?limit=2")
        assert [row["key"] for row in first.json()["rows"]] == ["andré", "Anna"]
        second = await served.read(first.links["next"]["url"])
        assert [row["key"] for row in second["rows"]] == ["Berta"]
        pages = await served.client.get("/views/users-search?q=müller&limit=2")
        assert len((await served.read(pages.links["next"]["url"]))["rows"]) == 1
        again = await served.client.get(
            "/views/users-by-name?limit=2", headers={"if-none-match": first.headers["etag"]}
        )
        assert again.status_code == 304
        tags = {
            (await served.client.get(f"/views/users-by-name?{asked}")).headers["etag"]
            for asked in ("key=anna", "key=berta", "from=anna", "to=anna", "limit=2", "limit=1")
        }
        assert len(tags) == 6, "else a cache would show rows for others"
        status = await served.read("/status")
        assert status["views"]["users-by-name"]["serving"]
        assert status["views"]["users-by-name"]["behind"] == 0
        await served.write("users/Anna", set={"userName": "Zoe"})
        assert (await served.read("/views/users-by-name?key=anna"))["rows"] == []
        await check_views(served)


async def test_keys_that_differ_late_are_told_apart(workplace: Path) -> None:
    async with serving(workplace) as served:
        alike = "x" * VIEW_KEY_CHARACTERS_MAX
        for number in range(3):
            await served.write(f"users/{number}", set={"userName": f"{alike}{number}"})

        async def found(**asked: str) -> list[str]:
            answer = await served.client.get("/views/users-by-name", params=asked)
            return [row["stream"] for row in answer.json()["rows"]]

        assert await found(key=f"{alike}1") == ["users/1"]
        assert await found(key=alike) == []
        assert await found(**{"from": f"{alike}1"}) == ["users/1", "users/2"]
        assert await found(**{"from": alike, "to": f"{alike}1"}) == ["users/0", "users/1"]
        assert await found(**{"from": f"{alike}0", "to": f"{alike}0~"}) == ["users/0"]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/views/nothing", 404, None),
        ("/views/", 404, None),
        ("/views/users?key=a&q=b", 400, "key"),
        ("/views/users?q=abc", 400, "q"),
        ("/views/users-search?q=ab", 400, "q"),
        ("/views/users-search?key=anna", 400, "q"),
        ("/views/users-search", 400, "q"),
        ("/views/users?cursor=x", 400, "cursor"),
        ("/views/users?limit=0", 400, "limit"),
        ("/views/users?what=1", 400, "what"),
    ],
)
async def test_what_cannot_be_asked_is_said(workplace: Path, path: str, status: int, field: str | None) -> None:
    async with serving(workplace) as served:
        await trio.sleep(0.05)
        answer = await served.client.get(path)
        assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text


async def test_what_cannot_be_done_to_a_view_is_said(workplace: Path) -> None:
    async with serving(workplace) as served:
        before = await wait_built(served, "users")
        one = before["serving"]
        for asked, field in (
            ({"do": "forget", "build": one}, "do"),
            ({"build": one}, "do"),
            ({"do": "drop"}, "build"),
            ({"do": "drop", "build": True}, "build"),
            ({"do": "switch", "build": str(one)}, "build"),
            ({"do": "rebuild", "now": True}, "now"),
        ):
            told = await served.client.post("/views/users", json=asked)
            assert (told.status_code, told.json()["field"]) == (400, field), asked
        assert await wait_built(served, "users") == before


async def test_a_view_is_built_anew_where_nobody_writes(workplace: Path) -> None:
    async with serving(workplace) as served:
        await served.write("users/1", set={"userName": "anna"})
        await wait_built(served, "users")
        await trio.sleep(0.1)  # views rest
        assert (await served.client.post("/views/users", json={"do": "rebuild"})).status_code == 200
        assert [build["entries"] for build in (await wait_built(served, "users"))["builds"]] == [1, 1]


async def test_a_search_that_finds_too_much_says_so(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.views.query.SEARCH_HITS_MAX", 2)
    async with serving(workplace) as served:
        for number in range(3):
            token = (await served.write(f"users/{number}", set={"displayName": f"anna {number < 2}"}))["token"]
        headers = {"causal-after": token}
        assert len((await served.read("/views/users-search?q=true", headers))["rows"]) == 2
        refused = await served.client.get("/views/users-search?q=anna", headers=headers)
        assert (refused.status_code, "longer" in refused.json()["detail"]) == (413, True), refused.text


async def test_a_view_is_forced_to_a_token(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(workplace) as served:
        await served.write("users/1", set={"userName": "anna"})
        await served.read("/views/users-by-name?key=anna")
        monkeypatch.setattr(Views, "step", lambda self: False)
        written = await served.write("users/2", set={"userName": "berta"})
        headers = {"causal-after": written["token"], "prefer": "wait=0.05"}
        refused = await served.client.get("/views/users-by-name?key=berta", headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["missing"] == {served.node.replica.origin: {"wanted": 2, "held": 1}}
        assert (await served.client.get("/conflicts", headers=headers)).status_code == 503
        shown = await served.client.get("/views/users-by-name?key=anna")
        assert shown.json()["watermark"].endswith(".1"), "what it shows, and how much that is"
        early = await served.client.get("/views/users-by-name?key=berta")
        assert early.json()["rows"] == []
        held = {**headers, "if-none-match": early.headers["etag"]}
        monkeypatch.undo()
        served.node.wake()
        assert len((await served.read("/views/users-by-name?key=berta", held))["rows"]) == 1


async def test_an_index_narrows_and_the_query_resolves(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(workplace) as served:
        await served.write("users/1", set={"userName": "anna"})
        await served.write("groups/1", add={"members": ["1"]})
        await served.read("/views/users-by-name?key=anna")
        await served.read("/views/groups-of?key=1")
        monkeypatch.setattr(Views, "step", lambda self: False)
        monkeypatch.setattr("node.views.views.WAIT_DEFAULT_S", 0.05)
        await served.write("users/1", set={"userName": "berta"})
        await served.write("groups/1", remove={"members": ["1"]})
        monkeypatch.setattr("node.interface.views.have_shown", _at_once)
        assert (await served.read("/views/users-by-name?key=anna"))["rows"] == []
        assert (await served.read("/views/groups-of?key=1"))["rows"] == []
        monkeypatch.undo()
        served.node.wake()
        await check_views(served)


async def _at_once(*_: Any) -> None:
    """Do not wait for a view that stands still."""


PEOPLE = """
    from node.views.view import Row, View

    def rows(state):
        if state.text("userName"):
            yield Row(state.text("userName"){change}, {{"initial": state.text("userName")[0].upper()}})

    VIEWS = [View(name="people", version={version}, streams="users/", rows=rows, columns=("initial",))]
"""


NOTES = """
    from node.views.view import Row, View

    def texts(state):
        yield Row(state.text("text"))

    VIEWS = [
        View(name="tagged", version=1, streams="notes/", members="tags"),
        View(name="exactly", version=1, streams="notes/", rows=texts, searched=True, folded=False),
    ]
"""


async def test_members_and_what_is_not_folded_are_found_as_they_are_written(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "atoll_test_notes.py").write_text(textwrap.dedent(NOTES))
    async with serving(workplace, views=["atoll_test_notes"]) as served:
        await served.write("notes/1", set={"text": "A Red Sky"})
        for text, found in (("Red", 1), ("red", 0), ("A Red Sky", 1)):
            assert len((await served.read(f"/views/exactly?q={text}"))["rows"]) == found, text
        await served.write("notes/1", add={"tags": ["Red", "ﬁne"]})
        await served.write("notes/2", add={"tags": ["red"]})
        for tag, stream in (("Red", "notes/1"), ("red", "notes/2"), ("ﬁne", "notes/1")):
            shown = await served.read(f"/views/tagged?key={tag}")
            assert shown["rows"] == [{"key": tag, "stream": stream, "columns": {}}]
        assert (await served.read("/views/tagged?key=RED"))["rows"] == []
        await check_views(served)


async def test_a_view_of_the_operator_s_own_is_added_changed_and_rolled_back(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "atoll_test_people.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # two versions in one second have one bytecode file
    module.write_text(textwrap.dedent(PEOPLE.format(version=1, change="")))
    async with serving(workplace, views=["atoll_test_people"]) as served:
        await served.write("users/1", set={"userName": "berta"})
        shown = await served.read("/views/people?key=berta")
        assert shown["rows"] == [{"key": "berta", "stream": "users/1", "columns": {"initial": "B"}}]
        module.write_text(textwrap.dedent(PEOPLE.format(version=2, change="[::-1]")))
        asked = await served.client.post("/views/people", json={"do": "rebuild"})
        new = asked.json()["build"]
        view = await wait_built(served, "people")
        assert len((await served.read("/views/people?key=berta"))["rows"]) == 1
        assert (await served.client.post("/views/people", json={"do": "switch", "build": new})).status_code == 200
        assert len((await served.read("/views/people?key=berta"))["rows"]) == 0
        assert len((await served.read("/views/people?key=atreb"))["rows"]) == 1
        old = view["serving"]
        assert (await served.client.post("/views/people", json={"do": "switch", "build": old})).status_code == 200
        assert len((await served.read("/views/people?key=berta"))["rows"]) == 1
        for text in ("VIEWS = [", "VIEWS = [1]", "VIEWS = 1", ""):
            module.write_text(text)
            broken = await served.client.post("/views/people", json={"do": "rebuild"})
            assert broken.status_code == 422, text
            assert "atoll_test_people" in broken.json()["detail"]
        module.write_text(textwrap.dedent(PEOPLE.format(version=2, change="[::-1]")))
        assert (await served.client.post("/views/none", json={"do": "rebuild"})).status_code == 404
        assert len((await served.read("/views/people?key=berta"))["rows"]) == 1
        for body, status in (
            ({"do": "dance"}, 400), ({"do": "switch"}, 400), ({"do": "switch", "build": 99}, 404),
            ({"do": "drop", "build": old}, 409),
        ):  # fmt: skip
            assert (await served.client.post("/views/people", json=body)).status_code == status, body
        await check_views(served)
