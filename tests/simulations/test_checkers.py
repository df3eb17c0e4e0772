"""Each promise, broken by hand, is said to be broken; and kept, nothing is said.

What no sabotage shows: sabotages are found by the first checker that sees them, and most are seen by several.
"""

import json
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import pytest

from node.directory.names import claim_stream
from replication.limits import MAX_DRIFT_MS
from simulations.checkers.answers import Answers
from simulations.checkers.arrivals import MARK_BYTES, Arrivals
from simulations.checkers.directory import Directories
from simulations.checkers.holdings import Holding, Resolutions
from simulations.checkers.model import ADD, DELETE, HASH_BYTES, REMOVE, SET, Happened, token
from simulations.world.fidelity import Asked, Told

EU, US = "eu.00000001", "us.00000001"
Said = tuple[str, str]


def happened(
    origin: str,
    seq: int,
    at_ms: int = 0,
    *,
    stream: str = "s",
    context: Mapping[str, int] = {},
    index: int = 0,
    count: int = 1,
    seen: tuple[tuple[str, int, bytes], ...] = (),
    operations: tuple[tuple[Any, ...], ...] = ((SET, "n", 1),),
    key: str | None = None,
) -> Happened:
    timestamp = (at_ms or seq) << 16
    chain = blake2b(f"{origin}.{seq} at {timestamp}".encode(), digest_size=HASH_BYTES).digest()
    return Happened(
        origin, seq, stream, timestamp, context, b"", index, count, seen, operations, "", key, None, chain
    )


class Watch:
    """The checkers of two regions, without a world around them."""

    def __init__(self, home: str = "") -> None:
        self.said: list[Said] = []
        self.noted: Counter[str] = Counter()
        self.holdings = {"eu": Holding(), "us": Holding()}
        self._resolutions = Resolutions()
        self._arrivals = Arrivals(self._say, self._note)
        self.directories = Directories(self._resolutions, self._say, self._note, home)
        self._answers = Answers(self._arrivals, self._resolutions, self.directories, self._say, self._note)

    def _say(self, checker: str, region: str, detail: str, *events: Happened) -> None:
        self.said.append((checker, detail))

    def _note(self, situation: str) -> None:
        self.noted[situation] += 1

    def commit(self, region: str, *events: Happened, clock_ms: int | None = None) -> list[Happened]:
        return self._arrivals.commit(region, self.holdings[region], events, 0.0, clock_ms)

    def answered(self, asked: Asked, status: int, document: Any, region: str = "eu") -> None:
        told = Told(status, "", "", json.dumps(document).encode())
        self._answers.answered(region, EU, 1, self.holdings[region], asked, told, 0.0)

    @property
    def checkers(self) -> list[str]:
        return [checker for checker, _ in self.said]


def written(vector: Mapping[str, int], context: Mapping[str, int] | None = None) -> dict[str, Any]:
    """What a writer in region eu is told of its newest event."""
    shown = {"dot": f"{EU}.{vector[EU]}", "token": token("s", vector)}
    return shown if context is None else shown | {"context": token("s", context)}


def post(**headers: str) -> Asked:
    return Asked("POST", "/streams/s", {name.replace("_", "-"): value for name, value in headers.items()}, b"")


# --- what is committed


def test_events_of_two_regions_in_their_order_break_nothing() -> None:
    watch = Watch()
    first = happened(EU, 1)
    second = happened(US, 1, 5, context={EU: 1}, seen=((EU, 1, first.chain[:MARK_BYTES]),))
    watch.commit("eu", first, clock_ms=1)
    watch.commit("us", first, clock_ms=1)
    watch.commit("us", second, clock_ms=5)
    watch.commit("eu", second, clock_ms=5)
    assert watch.said == []
    assert watch.holdings["eu"].vector() == watch.holdings["us"].vector() == {EU: 1, US: 1}


def test_an_event_comes_from_where_it_was_committed() -> None:
    watch = Watch()
    watch.commit("us", happened(EU, 1))
    assert watch.checkers == ["origin"]


