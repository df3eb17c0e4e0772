"""Requests out of bytes: httptools reads them, and what it lets through and RFC 9112 does not is refused here."""

from collections import deque

import httptools

from node.limits import HEAD_BYTES_MAX, HEADERS_MAX

HTTP2_PREFACE = b"PRI * HTTP/2.0"


class BadRequest(Exception):
    """Bytes that are no request that this server takes."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Message:
    """A request as it was read so far."""

    __slots__ = ("chunks", "complete", "headers", "http11", "keep_alive", "method", "target", "waits_for_continue")

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.http11 = True
        self.keep_alive = True
        self.waits_for_continue = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.complete = False

    def head_without_upgrade(self) -> bytes:
        """The head as it would be, had the client not proposed another protocol."""
        first = b"%b %b HTTP/1.%d\r\n" % (self.method.encode(), self.target, self.http11)
        return first + b"".join([b"%b: %b\r\n" % one for one in self.headers if one[0] != b"upgrade"]) + b"\r\n"


class Parser:
    """Requests out of bytes. `ready` holds those whose head is complete, in order."""

    def __init__(self) -> None:
        self.ready: deque[Message] = deque()
        self._parser = httptools.HttpRequestParser(self)
        self._message: Message | None = None
        self._head_bytes = 0
        self._in_head = False
        self._heard_body = False
        self._refused: BadRequest | None = None

    @property
    def in_head(self) -> bool:
        """Whether a request has begun whose head is not complete."""
        return self._in_head

    @property
    def in_body(self) -> bool:
        """Whether a request has begun whose head is complete, and whose body is not."""
        return self._message is not None and not (self._in_head or self._message.complete)

    def feed(self, data: bytes) -> None:
        """Read on. Raises: BadRequest; what came before it in the same bytes is in `ready`."""
        self._heard_body = False
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if self._refused is not None:
                raise self._refused from None
            if data.startswith(HTTP2_PREFACE):
                raise BadRequest(505, "this server speaks HTTP/1.1") from None
            raise BadRequest(400, f"not a request: {error}") from None
        self._bound(len(data))

    def _feed(self, data: bytes) -> None:
        """httptools takes what follows an Upgrade for another protocol. Here it is let be (RFC 9110, section 7.8), so
        the request is read once more without it, and its body with it.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self.ready.pop().head_without_upgrade() + data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
            else:
                return

    def _bound(self, size: int) -> None:
        """Refuse a head, a trailer or a chunk's line that goes on and on."""
        if self._message is None or self._message.complete or self._heard_body:
            self._head_bytes = 0
            return
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            raise BadRequest(431, f"the request's head has more than {HEAD_BYTES_MAX} bytes")

    def _refuse(self, status: int, detail: str) -> None:
        self._refused = BadRequest(status, detail)
        raise self._refused

    # --- what httptools calls

    def on_message_begin(self) -> None:
        self._message = Message()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        assert self._message is not None
        self._message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        message = self._message
        assert message is not None
        if not self._in_head:
            return  # a trailer: read, and let be
        message.headers.append((name.lower(), value))
        if len(message.headers) > HEADERS_MAX:
            self._refuse(431, f"the request has more than {HEADERS_MAX} headers")

    def on_headers_complete(self) -> None:
        message, parser = self._message, self._parser
        assert message is not None
        self._in_head = False
        message.method = parser.get_method().decode("ascii")
        message.keep_alive = parser.should_keep_alive()
        version = parser.get_http_version()
        if version != "1.1":
            message.http11 = False
            if version != "1.0":
                self._refuse(505, f"HTTP/{version} is not spoken here")
        self._check(message)
        self.ready.append(message)

    def _check(self, message: Message) -> None:
        hosts = 0
        for name, value in message.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    self._refuse(501, "the only transfer-encoding taken is chunked")
                if not message.http11:
                    self._refuse(400, "HTTP/1.0 has no transfer-encoding")
            elif name == b"expect":
                if value.strip().lower() != b"100-continue":
                    self._refuse(417, "the only expectation met is 100-continue")
                message.waits_for_continue = message.http11
        if hosts != 1 and (hosts or message.http11):
            self._refuse(400, "a request has one Host header")
        if message.method == "CONNECT":
            self._refuse(501, "this is no proxy")
        if not message.target.startswith(b"/"):
            message.target = self._origin_form(message.target)

    def _origin_form(self, target: bytes) -> bytes:
        """Source: RFC 9112, section 3.2."""
        scheme, separator, rest = target.partition(b"://")
        if separator and scheme.lower() in (b"http", b"https"):
            path = rest[len(rest.partition(b"/")[0].partition(b"?")[0]) :]
            return path if path.startswith(b"/") else b"/" + path
        if target != b"*":
            self._refuse(400, "the request's target is neither a path nor a URL")
        return target

    def on_body(self, body: bytes) -> None:
        assert self._message is not None
        self._heard_body = True
        self._message.chunks.append(body)

    def on_message_complete(self) -> None:
        assert self._message is not None
        self._message.complete = True
