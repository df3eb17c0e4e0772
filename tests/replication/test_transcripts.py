"""Exchanges as transcripts: commands, a line of dashes, and what came of them. ATOLL_REWRITE=1 writes the outcomes anew.

write REGION STREAM [set F=V] [add F=E,E] [remove F=E,E] [delete] [stale]
exchange FROM->TO
clock REGION +MS
read REGION STREAM
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from replication.admission import LeftOut
from replication.event_codec import decode_header
from replication.exchange import lacking
from tests.helpers import Node

TRANSCRIPTS = sorted((Path(__file__).resolve().parents[1] / "transcripts").glob("*.txt"))


class Play:
    """The nodes of one transcript, made as they are named."""

    def __init__(self, make: Callable[..., Node]) -> None:
        self.make = make
        self.nodes: dict[str, Node] = {}

    def node(self, region: str) -> Node:
        if region not in self.nodes:
            self.nodes[region] = self.make(region, max_drift_ms=10_000)
        return self.nodes[region]

    def do(self, line: str) -> Iterator[str]:
        """What one command comes to."""
        command, *words = line.split()
        match command:
            case "write":
                yield self.write(*words)
            case "exchange":
                yield from self.exchange(*words[0].split("->"))
            case "clock":
                self.node(words[0]).now_ms += int(words[1])
            case "read":
                yield self.read(*words)
            case _:
                raise AssertionError(f"unknown command {line!r}")

    def write(self, region: str, stream: str, *words: str) -> str:
        made: dict[str, Any] = {}
        for kind, argument in zip(words[::2], words[1::2], strict=False):
            name, _, value = argument.partition("=")
            made.setdefault(kind, {})[name] = value if kind == "set" else value.split(",")
        if "delete" in words:
            made = {"delete": True}
        context: dict[str, int] | None = {} if "stale" in words else None
        made.pop("stale", None)
        written = self.node(region).write(stream, **made, context=context)
        return f"{region}: wrote {region}:{written.events[0].dot.seq}"

    def exchange(self, giver: str, taker: str) -> Iterator[str]:
        with self.node(giver).replica.read() as snapshot:
            transactions = lacking(snapshot, self.node(taker).digest())
        headers = [decode_header(transaction[0].header) for transaction in transactions]
        left_out = {(one.origin, one.seq): one for one in self.node(taker).apply(transactions).left_out}
        for header in headers:
            reason: LeftOut | None = left_out.get((header.origin, header.seq))
            name = f"{header.origin.partition('.')[0]}:{header.seq}"
            yield f"{taker}: {'arrived' if reason is None else reason.reason} {name} {header.stream}"
        if not headers:
            yield f"{taker}: nothing new"

    def read(self, region: str, stream: str) -> str:
        answer = self.node(region).answer(stream)
        if answer is None:
            return f"{region}: {stream} does not exist"
        registers = [f"{field}={value}" for field, value in answer.registers.items()]
        lost = [f"{field}!={write.value}" for field, writes in answer.conflicts.items() for write in writes]
        sets = [f"{field}={{{','.join(members)}}}" for field, members in answer.sets.items()]
        return f"{region}: {stream} {' '.join(registers + lost + sets)}"


@pytest.mark.parametrize("file", TRANSCRIPTS, ids=lambda file: file.stem)
def test_a_transcript_plays_as_it_is_written(node: Callable[..., Node], file: Path) -> None:
    play, played = Play(node), []
    text = file.read_text()
    for block in text.split("\n\n"):
        commands = block.partition("\n----")[0].splitlines()
        outcome = [said for line in commands if not line.startswith("#") for said in play.do(line)]
        played.append("\n".join([*commands, "----", *outcome]))
    written = "\n\n".join(played) + "\n"
    if "ATOLL_REWRITE" in os.environ:
        file.write_text(written)
    assert written == text
