"""Bytes on their way to somebody who may not be reading yet: in memory, and beyond a bound in a file.

Whoever answers while still being asked must not wait for the asker to read: it may send everything first, and both
would wait for ever. So answers are put aside here, up to a bound.
"""

import tempfile

from node.limits import SPOOL_BYTES_MAX, SPOOL_MEMORY_BYTES


class SpoolFull(Exception):
    """More waits to be read than may."""


class Spool:
    """First in, first out. Close it with `close`."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES)  # noqa: SIM115  # `close` closes it
        self._read = self._written = 0

    def put(self, data: bytes) -> None:
        """Raises: SpoolFull."""
        if self._written - self._read + len(data) > SPOOL_BYTES_MAX:
            raise SpoolFull(f"more than {SPOOL_BYTES_MAX} bytes of answers wait to be read")
        self._file.seek(self._written)
        self._file.write(data)
        self._written += len(data)

    def take(self, most: int) -> bytes:
        """What was put first and not taken yet; nothing where there is none."""
        if self._read == self._written:
            return b""
        self._file.seek(self._read)
        data = self._file.read(most)
        self._read += len(data)
        if self._read == self._written:
            self._file.seek(0)
            self._file.truncate()
            self._read = self._written = 0
        return data

    def close(self) -> None:
        self._file.close()
