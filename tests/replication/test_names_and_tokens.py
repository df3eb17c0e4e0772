"""One parser for names, one text for a state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication import limits
from replication.errors import Invalid
from replication.stream_name import ancestors, check_name, check_stream, format_path, parse_path
from replication.tokens import format_token, parse_dot, parse_scoped, parse_token, scope_of

segments = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=6)
names = st.lists(segments.filter(lambda text: text not in (".", "..")), min_size=1, max_size=4).map("/".join)
origins = st.from_regex(r"[a-z0-9-]{1,32}\.[0-9a-f]{8}", fullmatch=True)
vectors = st.dictionaries(origins, st.integers(1, limits.SEQ_MAX), max_size=5)


@given(names, st.booleans())
def test_a_path_reads_back(name: str, prefix: bool) -> None:
    name += "/" if prefix else ""
    assert parse_path(format_path(name).encode()) == name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"users/4", "users/4"),
        (b"users/", "users/"),
        (b"", ""),
        (b"a+b", "a+b"),
        (b"a%20b", "a b"),
        (b"%C3%A9", "é"),
        (b"e%CC%81", "e\u0301"),
        (b"a@b.example", "a@b.example"),
        (b"...", "..."),
    ],
)
def test_paths_that_name_something(raw: bytes, name: str) -> None:
    assert parse_path(raw) == name


@pytest.mark.parametrize(
    "raw",
    [
        b"/",
        b"a//b",
        b"/a",
        b"a//",
        b"a%2Fb",
        b"a%2fb",
        b"a%00b",
        b"a%0Ab",
        b"a%7Fb",
        b"a%C2%85b",
        b"%FF",
        b"%C3",
        b"%",
        b"%4",
        b"%zz",
        b"%+1",
        b".",
        b"a/../b",
        b"%2E%2E/b",
        b"a/.",
        b"x" * 256,
        b"/".join([b"x"] * 17),
        "é".encode() * 128,
        b"\xff",
    ],
)
def test_paths_that_name_nothing(raw: bytes) -> None:
    with pytest.raises(Invalid):
        parse_path(raw)


def test_names_that_are_no_text() -> None:
    for name in (None, 7, "\ud800", "a/\ud800"):
        with pytest.raises(Invalid):
            check_stream(name)
    with pytest.raises(Invalid):
        check_name(7, "expect")
    assert check_name("", "expect") == ""


def test_ancestors_from_the_root_down() -> None:
    assert ancestors("groups/kubernetes/sig-node") == ("", "groups/", "groups/kubernetes/")
    assert ancestors("users") == ("",)


@given(names, vectors)
def test_a_token_reads_back_and_equal_states_have_equal_text(name: str, vector: dict[str, int]) -> None:
    text = format_token(name, vector)
    assert parse_scoped(text, name, "token") == vector
    assert format_token(name, dict(reversed(vector.items()))) == text
    assert text.isascii()
    assert not set(text) & set("\"'\\ %?#&,;+/<>$()*!|`")


def test_the_longest_token_can_be_read() -> None:
    vector = {f"{'r' * 29}{place:03}.{place:08x}": limits.SEQ_MAX for place in range(limits.ORIGINS_MAX)}
    text = format_token("s", vector)
    assert len(text) <= limits.TOKEN_BYTES_MAX
    assert parse_token(text, "token").vector == vector


EU, US = "eu.5f2c9a10", "us.77aa01bc"
SCOPE = scope_of("s")


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "token",
        "9c1f03a~",
        "9C1F03AA~",
        f"{SCOPE}",
        f"{SCOPE}~{EU}",
        f"{SCOPE}~{EU}.0",
        f"{SCOPE}~{EU}.01",
        f"{SCOPE}~{EU}.-1",
        f"{SCOPE}~{EU}.1_",
        f"{SCOPE}~{US}.1_{EU}.1",
        f"{SCOPE}~{EU}.1_{EU}.1",
        f"{SCOPE}~{EU}.9007199254740992",
        f"{SCOPE}~EU.5f2c9a10.1",
        f"{SCOPE}~{EU}.1 ",
        f"{SCOPE}~{EU}.１",
        f"{SCOPE}~" + "x" * 4096,
    ],
)
def test_texts_that_are_no_token(text: object) -> None:
    with pytest.raises(Invalid):
        parse_token(text, "token")


def test_a_token_of_another_scope_is_refused() -> None:
    with pytest.raises(Invalid, match="another scope"):
        parse_scoped(format_token("users/4", {}), "users/5", "token")


def test_dots() -> None:
    assert str(parse_dot(f"{EU}.12")) == f"{EU}.12"
    for text in ("", EU, f"{EU}.0", f"{EU}.x", "12", f"{EU}.9007199254740992"):
        assert parse_dot(text) is None
