"""A durable write over HTTP that is nothing else: the floor of the node's.

trio, httptools, the node's own writer, and of each event its two rows alone, as large as they are, in a copy of the
same store; writes that wait together share a commit, and are answered when it is synced. No HTTP but what this load
sends, no JSON, no event, no hash, no state: what the node takes more is what those cost in Python.

`python -m node.bench.bare DIRECTORY PORT`.
"""

import sys
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import httptools
import trio
from outcome import Value

from node import interpreter
from node.bench.floor import Rows
from node.disk import LocalDisk
from node.http1.wire import Wire
from node.limits import BACKLOG
from replication import tables
from replication.snapshot import read
from replication.store import Store

STREAMS = b"/streams/"
ANSWER = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"


class Asked:
    """What is heard of a request."""

    def __init__(self) -> None:
        self.stream = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.stream = url.removeprefix(STREAMS)

    def on_message_complete(self) -> None:
        self.complete = True


class Puts:
    """Puts rows of events that say nothing, after those that the store has."""

    asked: ClassVar[type[Asked]] = Asked

    def __init__(self, store: Store) -> None:
        self._store = store
        with read(store) as snapshot:
            [head] = snapshot.heads.values()
            self._number, self._seq = head.number, head.seq
            [(_, self._event)] = snapshot.walk("log", tables.log_key(head.number, head.seq))
            self._stream = next(row for _, row in snapshot.walk("streams", b"users/0"))
        self._waiting: list[tuple[trio.lowlevel.Task, Asked]] = []
        self._committing: list[tuple[trio.lowlevel.Task, bytes]] = []
        self._writer = LocalDisk().start_writer(self)

    async def put(self, asked: Asked) -> bytes:
        """One event on a stream; returns the answer when it is on the disk."""
        self._waiting.append((trio.lowlevel.current_task(), asked))
        self._writer.wake()
        answer: bytes = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return answer

    def turn(self, writes: Sequence[Asked]) -> tuple[Rows, Sequence[bytes]]:
        """The rows that these writes come to, and their answers."""
        first = self._seq + 1
        self._seq += len(writes)
        events = [(tables.log_key(self._number, seq), self._event) for seq in range(first, self._seq + 1)]
        streams = [(stream, self._stream) for stream in sorted({asked.stream for asked in writes})]
        return [("log", events), ("streams", streams)], [ANSWER] * len(writes)

    # --- what the writer asks for

    def work_out(self) -> bool:
        """There is nothing to work out."""
        return False

    def idle(self) -> None:
        """There is nothing that could wait."""

    def next_commit(self) -> Generator[None, None, None] | None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return None
        rows, answers = self.turn([asked for _, asked in waiting])
        self._committing = [(task, answer) for (task, _), answer in zip(waiting, answers, strict=True)]
        return self._commit(rows)

    def _commit(self, rows: Rows) -> Generator[None, None, None]:
        with self._store.writing() as transaction:
            for table, put in rows:
                transaction.cursor(db=self._store.dbs[table]).putmulti(put)
            yield

    def hand_back(self) -> None:
        for task, answer in self._committing:
            trio.lowlevel.reschedule(task, Value(answer))


async def _serve(puts: Puts, stream: trio.SocketStream) -> None:
    wire, asked = Wire(stream), puts.asked()
    parser = httptools.HttpRequestParser(asked)
    while data := await wire.read():
        parser.feed_data(data)
        if asked.complete:
            asked.complete = False
            await wire.write(await puts.put(asked))


async def main(kind: type[Puts], *arguments: str) -> None:
    """Serve writes of this kind, on the store in a directory, at a port."""
    directory, port = arguments
    interpreter.set_up()
    puts = kind(Store(Path(directory)))
    await trio.serve_tcp(partial(_serve, puts), int(port), host="127.0.0.1", backlog=BACKLOG)


if __name__ == "__main__":
    trio.run(main, Puts, *sys.argv[1:])
