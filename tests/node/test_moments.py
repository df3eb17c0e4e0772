"""Timestamps and times as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.hybrid_clock import COUNTER_BITS, TIMESTAMP_MAX
from node.interface.moments import COUNTER_MAX, format_timestamp, parse_moment
from replication.errors import Invalid
from replication.event import OCCURRED_AT_BYTES_MAX

TIMESTAMPS = st.integers(0, TIMESTAMP_MAX)


@given(TIMESTAMPS)
def test_nothing_of_a_timestamp_is_lost(timestamp: int) -> None:
    assert parse_moment(format_timestamp(timestamp), "at") == timestamp


@given(TIMESTAMPS, TIMESTAMPS)
def test_texts_sort_as_timestamps_do(one: int, other: int) -> None:
    assert (format_timestamp(one) < format_timestamp(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "ms", "counter"),
    [
        ("1970-01-01T00:00:00Z", 999, COUNTER_MAX),
        ("1970-01-01T00:00:01.5Z", 1_500, COUNTER_MAX),
        ("1970-01-01T00:00:01.007Z", 1_007, COUNTER_MAX),
        ("1970-01-01T00:00:01.007999999Z", 1_007, COUNTER_MAX),
        ("1970-01-01T00:00:01.00700042Z", 1_007, 42),
        ("1970-01-01T01:00:01.007+01:00", 1_007, COUNTER_MAX),
        ("1969-12-31T23:00:01.007-01:00", 1_007, COUNTER_MAX),
        ("9999-12-31T23:59:59-23:59", TIMESTAMP_MAX >> COUNTER_BITS, COUNTER_MAX),
    ],
)
def test_a_time_covers_all_that_it_leaves_open(text: str, ms: int, counter: int) -> None:
    assert parse_moment(text, "at") == (ms << COUNTER_BITS) | counter


def test_the_longest_time_fits_an_event() -> None:
    longest = "9999-12-31T22:59:59.123456789-01:00"
    assert parse_moment(longest, "at") > 0
    assert len(longest) <= OCCURRED_AT_BYTES_MAX
    with pytest.raises(Invalid):
        parse_moment(longest.replace("-01", "0-01"), "at")


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "now",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01 00:00:00Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00.0000000000Z",
        "1970-01-01T00:00:01.00765536Z",
        "1970-02-30T00:00:00Z",
        "1970-01-01T24:00:01Z",
        "1970-01-01T00:00:00+24:00",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01",
        "0001-01-01T00:00:00+23:59",
        "1970-01-01T00:00:00.５Z",  # a digit, and none of RFC 3339's
    ],
)
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(Invalid) as refused:
        parse_moment(text, "at")
    assert refused.value.field == "at"
