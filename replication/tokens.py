"""Tokens: the version vector of a stream or prefix as text, with its scope.

`9c1f03aa~eu-west.5f2c9a10.12_us-east.77aa01bc.7`: eight hexadecimal digits of BLAKE2b of the name, then the
entries sorted by origin, in characters that need no quoting in a URL, a header or a shell. Equal states have equal
text in every region (I4), so a token serves as ETag, as condition and as causal context; tokens join by maximum.

Source: Terry et al. 1994, "Session guarantees for weakly consistent replicated data".
"""

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise

from crdt.dot import Dot
from crdt.version_vector import VersionVector
from replication.errors import Invalid
from replication.limits import SEQ_MAX, TOKEN_BYTES_MAX
from replication.origin import is_origin

SCOPE = re.compile(r"[0-9a-f]{8}")
SEQ = re.compile(r"[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed token."""

    scope: str
    vector: VersionVector


def scope_of(name: str) -> str:
    """The scope of a stream's or prefix's tokens."""
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()


def format_token(name: str, vector: VersionVector) -> str:
    """The token of a stream or prefix in this state."""
    entries = sorted(vector.items()) if len(vector) > 1 else vector.items()
    return f"{scope_of(name)}~" + "_".join([f"{origin}.{seq}" for origin, seq in entries])


def parse_token(text: object, field: str) -> Token:
    """Read a token of any scope.

    Raises: Invalid, naming `field`.
    """
    if not isinstance(text, str):
        raise Invalid(field, "must be a token, a string")
    if len(text) > TOKEN_BYTES_MAX:
        raise Invalid(field, f"is a token of more than {TOKEN_BYTES_MAX} characters")
    scope, separator, rest = text.partition("~")
    if not separator or not SCOPE.fullmatch(scope):
        raise Invalid(field, "is not a token: it does not start with a scope")
    dots = [_parse_entry(entry, field) for entry in rest.split("_")] if rest else []
    origins = [dot.origin for dot in dots]
    if any(first >= second for first, second in pairwise(origins)):
        raise Invalid(field, "is not a token: its entries are not in order")
    return Token(scope, dict(dots))


def _parse_entry(entry: str, field: str) -> Dot:
    dot = parse_dot(entry)
    if dot is None:
        raise Invalid(field, f"is not a token: {entry[:60]!r} is not an entry")
    return dot


def parse_dot(text: str) -> Dot | None:
    """The dot that a text names, or None where it names none."""
    origin, _, seq = text.rpartition(".")
    if not is_origin(origin) or not SEQ.fullmatch(seq) or int(seq) > SEQ_MAX:
        return None
    return Dot(origin, int(seq))


def parse_scoped(text: object, name: str, field: str) -> VersionVector:
    """The vector of a token that must be of this stream or prefix.

    Raises: Invalid, naming `field`.
    """
    token = parse_token(text, field)
    if token.scope != scope_of(name):
        raise Invalid(field, f"is a token of another scope than {name!r}")
    return token.vector
