"""Timestamps and times as text.

A timestamp is written as RFC 3339 with eight digits of fraction, three of milliseconds and five of counter:
`2026-11-22T12:33:18.12300042Z`. Nothing is lost, and the texts sort as the timestamps do.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from crdt.hybrid_clock import COUNTER_BITS, TIMESTAMP_MAX, counter, milliseconds
from replication.errors import Invalid

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
COUNTER_MAX = (1 << COUNTER_BITS) - 1


def format_timestamp(timestamp: int) -> str:
    """A hybrid timestamp as text."""
    seconds, ms = divmod(milliseconds(timestamp), 1000)
    return f"{_second(seconds)}.{ms:03}{counter(timestamp):05}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


def parse_moment(text: object, field: str) -> int:
    """The greatest timestamp that a time covers: that very one, or the last of its millisecond.

    Raises: Invalid, naming `field`.
    """
    match = RFC3339.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Invalid(field, "is not a time such as 2026-11-22T12:33:18Z (in a URL, write '+' as %2B)")
    seconds, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(seconds + zone.replace("Z", "+00:00"))
        since = moment - EPOCH
    except ValueError:
        raise Invalid(field, "is not a time that exists") from None
    whole_ms = (since.days * 86_400 + since.seconds) * 1000
    digits = fraction or ""
    count = int(digits[3:]) if len(digits) == 8 else COUNTER_MAX
    ms = whole_ms + int(digits[:3].ljust(3, "0")) if digits else whole_ms + 999
    if count > COUNTER_MAX or ms < 0:
        raise Invalid(field, "is before 1970, or not a timestamp")
    return min((ms << COUNTER_BITS) | count, TIMESTAMP_MAX)
