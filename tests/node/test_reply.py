"""Which form an answer has, and when none is needed."""

import pytest

from node.interface.content import JSON_TYPE, MSGPACK_TYPE
from node.interface.problems import Problem
from node.interface.reply import Reply, accepted, render


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, JSON_TYPE),
        ("", JSON_TYPE),
        ("*/*", JSON_TYPE),
        ("application/*", JSON_TYPE),
        (MSGPACK_TYPE, MSGPACK_TYPE),
        (MSGPACK_TYPE.upper(), MSGPACK_TYPE),
        ("text/html, */*;q=0.1", JSON_TYPE),
        ("application/json;q=0.5, application/vnd.msgpack;q=0.6", MSGPACK_TYPE),
        ("application/json ; q=0.5 , application/vnd.msgpack ; level=1 ; q=0.6", MSGPACK_TYPE),
        ("application/json;q=0, */*", MSGPACK_TYPE),
        ("application/*;q=0.2, application/json;q=0.1", MSGPACK_TYPE),
        ("*/*;q=0.1, application/*;q=0.2, application/json;q=0.15", MSGPACK_TYPE),
        ("application/json;q=high, application/vnd.msgpack;q=0.1", MSGPACK_TYPE),
        ("application/vnd.msgpack;q=0.5, application/vnd.msgpack;q=0, application/json;q=0.4", MSGPACK_TYPE),
    ],
)
def test_the_form_that_a_client_likes_best(accept: str | None, form: str) -> None:
    assert accepted(accept, (JSON_TYPE, MSGPACK_TYPE)) == form


@pytest.mark.parametrize(
    "accept", ["text/html", "*/*;q=0", "application/json;q=0, application/*;q=0", "text/*", "json"]
)
def test_no_form_that_a_client_likes(accept: str) -> None:
    with pytest.raises(Problem) as refused:
        accepted(accept, (JSON_TYPE, MSGPACK_TYPE))
    assert refused.value.type == "not-acceptable"
    assert refused.value.extra["offered"] == [JSON_TYPE, MSGPACK_TYPE]


def test_what_a_client_has_is_not_sent_again() -> None:
    def status(if_none_match: str, status: int = 200) -> int:
        return render(Reply({}, status, token="t"), JSON_TYPE, if_none_match).status

    assert status('"t"') == status('W/"t"') == status('"s", W/"t"') == status("*") == 304
    assert status('"s"') == status('"t+1"') == status("t") == 200
    assert status('"t"', 201) == 201, "what was done now is told"
