"""Searching the directory: filters, orders, pages, tags of lists, bounds, strange texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from node.directory.aside import aside
from node.limits import VIEW_KEY_CHARACTERS_MAX
from node.views.views import Views
from tests.scim import ENTERPRISE, SCIM, USER, Directory, check_views
from tests.serving import serving


async def test_a_list_s_tag_is_of_everything_it_draws_on(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await directory.user("anna")
        path = "/scim/v2/Users?filter=userName%20sw%20%22a%22"
        listed = await served.client.get(path)
        tag = {"if-none-match": listed.headers["etag"]}
        assert (await served.client.get(path, headers=tag)).status_code == 304
        assert (await served.client.get("/scim/v2/Users", headers=tag)).status_code == 200
        await directory.user("abel")
        again = await served.client.get(path, headers=tag)
        assert (again.status_code, again.json()["totalResults"]) == (200, 2)
        forced = await served.client.get(path, headers={"causal-after": again.headers["etag"]})
        assert forced.status_code == 200, "a tag is a token, too"


FILTERS: list[tuple[str, list[str]]] = [
    ('userName eq "ANNA"', ["anna"]),
    ('userName sw "an"', ["andré", "anna"]),
    ('userName co "nn"', ["anna"]),
    ('userName co "nna"', ["anna"]),
    ('userName ew "rta"', ["berta"]),
    ('emails eq "A@example.com"', ["anna"]),
    ('emails.value eq "a@example.com"', ["anna"]),
    ('emails[type eq "work" and value co "example"]', ["anna", "berta"]),
    ('emails[type eq "home"]', []),
    ('externalId eq "X1"', ["anna"]),
    ('externalId eq "x1"', []),
    ('name.familyName co "müll"', ["andré"]),
    ('name.familyName co "MU\u0308LL"', ["andré"]),
    ('title pr', ["berta"]),
    ('not (title pr)', ["andré", "anna"]),
    ('userName eq "anna" or userName eq "berta"', ["anna", "berta"]),
    ('userName sw "an" and active eq false', ["andré"]),
    ('active eq true', ["anna", "berta"]),
    (f'{ENTERPRISE}:department eq "Tours"', ["berta"]),
    ('meta.created gt "2020-01-01T00:00:00Z"', ["andré", "anna", "berta"]),
    ('displayName sw "Ber"', ["berta"]),
    ('externalId sw "X"', ["anna"]),
    ('externalId sw "x"', []),
    ('groups.value eq "nowhere"', []),
]  # fmt: skip


async def populate(directory: Directory) -> None:
    await directory.user("anna", externalId="X1", active=True, emails=[{"value": "a@example.com", "type": "work"}])
    await directory.user(
        "berta", title="Guide", active=True, displayName="Berta B", emails=[{"value": "b@example.org", "type": "work"}],
        **{ENTERPRISE: {"department": "Tours"}},
    )  # fmt: skip
    await directory.user("andré", active=False, name={"familyName": "Müller"})


async def test_filters(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await populate(directory)
        for text, expected in FILTERS:
            assert sorted(await directory.names(text)) == expected, text
            by_body = await directory.ask(
                "POST", "/Users/.search",
                {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "filter": text},
            )  # fmt: skip
            assert sorted(one["userName"] for one in by_body.get("Resources", ())) == expected, text
        await directory.group("Guides")
        assert await directory.names('displayName eq "guides"', "Groups") == ["Guides"]
        [anna] = (await directory.ask("GET", "/Users", filter='userName eq "anna"'))["Resources"]
        assert await directory.names(f'id eq "{anna["id"]}"') == ["anna"]
        assert await directory.names(f'id eq "{anna["id"]}"', "Groups") == []
        everything = await directory.ask("GET", "/", filter='displayName sw "gui"')
        assert [one["displayName"] for one in everything["Resources"]] == ["Guides"]


async def test_names_that_differ_late_are_told_apart(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        alike = "x" * VIEW_KEY_CHARACTERS_MAX
        await served.write("users/one", set={"userName": f"{alike}1"})  # which claims nothing: only a view knows it
        await directory.user(f"{alike}2")
        for taken in (f"{alike}1", f"{alike}2"):
            assert (await directory.ask("POST", "/Users", {"schemas": [USER], "userName": taken}, 409))["scimType"]
        for asked, expected in ((f"{alike}2", [f"{alike}2"]), (alike, [f"{alike}1", f"{alike}2"]), (f"{alike}3", [])):
            assert sorted(await directory.names(f'userName sw "{asked}"')) == expected, "its end counts too"


@pytest.mark.parametrize(
    ("by", "order"), [("userName", ""), ("userName", "descending"), ("title", ""), ("id", "descending")]
)
async def test_pages_by_index_and_by_cursor_are_the_list(workplace: Path, by: str, order: str) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        for number in range(11):
            await directory.user(f"u{number:02}", **({"title": f"t{number % 3}"} if number % 4 else {}))
        sorting: dict[str, Any] = {"sortBy": by} | ({"sortOrder": order} if order else {})
        whole = [one["userName"] for one in (await directory.ask("GET", "/Users", **sorting))["Resources"]]
        assert len(whole) == 11
        if by == "userName":
            assert whole == sorted(whole, reverse=bool(order))
        if by == "title":
            titled = {f"u{number:02}": f"t{number % 3}" for number in range(11) if number % 4}
            assert [titled.get(name, "") for name in whole] == [*sorted(titled.values()), "", "", ""]
        paged: list[str] = []
        for start in range(1, 12, 4):
            page = await directory.ask("GET", "/Users", startIndex=str(start), count="4", **sorting)
            assert (page["totalResults"], page["startIndex"]) == (11, start)
            paged += [one["userName"] for one in page["Resources"]]
        assert paged == whole
        for beyond in ("12", "9" * 25):  # the second is no number that a database could count to
            page = await directory.ask("GET", "/Users", startIndex=beyond, count="4", **sorting)
            assert (page["totalResults"], page.get("Resources", [])) == (11, [])
        by_cursor: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await directory.ask("GET", "/Users", cursor=cursor, count="4", **sorting)
            by_cursor += [one["userName"] for one in page["Resources"]]
            cursor = page.get("nextCursor")
        assert by_cursor == whole
        assert (await directory.ask("GET", "/Users", count="0"))["totalResults"] == 11
        await directory.ask("GET", "/Users", cursor="nonsense", expect=400)
        one = await directory.ask("GET", "/Users", cursor="", count="1", **sorting)
        other = "title" if by != "title" else "userName"
        refused = await directory.ask("GET", "/Users", cursor=one["nextCursor"], sortBy=other, expect=400)
        assert refused["scimType"] == "invalidCursor"


async def test_an_order_is_of_all_that_match_whatever_they_lack(workplace: Path) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        for name, title in (("ab", "z"), ("aa", ""), ("ac", "y"), ("b", "x")):
            await directory.user(name, **({"title": title} if title else {}))
            served.clock.ms += 1_000
        shown = await directory.ask("GET", "/Users", filter='userName sw "a"', sortBy="title")
        assert [one["userName"] for one in shown["Resources"]] == ["ac", "ab", "aa"]
        await directory.group("Guides")
        await served.write("groups/nameless", set={"externalId": "x"})
        shown = await directory.ask("GET", "/Groups", sortBy="displayName")
        assert [one.get("displayName", one["id"]) for one in shown["Resources"]] == ["Guides", "nameless"]
        ordered = await directory.ask("GET", "/Users", sortBy="meta.created", sortOrder="descending")
        assert [one["userName"] for one in ordered["Resources"]] == ["b", "ac", "aa", "ab"]


async def test_a_page_by_index_shows_only_what_matches_by_now(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        made = await directory.user("anna")
        assert await directory.names('userName sw "an"') == ["anna"]
        monkeypatch.setattr(Views, "step", lambda self: False)
        monkeypatch.setattr(Views, "catch_up", _at_once)
        await served.write(f"users/{made['id']}", set={"userName": "berta"})
        shown = await directory.ask("GET", "/Users", filter='userName sw "an"')
        assert shown.get("Resources", []) == []
        monkeypatch.undo()
        served.node.wake()


async def _at_once(*_: Any) -> None:
    """Do not wait for a view that stands still."""


async def test_a_page_lists_so_many_members(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.directory.search.SCIM_MEMBERS_SHOWN_MAX", 5)
    async with serving(workplace) as served:
        directory = Directory(served)
        users = [(await directory.user(f"u{number}"))["id"] for number in range(3)]
        for name in ("Guides", "Pilots"):
            await directory.group(name, *users)
        refused = await directory.ask("GET", "/Groups", expect=400)
        assert refused["scimType"] == "tooMany"
        assert len((await directory.ask("GET", "/Groups", count="1"))["Resources"]) == 1
        assert len((await directory.ask("GET", "/Groups", excludedAttributes="members"))["Resources"]) == 2


async def test_a_filter_that_no_index_serves_is_answered_within_a_bound(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.directory.search.SCIM_EXAMINED_MAX", 5)
    async with serving(workplace) as served:
        directory = Directory(served)
        for number in range(5):
            await directory.user(f"u{number}", title="x")
        assert len(await directory.names('title eq "x"')) == 5
        await directory.user("one-more")
        refused = await directory.names('title eq "x"', expect=400)
        assert refused["scimType"] == "tooMany"
        assert await directory.names('title eq "x" and userName eq "u1"') == ["u1"]
        assert (await directory.ask("GET", "/Users", sortBy="userName", count="2"))["totalResults"] == 6
        await directory.ask("GET", "/Users", sortBy="title", expect=400)
        narrowed = await directory.ask("GET", "/Users", filter='userName sw "u"', count="2")
        assert (narrowed["totalResults"], len(narrowed["Resources"])) == (5, 2)
        await directory.user("u6")
        narrowed = await directory.ask("GET", "/Users", filter='userName sw "u"', count="2")
        assert (narrowed["totalResults"], len(narrowed["Resources"])) == (6, 2), "a page costs a page"


@pytest.mark.parametrize("text", ['emails eq "all@x.example"', 'emails sw "all@"', 'emails co "all@"'])
async def test_what_an_index_leaves_is_all_of_it_or_too_many(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("node.directory.search.SCIM_EXAMINED_MAX", 5)
    async with serving(workplace) as served:
        directory = Directory(served)
        for number in range(5):
            await directory.user(f"u{number}", emails=[{"value": "all@x.example"}])
        assert len(await directory.names(text)) == 5
        await directory.user("one-more", emails=[{"value": "all@x.example"}])
        assert (await directory.names(text, expect=400))["scimType"] == "tooMany"


async def test_a_filter_looks_at_so_many_members_that_it_does_not_name(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.directory.search.SCIM_MEMBERS_MATCHED_MAX", 5)
    async with serving(workplace) as served:
        directory = Directory(served)
        users = [(await directory.user(f"u{number}", displayName=f"U {number}"))["id"] for number in range(3)]
        await directory.group("two", *users[:2])
        await directory.group("three", *users)
        assert await directory.names('members.display co "2"', "Groups") == ["three"]
        assert sorted(await directory.names("members pr", "Groups")) == ["three", "two"]
        await directory.group("one", users[2])
        refused = await directory.names('members.display co "2"', "Groups", expect=400)
        assert refused["scimType"] == "tooMany"
        assert sorted(await directory.names(f'members eq "{users[2]}"', "Groups")) == ["one", "three"]


async def test_a_search_makes_so_many_comparisons(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter's terms count for each value that they are compared with; many at once are compared in a thread."""
    monkeypatch.setattr("node.directory.search.SCIM_COMPARED_MAX", 20)
    monkeypatch.setattr("node.directory.search.COMPARED_AT_ONCE", 7)
    compared = list[bool]()

    async def watched(large: bool, work: Any, *args: Any) -> Any:
        compared.append(large)
        return await aside(large, work, *args)

    async with serving(workplace) as served:
        directory = Directory(served)
        users = [(await directory.user(f"u{number}", title="x", displayName="U"))["id"] for number in range(10)]
        assert len(await directory.names('title eq "x" or title eq "y"')) == 10
        refused = await directory.names('title eq "x" or title eq "y" or title eq "z"', expect=400)
        assert refused["scimType"] == "tooMany"
        by_name = [f'userName eq "u{number}"' for number in range(10)]
        assert len(await directory.names(" or ".join(by_name[:4]))) == 4
        await directory.names(" or ".join(by_name[:5]), expect=400)
        await directory.group("Some", *users[:3])
        monkeypatch.setattr("node.directory.search.aside", watched)
        for asked, large in (('members.display co "u"', False), ('members.display co "x" or members pr', True)):
            compared.clear()
            assert await directory.names(asked, "Groups") == ["Some"]
            assert compared[1:] == [large]


async def test_strange_texts_harm_nothing(workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(workplace) as served:
        directory = Directory(served)
        await directory.user("anna")
        for text in ("a\0bc", 'a"b"c', "* OR a", "(abc", "\U0001f600" * 3, "%_%"):
            assert (await served.client.get("/views/users-search", params={"q": text})).status_code == 200, text
            literal = json.dumps(text)
            assert await directory.names(f"userName co {literal}") == []
        deep = '{"password": ' + "[" * 100_000 + "]" * 100_000 + "}"
        answer = await served.client.post("/scim/v2/Users", content=deep, headers=SCIM)
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidSyntax")
        assert caplog.text == ""
        await check_views(served)