def test_an_origin_s_events_follow_each_other_in_number_and_in_time() -> None:
    watch = Watch()
    watch.commit("eu", happened(EU, 1), happened(EU, 3, 9))
    assert watch.checkers == ["gaps"]
    watch = Watch()
    both = [happened(EU, 1, 9), happened(EU, 2, 9)]
    watch.commit("eu", *both)
    assert watch.checkers == ["clock", "clock"], "it is not above all that was held, nor above its origin's"
    watch.said.clear()
    watch.commit("us", *both)
    assert watch.checkers == ["clock"], "it is not above its origin's"


def test_events_of_one_transaction_share_a_time_and_others_do_not() -> None:
    watch = Watch()
    both = [happened(EU, 1, 9, index=0, count=2), happened(EU, 2, 9, stream="t", index=1, count=2)]
    watch.commit("eu", *both)
    assert watch.said == []
    watch.commit("us", both[0])
    watch.commit("us", both[1])
    assert watch.checkers == ["whole", "whole"], "its end is missing, then its beginning"


def test_a_stamp_is_near_the_clock_of_who_writes_and_of_who_takes_it() -> None:
    watch = Watch()
    ahead = happened(EU, 1, MAX_DRIFT_MS // 2 + 1)
    watch.commit("eu", ahead, clock_ms=1)
    assert watch.said == []
    further = happened(EU, 2, MAX_DRIFT_MS + 2)
    watch.commit("eu", further, clock_ms=1)
    assert watch.checkers == ["clock"]
    watch.commit("us", ahead, clock_ms=1)
    assert watch.checkers == ["clock"]
    watch.commit("us", further, clock_ms=1)
    assert watch.checkers == ["clock", "clock"]


def test_what_an_event_names_as_seen_is_there_and_is_the_same() -> None:
    watch = Watch()
    first, other = happened(EU, 1), happened(US, 1, 5, seen=((EU, 1, b"another."),))
    watch.commit("eu", first)
    watch.commit("us", other)
    watch.commit("eu", other)
    assert [(checker, "that it names" in detail) for checker, detail in watch.said] == [("causal", True)]


def test_what_its_writer_held_is_there_whatever_the_event_says() -> None:
    watch = Watch()
    first, second = happened(EU, 1), happened(US, 1, 5, stream="t")
    watch.commit("eu", first)
    watch.commit("us", first, second)
    third = happened(US, 2, 6, context={EU: 1})
    watch.holdings["eu"] = Holding()
    watch.commit("us", third)
    watch.commit("eu", third)
    assert set(watch.checkers) == {"causal", "gaps"}
    assert sum("its context names" in detail for _, detail in watch.said) == 1


def test_a_request_is_written_once_and_a_dot_used_once() -> None:
    watch = Watch()
    watch.commit("eu", happened(EU, 1, key="k"), happened(EU, 2, key="k"))
    assert watch.checkers == ["idempotency"]
    watch.holdings["eu"] = Holding()
    again = happened(EU, 1, 7)
    assert watch.commit("eu", again) == [again]


def test_rare_situations_are_counted_when_they_are_met() -> None:
    def met(ours: tuple[tuple[Any, ...], ...], theirs: tuple[tuple[Any, ...], ...], at_ms: int = 5) -> set[str]:
        watch = Watch()
        watch.commit("eu", happened(EU, 1, 5, operations=ours))
        watch.commit("us", other := happened(US, 1, at_ms, operations=theirs))
        watch.commit("eu", other)
        assert watch.said == []
        return set(watch.noted)

    add, remove, register, delete = (ADD, "m", ["a"]), (REMOVE, "m", ["a"]), (SET, "n", 1), (DELETE,)
    assert met((add,), (remove,)) == {"a remove arrived with a concurrent add"}
    assert met((add,), (delete,)) == {"a delete arrived with a concurrent write"}
    assert met((register,), (delete,)) == {"a delete arrived with a concurrent write"}
    assert met((delete,), (delete,)) == set()
    assert met((register,), (register,)) == {"two writes had the same timestamp"}
    assert met((register,), (register,), 6) == set()
    assert met((add,), (add,)) == set()


# --- what is answered


def test_a_write_that_is_told_of_as_it_was_breaks_nothing() -> None:
    watch = Watch()
    watch.commit("eu", happened(EU, 1))
    watch.answered(post(), 201, written({EU: 1}, context={EU: 1}))
    watch.commit("eu", happened(EU, 2, context={EU: 1}))
    watch.answered(post(if_match=f'"{token("s", {EU: 1})}"'), 201, written({EU: 2}, context={EU: 2}))
    assert watch.said == []


def test_an_answer_is_never_the_node_s_own_mistake() -> None:
    for status in (500, 501):
        watch = Watch()
        watch.answered(Asked("GET", "/streams/s", {}, b""), status, {})
        assert watch.checkers == ["internal"]


def test_a_write_is_told_its_stream_s_state_and_what_it_has_seen() -> None:
    watch = Watch()
    watch.commit("us", theirs := happened(US, 1))
    watch.commit("eu", theirs, happened(EU, 1, 5, context={US: 1}))
    watch.answered(post(), 201, written({EU: 1}, context={EU: 1, US: 1}))
    assert watch.checkers == ["token"], "the other region's event is missing from the token"
    watch.said.clear()
    watch.commit("eu", happened(EU, 2, 6, context={US: 1, EU: 1}))
    watch.answered(post(), 201, written({EU: 2, US: 1}))
    assert watch.checkers == ["token"], "it is not told what it has seen, which is all there was"


def test_a_write_s_context_is_what_its_author_names() -> None:
    watch = Watch()
    watch.commit("eu", happened(EU, 1))
    watch.commit("eu", happened(EU, 2))
    watch.answered(post(causal_context=token("s", {EU: 1})), 201, written({EU: 2}))
    assert watch.checkers == ["context"]


def test_a_condition_that_was_accepted_held() -> None:
    at_first = post(if_match=f'"{token("s", {EU: 1})}"')
    watch = Watch()
    watch.commit("eu", happened(EU, 1), happened(EU, 2, context={EU: 1}))
    watch.answered(post(if_match='"0~"'), 201, written({EU: 2}, context={EU: 2}))
    assert watch.checkers == ["conditions", "context"], "its stream was not empty"
    watch = Watch()
    watch.commit("eu", happened(EU, 1), happened(EU, 2, context={EU: 1}), happened(EU, 3, context={EU: 1}))
    watch.answered(at_first, 201, written({EU: 2}, context={EU: 2}))
    assert watch.said == []
    watch.answered(at_first, 201, written({EU: 3}))
    assert watch.said == [
        ("conditions", f"was accepted at {{'{EU}': 1}}; its stream was at {{'{EU}': 2}}"),
        ("conditions", "two writes were accepted at one token"),
    ]


def test_a_transaction_s_conditions_are_those_of_its_body() -> None:
    watch = Watch()
    watch.commit("eu", happened(EU, 1), happened(EU, 2, context={EU: 1}))
    body = json.dumps({"expect": {"s": token("s", {})}}).encode()
    watch.answered(Asked("POST", "/transactions", {}, body), 201, {"events": [written({EU: 2}, context={EU: 2})]})
    assert watch.checkers == ["conditions", "context"]


def test_a_stream_is_created_where_there_was_none() -> None:
    watch = Watch()
    watch.commit("eu", happened(EU, 1), happened(EU, 2, context={EU: 1}))
    watch.answered(post(if_none_match="*"), 201, written({EU: 2}, context={EU: 2}))
    assert watch.checkers == ["conditions"]


def test_who_asked_for_what_had_arrived_is_not_refused() -> None:
    refused = {"type": "urn:atoll:not-caught-up"}
    after = token("s", {EU: 1})
    watch = Watch()
    watch.answered(Asked("GET", "/streams/s", {"causal-after": after}, b""), 504, refused)
    assert watch.said == []
    watch.commit("eu", happened(EU, 1))
    for other in ({"if-match": '"x~"'}, {"causal-context": "x~"}):
        watch.answered(Asked("POST", "/streams/s", {"causal-after": after, **other}, b""), 504, refused)
    watch.answered(Asked("POST", "/transactions", {"causal-after": after}, b""), 504, refused)
    assert watch.said == []
    watch.answered(Asked("GET", "/streams/s", {"causal-after": after}, b""), 504, refused)
    assert watch.checkers == ["liveness"]


def read(document: dict[str, Any], status: int = 200, target: str = "/streams/s") -> list[str]:
    """What is said of an answer where `s` is two events of one region."""
    watch = Watch()
    watch.commit("eu", happened(EU, 1, operations=((SET, "n", 1), (ADD, "m", ["a", "b"]))))
    watch.commit("eu", happened(EU, 2, context={EU: 1}, operations=((REMOVE, "m", ["c"]),)))
    watch.answered(Asked("GET", target, {}, b""), status, document)
    return watch.checkers


def test_a_read_is_what_the_model_says() -> None:
    now = token("s", {EU: 2})
    right = {"registers": {"n": 1}, "sets": {"m": ["a", "b"]}, "token": now}
    assert read(right) == []
    assert read({**right, "registers": {"n": 2}}) == ["reference"]
    assert read({**right, "sets": {"m": ["a"]}}) == ["reference"]
    assert read({**right, "token": token("s", {EU: 1})}) == ["token"]
    assert read({**right, "sets": {}, "large_sets": {"m": {"count": 2}}}) == []
    assert read({**right, "sets": {}, "large_sets": {"m": {"count": 3}}}) == ["reference"]
    assert read({"token": now}, 404) == ["reference"]
    assert read({}, 404, "/streams/nothing") == []
    assert read({**right, "registers": {}}, target="/streams/s?set=m") == [], "pages are checked put together"


def test_the_writes_that_lost_are_shown() -> None:
    watch = Watch()
    watch.commit("us", theirs := happened(US, 1, 4, operations=((SET, "n", 7),)))
    watch.commit("eu", happened(EU, 1, 5), theirs)
    now = {"registers": {"n": 1}, "sets": {}, "token": token("s", {EU: 1, US: 1})}
    watch.answered(Asked("GET", "/streams/s?conflicts=true", {}, b""), 200,
                   {**now, "conflicts": {"n": [{"value": 7, "dot": f"{US}.1"}]}})  # fmt: skip
    assert watch.said == []
    assert watch.noted["a register had two live writes"] == 1
    watch.answered(Asked("GET", "/streams/s?conflicts=true", {}, b""), 200, {**now, "conflicts": {}})
    assert watch.checkers == ["conflicts"]


# --- the directory


def test_who_else_claims_a_name_is_listed() -> None:
    watch = Watch()
    named = [happened(EU, 1, 1, stream="users/1", operations=((SET, "userName", "anna"),)),
             happened(EU, 2, 2, stream="users/2", operations=((SET, "userName", "anna"),))]  # fmt: skip
    stream = claim_stream("userName", "anna")
    taken = [happened(EU, 3, 3, stream=stream, operations=((ADD, "holders", ["users/1"]),)),
             happened(EU, 4, 4, stream=stream, operations=((ADD, "holders", ["users/2"]),))]  # fmt: skip
    watch.commit("eu", *named, *taken)
    rows = {"users-by-name": [("anna", "users/1"), ("anna", "users/2")], "groups-of": []}
    holds, both = {"anna": ["users/1"]}, {"anna": ["users/1", "users/2"]}
    watch.directories.check_end("eu", watch.holdings["eu"], rows, holds, both)
    assert watch.said == []
    assert watch.noted["two regions gave a name at once"] == 1
    for contested in ({}, {"anna": ["users/2", "users/1"]}):
        watch.said.clear()
        watch.directories.check_end("eu", watch.holdings["eu"], rows, holds, contested)
        assert watch.checkers == ["claims"]


@pytest.mark.parametrize(
    ("home", "regressed", "said"),
    [("", "", []), ("us", "", ["claims"]), ("us", "us", []), ("us", "eu", ["claims"])],
)
def test_a_name_is_claimed_once_where_one_region_gives_names(home: str, regressed: str, said: list[str]) -> None:
    watch = Watch(home)
    stream = claim_stream("userName", "anna")
    for number, holder in ((1, "users/1"), (3, "users/2")):
        watch.commit("eu", happened(EU, number, stream=holder, operations=((SET, "userName", "anna"),)))
        watch.commit("eu", happened(EU, number + 1, stream=stream, operations=((ADD, "holders", [holder]),)))
    watch.said.clear()
    watch.directories.regressed(regressed)
    rows = {"users-by-name": [("anna", "users/1"), ("anna", "users/2")], "groups-of": []}
    both = {"anna": ["users/1", "users/2"]}
    watch.directories.check_end("eu", watch.holdings["eu"], rows, {"anna": ["users/1"]}, both)
    assert watch.checkers == said
