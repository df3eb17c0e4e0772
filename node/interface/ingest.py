"""A stream of writes: events in, one a line, outcomes out, one a line, each once it is durable.

While a group of lines is committed the next is read and parsed, and the outcomes of those before are sent. A client
that sends faster than the disk writes is slowed down by TCP. One that sends everything before it reads anything is
let: its outcomes are put aside meanwhile.

Every line is an event of its own, with conditions of its own; one that is refused says so and the next goes on. Its
number is its place in the body, where blank lines count too, and have no outcome. The last line out is a summary:
without it, the answer was cut off, and lines whose outcome is missing may or may not have been written. Give each a
`source`, and the same lines can be sent again.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import msgpack  # type: ignore[import-untyped]  # it ships no annotations, and there are no stubs
import trio

from node.interface.conditions import wait_causal
from node.interface.content import JSON_TYPE, MSGPACK_TYPE, NDJSON_TYPE, check_depth, distinct, dump_json, parse
from node.interface.drafts import OPERATIONS, PROVENANCE, check_object, parse_draft, parse_provenance, parse_state
from node.interface.problems import Problem, problem_of
from node.interface.reply import SendPart, Stream
from node.interface.request import ClientGone, Request
from node.interface.spool import Spool, SpoolFull
from node.interface.writing import actor_of, describe
from node.limits import (
    BODY_BYTES_MAX,
    INGEST_GROUP_BYTES,
    INGEST_GROUP_LINES,
    INGEST_GROUPS,
    INGEST_PART_BYTES,
)
from replication.command import Command, Written
from replication.errors import Invalid, Refused
from replication.replica import Outcome
from replication.stream_name import check_stream

KEYS = ("stream", *OPERATIONS, "context", "expect", *PROVENANCE)
OF_ONE_WRITE = {
    "if-match": "expect",
    "if-none-match": "expect",
    "causal-context": "context",
    "idempotency-key": "source",
}
"""Headers of writes, and what a line has instead."""


async def ingest(request: Request) -> Stream:
    """Write many events, one a line; one outcome a line comes back as each is durable."""
    for header, instead in OF_ONE_WRITE.items():
        if header in request.headers:
            raise Invalid(header.title(), f"is for a single write; give each line {instead!r}")
    media_type = request.media_type((NDJSON_TYPE, JSON_TYPE, MSGPACK_TYPE))
    lines = _values(request) if media_type == MSGPACK_TYPE else _lines(request)
    preferences = {part.strip().lower() for part in (request.headers.get("prefer") or "").split(",")}
    actor = actor_of(request)
    await wait_causal(request)
    ingestion = _Ingestion(request, lines, actor, minimal="return=minimal" in preferences)
    return Stream(NDJSON_TYPE, ingestion.run, reads_on=True)


@dataclass(eq=False, slots=True)
class _Line:
    """One line: the command that it asks for, or what is wrong with it."""

    number: int
    asked: Command | Problem | Refused


@dataclass(eq=False, slots=True)
class _Group:
    """Lines that are written together. Shape: `size` in bytes."""

    lines: list[_Line] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        return len(self.lines) >= INGEST_GROUP_LINES or self.size >= INGEST_GROUP_BYTES


Part = list[tuple[int, int, Callable[[], Any]]]
"""What came together: of each line, its number in the body, its size, and what reads it."""
Parts = AsyncGenerator[Part, None]


class _Ingestion:
    def __init__(self, request: Request, parts: Parts, actor: str, *, minimal: bool) -> None:
        self._request = request
        self._parts = parts
        self._actor = actor
        self._minimal = minimal
        self._spool = Spool()
        self._news = trio.Event()
        self._slots = trio.Semaphore(INGEST_GROUPS)
        self._group = _Group()
        self._waits_for_client = self._ended = self._gave_up = False
        self._counts = {"lines": 0, "written": 0, "repeated": 0, "refused": 0}

    async def run(self, send: SendPart) -> None:
        """Read, write and answer until the client has sent its last line and every outcome is out.

        Raises: ClientGone.
        """
        await self._request.node.introduced.wait()
        gone = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                await self._answer(send)
        except* ClientGone:  # raised here, it would be one of a group before Python 3.11.4
            gone = True
        finally:
            self._ended = True
            self._spool.close()
        if gone:
            raise ClientGone

    async def _read(self) -> None:
        async with aclosing(self._parts) as parts:
            while (part := await self._next(parts)) is not None:
                for number, size, read in part:
                    self._counts["lines"] += 1
                    self._group.lines.append(_Line(number, self._parse(read)))
                    self._group.size += size
                    if self._group.full:
                        await self._slots.acquire()
                        self._write()
        await self._slots.acquire()
        self._write()
        for _ in range(INGEST_GROUPS):
            await self._slots.acquire()
        self._put(dump_json({"summary": self._counts}))
        self._ended = True

    async def _next(self, parts: Parts) -> Part | None:
        """What comes next; None after the last. What is there is written meanwhile, as far as there is room."""
        self._waits_for_client = True
        if self._slots.value == INGEST_GROUPS:  # else whatever is under way takes these along when it is done
            self._write_if_nothing_comes()
        try:
            return await anext(parts, None)
        finally:
            self._waits_for_client = False

    def _write_if_nothing_comes(self) -> None:
        """A client may wait for these outcomes before it sends more: lines must not wait for a group to be full."""
        if self._waits_for_client and self._group.lines and self._slots.value:
            self._slots.acquire_nowait()
            self._write()

    def _write(self) -> None:
        """Have the group written, in the room taken for it, and begin another."""
        group, self._group = self._group, _Group()
        commands = [line.asked for line in group.lines if isinstance(line.asked, Command)]
        try:
            self._request.node.enqueue(commands, group.size, partial(self._told, group))
        except Refused as refusal:
            self._told(group, [refusal for _ in commands])

    def _told(self, group: _Group, outcomes: list[Outcome]) -> None:
        if not self._ended:
            self._slots.release()
            self._put(b"".join(self._tell(group, iter(outcomes))))
            self._write_if_nothing_comes()

    def _put(self, data: bytes) -> None:
        try:
            self._spool.put(data)
        except (SpoolFull, OSError):
            self._gave_up = True  # it neither reads nor stops, or there is no room for what it does not read
        self._news.set()

    def _parse(self, read: Callable[[], Any]) -> Command | Problem | Refused:
        try:
            fields = check_object(read(), KEYS)
            stream = check_stream(fields.get("stream"))
            context, expect = (parse_state(fields, key, stream) for key in ("context", "expect"))
            draft = parse_draft(fields, stream, context)
            occurred_at, source = parse_provenance(fields)
            expected = {} if expect is None else {stream: (expect,)}
            return Command((draft,), actor=self._actor, expect=expected, occurred_at=occurred_at, source=source)
        except (Problem, Refused) as error:
            return error

    def _tell(self, group: _Group, outcomes: Iterator[Outcome]) -> Iterator[bytes]:
        """The outcomes of a group, in the order of its lines."""
        for line in group.lines:
            outcome = next(outcomes) if isinstance(line.asked, Command) else line.asked
            if isinstance(outcome, Written):
                self._counts["repeated" if outcome.repeated else "written"] += 1
                if not self._minimal:
                    yield dump_json({"line": line.number, "status": 201, **describe(outcome.events[0])})
            else:
                self._counts["refused"] += 1
                assert isinstance(outcome, Problem | Refused)
                problem = outcome if isinstance(outcome, Problem) else problem_of(outcome)
                yield dump_json({"line": line.number, **problem.document})

    async def _answer(self, send: SendPart) -> None:
        while True:
            ended, self._news = self._ended, trio.Event()
            if self._gave_up:
                raise ClientGone
            while part := self._spool.take(INGEST_PART_BYTES):
                await send(part)
            if ended:
                return
            await self._news.wait()


async def _lines(request: Request) -> Parts:
    """The lines of NDJSON, as they come in; the last is one without end. Raises: ClientGone."""
    begun, before = b"", 0
    async for chunk in request.chunks:
        *whole, begun = (begun + chunk).split(b"\n")
        numbered = enumerate(whole, before + 1)
        yield [(number, len(line), partial(parse, line, JSON_TYPE)) for number, line in numbered if line.strip()]
        before += len(whole)
        if len(begun) > BODY_BYTES_MAX:
            yield [_wrong(before + 1, Problem("too-large", f"a line has more than {BODY_BYTES_MAX} bytes"))]
            return
    if begun.strip():
        yield [(before + 1, len(begun), partial(parse, begun, JSON_TYPE))]


async def _values(request: Request) -> Parts:
    """msgpack values, one after another; the last is one that is none. Raises: ClientGone."""
    unpacker = msgpack.Unpacker(object_pairs_hook=distinct, strict_map_key=True, max_buffer_size=BODY_BYTES_MAX)
    number = read = fed = 0
    async for chunk in request.chunks:
        part: Part = []
        wrong: Problem | None = None
        try:
            unpacker.feed(chunk)
            fed += len(chunk)
            for value in unpacker:
                number += 1
                part.append((number, unpacker.tell() - read, partial(check_depth, value)))
                read = unpacker.tell()
        except Problem as problem:
            wrong = problem
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            wrong = Problem("malformed", f"not msgpack: {error}"[:200], {"field": "body"})
        if wrong is not None:
            yield [*part, _wrong(number + 1, wrong)]
            return
        yield part
    if read < fed:
        yield [_wrong(number + 1, Problem("malformed", "the last value is cut off", {"field": "body"}))]


def _wrong(number: int, problem: Problem) -> tuple[int, int, Callable[[], Any]]:
    """What cannot be read, so that nothing which follows can be told apart from it."""

    def read() -> NoReturn:
        raise problem

    return number, 0, read
