"""Cells in the store: what a delete costs and leaves, what is purged, and folding again what was not known."""

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.msgpack import Decoder
from msgspec.structs import replace

from replication import event, event_codec, limits
from replication.command import Command, Draft
from replication.errors import Unfoldable
from replication.event import Encoded, digest
from replication.event_codec import decode_header, encode_header
from replication.packing import pack
from replication.queries import existing_row, page_set, resolve_stream
from tests.helpers import Node, operations
from tests.replication.test_admission import STRANGER, after, forged

Make = Callable[..., Node]


def elements(node: Node) -> int:
    with node.replica.read() as snapshot:
        return len(list(snapshot.walk("elements")))


def purge(node: Node) -> int:
    turns = 0
    while node.replica.mirror.purging:
        node.replica.turn([], node.now_ms)
        turns += 1
    return turns


def test_dead_rows_are_purged_bit_by_bit_and_never_seen(node: Make) -> None:
    eu = node("eu")
    members = [f"{number:05}" for number in range(3 * limits.PURGE_ROWS_MAX)]
    eu.write("s", add={"m": members})
    eu.write("t", add={"m": ["kept"]})
    eu.write("s", delete=True)
    assert eu.answer("s") is None
    assert elements(eu) > limits.PURGE_ROWS_MAX
    eu.write("s", add={"m": ["00001", "99999"]})
    assert eu.resolved("s").sets == {"m": ("00001", "99999")}
    assert purge(eu) >= 2
    assert elements(eu) == 3
    eu.check_answers()


def test_a_purge_goes_on_after_a_restart_and_starts_over_after_another_delete(node: Make) -> None:
    eu = node("eu")
    for _ in range(2):
        eu.write("s", add={"m": [f"{number:05}" for number in range(3 * limits.PURGE_ROWS_MAX)]})
        eu.write("s", delete=True)
        eu.replica.close()
        eu.reopen()
        assert eu.replica.mirror.purging
    purge(eu)
    assert elements(eu) == 0


