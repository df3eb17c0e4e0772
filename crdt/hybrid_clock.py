"""Hybrid logical clock: timestamps that follow causality and stay near the wall clock.

A timestamp is one integer of 64 bits: 48 of Unix milliseconds, 16 of counter. The next one is above every one
issued or accepted (`high`) and not below the wall clock. Adding one to the integer carries a full counter into
the milliseconds by itself. `high` is persisted with every commit, so a restart or a clock that jumps back never
repeats a stamp.

Source: Kulkarni et al. 2014, "Logical physical clocks", section 3.
"""

COUNTER_BITS = 16
MILLISECONDS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999, the last one that RFC 3339 can write; it fits 48 bits."""
TIMESTAMP_MAX = (MILLISECONDS_MAX << COUNTER_BITS) | ((1 << COUNTER_BITS) - 1)

assert MILLISECONDS_MAX < 1 << 48


def next_timestamp(high: int, now_ms: int) -> int:
    """The stamp of the next local event. Units: `now_ms` in Unix milliseconds."""
    wall = now_ms << COUNTER_BITS
    return wall if wall > high else high + 1


def milliseconds(timestamp: int) -> int:
    """The wall-clock part of a stamp, in Unix milliseconds."""
    return timestamp >> COUNTER_BITS


def counter(timestamp: int) -> int:
    """The logical part of a stamp."""
    return timestamp & ((1 << COUNTER_BITS) - 1)
