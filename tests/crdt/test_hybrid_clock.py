"""Kulkarni et al. 2014, section 3: stamps grow, follow what was seen, and stay near the wall clock."""

from hypothesis import given
from hypothesis import strategies as st

from crdt.hybrid_clock import COUNTER_BITS, TIMESTAMP_MAX, counter, milliseconds, next_timestamp

stamps = st.integers(0, TIMESTAMP_MAX)
walls = st.integers(0, 253_402_300_799_999)


@given(stamps, walls)
def test_the_next_is_above_all_and_not_below_the_wall(high: int, now_ms: int) -> None:
    following = next_timestamp(high, now_ms)
    assert following > high
    assert milliseconds(following) >= now_ms


@given(walls)
def test_a_clock_that_stands_still_counts(now_ms: int) -> None:
    first = next_timestamp(0, now_ms)
    second = next_timestamp(first, now_ms)
    assert (milliseconds(second), counter(second)) == (milliseconds(first), counter(first) + 1)


def test_a_full_counter_carries_into_the_milliseconds() -> None:
    full = (1_000 << COUNTER_BITS) | 0xFFFF
    following = next_timestamp(full, 1_000)
    assert (milliseconds(following), counter(following)) == (1_001, 0)


def test_a_clock_that_goes_back_never_repeats() -> None:
    high = next_timestamp(0, 5_000)
    assert next_timestamp(high, 10) == high + 1