def test_a_purge_passes_what_survived_the_delete(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.batch.PURGE_ROWS_MAX", 2)
    eu, us = node("eu"), node("us")
    us.write("s", add={"m": ["a", "b", "c", "d", "e"]})
    eu.write("s", add={"m": ["x", "y", "z"]})
    eu.pull_all(us)
    eu.write("s", delete=True, context={eu.replica.origin: 1})
    turns = 0
    while eu.replica.mirror.purging and turns < 9:
        eu.replica.turn([], eu.now_ms)
        turns += 1
    assert 0 < turns < 9
    assert elements(eu) == 5


def test_a_concurrent_delete_counts_what_survives_by_walking_only_that(node: Make) -> None:
    eu, us = node("eu"), node("us")
    eu.write("s", add={"m": [f"{number:03}" for number in range(200)]})
    us.pull_all(eu)
    us.write("s", add={"m": ["005", "new"], "n": ["x"]})
    us.write("s", remove={"n": ["x"]})
    eu.write("s", add={"m": ["005"]})
    eu.write("s", delete=True)
    us.write("s", add={"m": ["more"]})
    eu.pull_all(us)
    us.pull_all(eu)
    for one in (eu, us):
        assert one.resolved("s").sets == {"m": ("005", "more", "new")}
        with one.replica.read() as snapshot:
            assert existing_row(snapshot, "s").sets == {"m": 3, "n": 0}


def test_elements_with_several_live_additions_lose_the_dead_ones(node: Make) -> None:
    eu, us = node("eu"), node("us")
    eu.write("s", add={"m": ["x"]})
    us.write("s", add={"m": ["x"]})
    eu.write("s", delete=True)
    eu.pull_all(us)
    eu.write("s", remove={"m": ["absent"]})
    purge(eu)
    assert eu.resolved("s").sets == {"m": ("x",)}
    assert elements(eu) == 1


def peak_of_paging_and_deleting(eu: Node, members: int) -> int:
    """Bytes of Python's that are held at most meanwhile."""
    rng = random.Random(1)
    for _ in range(members // 2_500):
        eu.write("s", add={"m": sorted({f"{rng.randrange(1 << 60):020}" for _ in range(2_500)})})
    tracemalloc.start()
    try:
        with eu.replica.read() as snapshot:
            row, counted = existing_row(snapshot, "s"), 0
            start: str | None = ""
            while start is not None:
                page, start = page_set(snapshot, row, "m", start, 1_000)
                counted += len(page)
            assert counted == row.sets["m"] == members
            resolve_stream(snapshot, "s")
        eu.write("s", delete=True)
        purge(eu)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert elements(eu) == 0
    eu.close()
    return peak


def test_deleting_and_paging_a_large_set_holds_no_copy_of_it(workplace: Path) -> None:
    """The less of two: Python's own table of names takes two megabytes more at once, whenever it grows."""
    members = 50_000
    peak = min(peak_of_paging_and_deleting(Node(workplace / name, "eu"), members) for name in ("first", "second"))
    assert peak < members * 30, f"{peak} bytes for {members} members: a copy would take 70 each at least"


def unknown(body: list[object], **fields: Any) -> Encoded:
    """An event whose body this version may not know."""
    data = pack(body)
    return Encoded(forged(body_hash=digest(data), **fields).header, data)


FUTURE: list[list[object]] = [
    [b"s" * 16, None, [[5, "hits", 1]], "a", None, None, None],
    [b"s" * 16, "key", b"sealed", "a", None, None, None],
]


@pytest.mark.parametrize("body", FUTURE)
def test_what_is_not_known_is_kept_forwarded_and_not_answered(node: Make, body: list[object]) -> None:
    eu, us = node("eu"), node("us")
    first = unknown(body)
    assert eu.apply([(first,), (after(first, stream="t"),)]).events == 2
    us.pull_all(eu)
    for one in (eu, us):
        with one.replica.read() as snapshot, pytest.raises(Unfoldable):
            resolve_stream(snapshot, "s")
        with pytest.raises(Unfoldable):
            one.write("s", set={"n": 1})
        assert one.resolved("t").registers == {"n": 1}
        assert one.transactions()[0][0] == first


def test_a_newer_format_or_a_flag_is_not_known_either(node: Make) -> None:
    eu = node("eu")
    assert eu.apply([(forged(format=2),)]).events == 1
    flagged = forged(origin="yy.00000001", previous=event.genesis("test", "yy.00000001"), flags=1, stream="t")
    assert eu.apply([(flagged,)]).events == 1
    for stream in ("s", "t"):
        with eu.replica.read() as snapshot, pytest.raises(Unfoldable):
            resolve_stream(snapshot, stream)


WithoutAdd = event_codec._BodyFields[event_codec._SetFields | event_codec._RemoveFields | event_codec._DeleteFields]


def test_a_version_that_knows_more_folds_again_from_the_log(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same store under a version that does not know `add`, then under one that does."""
    eu, us = node("eu"), node("us")
    us.write("s", add={"m": ["x", "y"]}, set={"n": 1})
    us.write("s", remove={"m": ["x"]})
    for number in range(limits.MILESTONE_EVENTS):
        us.write("s", set={"n": number})
    us.write("t", set={"n": 1})
    us.write("s", delete=True)
    us.write("s", add={"m": ["z"]}, set={"n": 2})
    older = event.FEATURE_LEVEL
    with monkeypatch.context() as past:
        past.setattr(event_codec, "KNOWN_OPERATIONS", event.KNOWN_OPERATIONS - {event.ADD})
        past.setattr(event_codec, "_decode_body_fields", Decoder(WithoutAdd).decode)
        past.setattr("replication.replica.FEATURE_LEVEL", older - 1)
        eu.replica.close()
        eu.reopen()
        eu.pull_all(us)
        with eu.replica.read() as snapshot, pytest.raises(Unfoldable):
            resolve_stream(snapshot, "s")
        assert eu.resolved("t").registers == {"n": 1}
        eu.replica.close()
        eu.reopen()
    with eu.replica.read() as snapshot, pytest.raises(Unfoldable):
        resolve_stream(snapshot, "s")
    monkeypatch.setattr("replication.replica.FEATURE_LEVEL", older + 1)
    eu.replica.close()
    eu.reopen()
    assert eu.resolved("s") == us.resolved("s")
    eu.check_answers()


def test_a_transaction_of_known_and_unknown_arrives_whole(node: Make) -> None:
    eu = node("eu")
    eu.run(Command((Draft("t", operations(set={"n": 0})),)))
    first = forged(count=2)
    body = pack(FUTURE[0])
    header = decode_header(
        after(first, index=1, count=2, stream="u", timestamp=decode_header(first.header).timestamp).header
    )

    second = Encoded(encode_header(replace(header, body_hash=digest(body))), body)
    assert eu.apply([(first, second)]).events == 2
    assert eu.replica.vector[STRANGER] == 2
    assert eu.resolved("s").registers == {"n": 1}
