"""Names of streams (`users/4`) and of prefixes (`users/`, the root being the empty one).

One rule for every way a name comes in: segments joined by `/`, each of them non-empty UTF-8 without control
characters and not `.` or `..`; no Unicode normalisation, so that equal names are equal bytes in every region.
"""

import re
import unicodedata
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from replication.errors import Invalid
from replication.limits import STREAM_NAME_BYTES_MAX, STREAM_SEGMENTS_MAX

ROOT = ""
HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")
_SEGMENT = r"[A-Za-z0-9_@~-][A-Za-z0-9_@~.-]*"
PLAIN = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,{STREAM_SEGMENTS_MAX - 1}}}")
"""Names that are right, and the same percent-encoded, at a glance: most of them. The rest are looked at closely."""


def check_stream(name: object, field: str = "stream") -> str:
    """The name itself, if it is a stream's.

    Raises: Invalid, naming `field`.
    """
    if not isinstance(name, str):
        raise Invalid(field, "must be a string")
    if PLAIN.fullmatch(name) and len(name) <= STREAM_NAME_BYTES_MAX:
        return name
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Invalid(field, "holds a lone surrogate, which UTF-8 cannot write") from None
    segments = name.split("/")
    for segment in segments:
        _check_segment(segment, field)
    if size > STREAM_NAME_BYTES_MAX:
        raise Invalid(field, f"has {size} bytes; at most {STREAM_NAME_BYTES_MAX} are allowed")
    if len(segments) > STREAM_SEGMENTS_MAX:
        raise Invalid(field, f"has {len(segments)} segments; at most {STREAM_SEGMENTS_MAX} are allowed")
    return name


def _check_segment(segment: str, field: str) -> None:
    if not segment:
        raise Invalid(field, "has an empty segment")
    if segment in (".", ".."):
        raise Invalid(field, f"has the segment {segment!r}")
    if any(unicodedata.category(character) == "Cc" for character in segment):
        raise Invalid(field, "holds a control character")


def is_prefix(name: str) -> bool:
    """Whether the name is a prefix's."""
    return name == ROOT or name.endswith("/")


def check_name(name: object, field: str) -> str:
    """The name itself, if it is a stream's or a prefix's.

    Raises: Invalid, naming `field`.
    """
    if not isinstance(name, str):
        raise Invalid(field, "must be a string")
    if name != ROOT:
        check_stream(name.removesuffix("/"), field)
    return name


def parse_path(raw: bytes, field: str = "stream") -> str:
    """The stream or prefix that a percent-encoded path names. `+` is literal.

    Raises: Invalid, naming `field`.
    """
    name = raw.decode("ascii", "replace")
    if PLAIN.fullmatch(name) and len(name) <= STREAM_NAME_BYTES_MAX:
        return name
    segments = [_decode_segment(segment, field) for segment in raw.split(b"/")]
    if any("/" in segment for segment in segments):
        raise Invalid(field, "has a segment with an encoded '/'")
    return check_name("/".join(segments), field)


def _decode_segment(raw: bytes, field: str) -> str:
    for place in (index for index, byte in enumerate(raw) if byte == ord("%")):
        digits = raw[place + 1 : place + 3]
        if len(digits) < 2 or not HEXADECIMAL.issuperset(digits):
            raise Invalid(field, "has a '%' that two hexadecimal digits do not follow")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Invalid(field, "is not UTF-8") from None


def format_path(name: str) -> str:
    """The name as a path that `parse_path` reads."""
    return quote(name, safe="/~!$&'()*+,;=:@-._")


def parent_of(stream: str) -> str:
    """The prefix that the stream lies right below."""
    return stream[: stream.rfind("/") + 1]


def ancestors(stream: str) -> tuple[str, ...]:
    """Every prefix that the stream, or the prefix itself, lies below, from the root down."""
    return _prefixes_down_to(parent_of(stream))


@lru_cache(maxsize=1024)
def _prefixes_down_to(prefix: str) -> tuple[str, ...]:
    segments = prefix.split("/")
    return (ROOT, *("/".join(segments[:depth]) + "/" for depth in range(1, len(segments))))
