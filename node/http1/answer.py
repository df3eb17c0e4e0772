"""What an answer's head is made of."""

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODILESS = {204, 304}


class Dates:
    """The Date header, written anew each second."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        second = self._now_ms() // 1000
        if second != self._second:
            self._second = second
            self._line = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line
