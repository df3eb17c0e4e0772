"""A request as the handlers see it: a name from the raw path, strict query parameters, a body within bounds."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import trio
from werkzeug.exceptions import RequestEntityTooLarge

from node.interface.content import JSON_TYPE, MERGE_PATCH_TYPE, MSGPACK_TYPE, parse
from node.interface.problems import Problem
from node.limits import BODY_BYTES_MAX, DRAIN_BYTES_MAX, DRAIN_S
from node.service import Node
from replication.errors import Invalid
from replication.limits import PAGE_DEFAULT, PAGE_MAX

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


class ClientGone(Exception):
    """The client went before its request was whole."""


@dataclass(eq=False)
class Request:
    """One request.

    Shape: `name` is the stream, prefix or dot of the path; `query` holds each parameter once; the names of `headers`
    are in lower case; `form` is the media type to answer in.
    """

    node: Node
    method: str
    path: bytes
    name: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    consumed: bool = False
    form: str = JSON_TYPE

    def flag(self, name: str) -> bool:
        """A parameter that is `true` or `false` [false]. Raises: Invalid."""
        value = self.query.get(name, "false")
        if value not in ("true", "false"):
            raise Invalid(name, "is true or false")
        return value == "true"

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A parameter that is a whole number. Raises: Invalid."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise Invalid(name, f"is a whole number from {least} to {most}")
        return int(text)

    @property
    def limit(self) -> int:
        """How many items a page may have."""
        return self.number("limit", PAGE_DEFAULT, 1, PAGE_MAX)

    async def content(self, most: int = BODY_BYTES_MAX) -> bytes:
        """The body's bytes.

        Raises: Problem (too-large), before all of it is read.
        """
        stated = self.headers.get("content-length")
        if stated is not None and stated.isdecimal() and int(stated) > most:
            raise Problem("too-large", f"the body has {stated} bytes; at most {most} are allowed")
        data = bytearray()
        try:
            async for chunk in self.chunks:
                data += chunk
                if len(data) > most:
                    raise Problem("too-large", f"the body has more than {most} bytes")
        except RequestEntityTooLarge:  # Quart's own bound, of what it holds ready for us
            raise Problem("too-large", f"the body has more than {most} bytes") from None
        self.consumed = True
        return bytes(data)

    async def drain(self) -> bool:
        """Read what is left of the body and drop it, so that the connection can go on; whether that came to an end.

        An answer can come before the body was read. What is left may be too much, or never come.
        """
        if self.consumed or not ("content-length" in self.headers or "transfer-encoding" in self.headers):
            return True
        stated = self.headers.get("content-length") or "0"
        left = DRAIN_BYTES_MAX if stated.isdecimal() and int(stated) <= BODY_BYTES_MAX + DRAIN_BYTES_MAX else 0
        with trio.move_on_after(DRAIN_S):
            try:
                async for chunk in self.chunks:
                    left -= len(chunk)
                    if left < 0:
                        return False
            except RequestEntityTooLarge:
                return False
            return True
        return False

    async def document(self, *types: str) -> tuple[Any, bytes]:
        """The body, read as the type that it says it has [JSON or msgpack], and its bytes.

        Raises: Problem (unsupported-media-type, too-large, malformed).
        """
        media_type = self.media_type(types or (JSON_TYPE, MSGPACK_TYPE))
        data = await self.content()
        return parse(data, media_type), data

    def media_type(self, allowed: Collection[str]) -> str:
        """The type that the body says it has. Raises: Problem (unsupported-media-type), for one not allowed."""
        stated, encoding = self.headers.get("content-type"), self.headers.get("content-encoding")
        if stated is not None and stated in allowed and encoding is None:
            return stated
        if encoding not in (None, "identity"):
            raise Problem("unsupported-media-type", f"content-encoding {encoding!r} is not taken; send it plain")
        media_type = (stated or JSON_TYPE).split(";")[0].strip().lower()
        if media_type in allowed:
            return media_type
        detail = f"{media_type!r} is not taken here; send {' or '.join(allowed)}"
        if media_type in FORM_TYPES:
            detail += f". With curl: curl -X {self.method} -H 'content-type: {JSON_TYPE}' -d '{{…}}' URL"
        raise Problem("unsupported-media-type", detail, {"accepted": list(allowed)})


PATCH_TYPES = (MERGE_PATCH_TYPE, JSON_TYPE, MSGPACK_TYPE)


def parse_query(raw: bytes, allowed: Iterable[str]) -> dict[str, str]:
    """The query's parameters, `+` being a blank as in every form.

    Raises: Invalid, for one that is unknown, comes twice, or is not UTF-8.
    """
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise Invalid("query", "is not a query of NAME=VALUE in percent-encoded UTF-8") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise Invalid(name, f"is not a parameter of this path; it takes: {known}")
        if name in query:
            raise Invalid(name, "comes twice")
        query[name] = value
    return query


def parse_any_query(raw: bytes) -> dict[str, str]:
    """A query whose parameters are not ours to list: what is not known there is left alone. Raises: Invalid."""
    try:
        return dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict"))
    except (UnicodeDecodeError, ValueError):
        raise Invalid("query", "is not a query of NAME=VALUE in percent-encoded UTF-8") from None
