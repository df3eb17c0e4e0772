"""Where a page goes on: opaque, and bound to the path and parameters that it was given for."""

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import quote

from node.interface.request import Request
from replication.errors import Invalid, Malformed
from replication.packing import pack, unpack

_SCOPE_BYTES = 6


def encode_cursor(request: Request, position: Any) -> str:
    """The cursor of a position in what the request pages through."""
    return base64.urlsafe_b64encode(pack([_scope(request), position])).decode().rstrip("=")


def decode_cursor(request: Request) -> Any:
    """The position of the request's cursor, or None where it has none.

    Raises: Invalid, for a cursor of another path or other parameters, or none of ours.
    """
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        scope, position = unpack(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (Malformed, binascii.Error, ValueError, TypeError):
        raise Invalid("cursor", "is not a cursor that this node gave") from None
    if scope != _scope(request):
        raise Invalid("cursor", "was given for another path or other parameters")
    return position


def text_position(request: Request) -> str:
    """The position of a cursor that is text; empty where there is none. Raises: Invalid."""
    position = decode_cursor(request)
    if position is None:
        return ""
    if not isinstance(position, str):
        raise Invalid("cursor", "is not a cursor that this node gave")
    return position


def _scope(request: Request) -> bytes:
    kept = sorted((name, value) for name, value in request.query.items() if name not in ("cursor", "limit"))
    return hashlib.blake2b(pack([request.path, kept]), digest_size=_SCOPE_BYTES).digest()


def next_link(request: Request, position: Any) -> dict[str, str]:
    """The `Link` header to the next page; none where there is none."""
    if position is None:
        return {}
    query = {**request.query, "cursor": encode_cursor(request, position)}
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    return {"link": f'<{request.path.decode("ascii")}?{text}>; rel="next"'}
