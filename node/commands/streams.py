"""`atoll streams split` and `join`: move fields between streams in one transaction.

The fields are cleared where they were, with what was seen as context, and set where they go; the old stream notes
where they went, and the new one where they came from. What another region wrote to the old stream meanwhile is not
covered, so it stays, and `atoll conflicts` lists it.
"""

from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import App, Parameter

from node.commands.asking import NODE, Asked, asking
from node.directory.names import CLAIMS, GROUPS, MEMBERS
from node.errors import CommandFailed
from node.views.state import MOVED_FROM, MOVED_TO
from replication.errors import Invalid
from replication.stream_name import check_stream, format_path
from replication.tokens import scope_of

app = App(name="streams", help="Move fields between streams: split some off, or join them again.")
ALL = "*"


@app.command
async def split(
    stream: str, /, *, fields: Annotated[list[str], Parameter(negative=())], to: str, node: str = NODE
) -> None:
    """Move some of a stream's fields to another stream; who reads the first one with `follow` sees them still.

    Parameters
    ----------
    stream
        The stream that has them, such as users/4.
    fields
        Their names; `preferences.*` takes all that begin so.
    to
        The stream to move them to, such as users/4/preferences.
    node
        The node to write to.
    """
    _check(stream, to)
    async with asking(node) as asked:
        source, target = await _read(asked, stream), await _read(asked, to)
        moving = _select(source, fields)
        if not moving.registers and not moving.sets:
            raise CommandFailed(f"{stream} has no field that {', '.join(fields)} names")
        if stream.startswith(CLAIMS) or (stream.startswith(GROUPS) and MEMBERS in moving.sets):
            raise CommandFailed(f"{stream}: a group's members and the holders of a claim stay where they are")
        if target.registers.get(MOVED_FROM) not in (None, stream):
            raise CommandFailed(f"{to} was split off {target.registers[MOVED_FROM]!r}")
        if MOVED_FROM not in target.registers or MOVED_TO in target.registers:  # else what was written since wins
            _check_overwrites_nothing(moving, target)
        noted = dict(source.registers.get(MOVED_TO) or {})
        noted[to] = sorted({*noted.get(to, ()), *fields})
        there = {MOVED_FROM: stream} | ({MOVED_TO: None} if MOVED_TO in target.registers else {})
        await _move(asked, moving, source, target, {MOVED_TO: noted}, there)
    print(f"{_count(moving)} of {stream} moved to {to}")


@app.command
async def join(stream: str, /, *, into: str, node: str = NODE) -> None:
    """Move everything of a stream that was split off back.

    Parameters
    ----------
    stream
        The stream to empty, such as users/4/preferences.
    into
        The stream that it was split off, such as users/4.
    node
        The node to write to.
    """
    _check(stream, into)
    async with asking(node) as asked:
        source, target = await _read(asked, stream), await _read(asked, into)
        if source.registers.get(MOVED_FROM) != into:
            raise CommandFailed(f"{stream} was not split off {into}")
        moving = _select(source, [ALL])
        _check_overwrites_nothing(moving, target)
        noted = {name: names for name, names in (target.registers.get(MOVED_TO) or {}).items() if name != stream}
        await _move(asked, moving, source, target, {MOVED_TO: {into: [ALL]}}, {MOVED_TO: noted or None})
    print(f"{_count(moving)} of {stream} moved to {into}")


class _Stream:
    """A stream as it was read."""

    def __init__(self, name: str, registers: dict[str, Any], sets: dict[str, list[str]], token: str) -> None:
        self.name = name
        self.registers = registers
        self.sets = sets
        self.token = token


def _check(*names: str) -> None:
    try:
        for name in names:
            check_stream(name)
    except Invalid as error:
        raise CommandFailed(str(error)) from None
    whole, part = sorted(names, key=len)
    if not part.startswith(f"{whole}/"):
        raise CommandFailed(f"what is split off a stream lies below it: {whole}/…")


async def _read(asked: Asked, name: str) -> _Stream:
    answer = (await asked.post("/resolve", {"streams": [name]}, "streams"))["streams"][0]
    if answer.get("status") == 404:
        return _Stream(name, {}, {}, answer.get("token", f"{scope_of(name)}~"))
    if "detail" in answer:
        raise CommandFailed(answer["detail"])
    keys = ("registers", "sets", "conflicts", "token")
    shown = await asked.get(f"/streams/{format_path(name)}", *keys, conflicts="true")
    sets = dict(shown["sets"])
    for field in shown.get("large_sets", {}):
        path = f"/streams/{format_path(name)}?set={quote(field)}&limit=1000"
        sets[field] = [member async for member in asked.pages(path, "members")]
    lost = [field for field in shown["conflicts"] if field not in (MOVED_TO, MOVED_FROM)]
    if lost:
        raise CommandFailed(f"{name} has conflicts in {', '.join(lost)}: write these fields first")
    return _Stream(name, shown["registers"], sets, shown["token"])


def _check_overwrites_nothing(moving: _Stream, target: _Stream) -> None:
    other = [name for name, value in moving.registers.items() if target.registers.get(name) not in (None, value)]
    if other:
        raise CommandFailed(
            f"{target.name} holds other values of {', '.join(other)}: clear them in one of the two first"
        )


def _select(stream: _Stream, patterns: list[str]) -> _Stream:
    def named(field: str) -> bool:
        return field not in (MOVED_TO, MOVED_FROM) and any(fnmatchcase(field, pattern) for pattern in patterns)

    registers = {field: value for field, value in stream.registers.items() if named(field)}
    sets = {field: members for field, members in stream.sets.items() if named(field)}
    return _Stream(stream.name, registers, sets, stream.token)


async def _move(
    asked: Asked, moving: _Stream, source: _Stream, target: _Stream, here: dict[str, Any], there: dict[str, Any]
) -> None:
    away: dict[str, Any] = {"stream": source.name, "set": dict.fromkeys(moving.registers) | here}
    arriving: dict[str, Any] = {"stream": target.name, "set": moving.registers | there}
    if moving.sets:
        away["remove"] = arriving["add"] = moving.sets
    expect = {source.name: source.token, target.name: target.token}
    await asked.post("/transactions", {"events": [away, arriving], "expect": expect}, "events")


def _count(moved: _Stream) -> str:
    count = len(moved.registers) + len(moved.sets)
    return f"{count} field{'s' if count != 1 else ''}"
