"""What clients do: operations drawn from a seed, on few streams, so that regions meet on the same ones.

A workload is a table of weights. What makes conflicts is drawn on purpose: the same register written in two regions
at one instant, an element added in one and removed in the other, two conditional writes at one token.
"""

import random
from typing import Any, NamedTuple

from simulations.draws import generator
from simulations.plans.directory import DIRECTORY, draw_directory
from simulations.plans.plan import Operation

CLIENTS_A_REGION = 2
ROAMING = 0.3
USERS, GROUPS = 8, 4
FIELDS = ("name", "email", "title")
SETS = ("members", "admins")
ELEMENTS = tuple(f"u{number}" for number in range(6))

WORKLOADS: dict[str, dict[str, float]] = {
    "mixed": {
        "set": 3, "member": 3, "transaction": 1, "delete": 0.7, "read": 10, "forced": 5,
        "conditional": 1.5, "keyed": 1.2, "stale": 1, "duel": 1, "race": 0.5, "clash": 1,
    },
    "registers": {"set": 6, "read": 2, "forced": 1, "stale": 1, "duel": 2},
    "memberships": {"member": 6, "read": 2, "forced": 1, "stale": 1, "clash": 2},
    "transactions": {"transaction": 5, "set": 1, "member": 1, "read": 2, "forced": 1},
    "tokens": {"forced": 4, "conditional": 3, "keyed": 2, "race": 1, "set": 2, "member": 2, "read": 1},
    "deletes": {"delete": 3, "set": 3, "member": 3, "stale": 2, "read": 2},
    "directory": DIRECTORY,
}  # fmt: skip


class _Drawing(NamedTuple):
    draw: random.Random
    regions: tuple[str, ...]
    clients: int

    def client(self) -> tuple[int, str]:
        """A client, and the region it asks: mostly its own."""
        number = self.draw.randrange(self.clients)
        home = self.regions[number % len(self.regions)]
        return number, self.draw.choice(self.regions) if self.draw.random() < ROAMING else home

    def two_clients(self) -> tuple[tuple[int, str], tuple[int, str]]:
        """Two clients, each in another region where there is one."""
        first, second = self.draw.sample(range(self.clients), 2)
        return (first, self.regions[first % len(self.regions)]), (second, self.regions[second % len(self.regions)])

    def user(self) -> str:
        return f"users/{self.draw.randrange(USERS)}"

    def group(self) -> str:
        return f"groups/{self.draw.randrange(GROUPS)}"


def draw_operations(
    seed: int, workload: str, regions: tuple[str, ...], duration: float, count: int
) -> tuple[Operation, ...]:
    """So many operations, spread over the time, in its order."""
    draw = generator(seed, "operations")
    drawing = _Drawing(draw, regions, max(2, CLIENTS_A_REGION * len(regions)))
    weights = {kind: weight * draw.choice((0.3, 1, 1, 3)) for kind, weight in WORKLOADS[workload].items()}
    kinds, shares = list(weights), list(weights.values())
    drawn: list[Operation] = []
    while len(drawn) < count:
        at = round(draw.uniform(0.1, duration), 3)
        [kind] = draw.choices(kinds, shares)
        drawn.extend(_draw(drawing, kind, at, len(drawn)))
    return tuple(sorted(drawn[:count], key=lambda operation: operation.at))


def _draw(drawing: _Drawing, kind: str, at: float, number: int) -> list[Operation]:
    draw = drawing.draw
    client, region = drawing.client()
    if kind in DIRECTORY:
        return [draw_directory(draw, kind, at, client, region, number)]
    if kind in ("duel", "race", "clash"):
        return _together(drawing, kind, at, number)
    options: dict[str, Any]
    if kind in ("read", "forced"):
        do, stream = draw.choice(("read", "read", "conflicts")), _any(drawing)
        options = {"after": "session" if kind == "forced" else "", "wait": draw.choice((0.5, 2, 5))}
    elif kind == "delete":
        do, stream = "delete", _any(drawing)
        options = {"context": draw.choice(("", "", "token"))}
    elif kind == "transaction":
        do, stream = "transaction", ""
        streams = sorted({drawing.user(), drawing.user(), drawing.group()})
        events = tuple({"stream": name, **_body(drawing, name, number)} for name in streams)
        options = {"events": events, "expect": draw.choice(("", "", "token")), "key": draw.random() < 0.3}
    else:
        do = "write"
        stream = drawing.group() if kind == "member" else drawing.user() if kind == "set" else _any(drawing)
        options = {"body": _body(drawing, stream, number), **_extras(drawing, kind, region)}
    made: dict[str, Any] = {"at": at, "client": client, "region": region, "do": do, "stream": stream, **options}
    return [Operation(**made)]


def _extras(drawing: _Drawing, kind: str, region: str) -> dict[str, Any]:
    """What a write asks for besides."""
    draw = drawing.draw
    if kind == "conditional":
        return {"expect": draw.choice(("token", "token", "absent"))}
    if kind == "stale":
        return {"context": draw.choice(("token", "part", "nothing"))}
    if kind == "keyed":
        return {"key": True, "again": draw.choice((region, region, draw.choice(drawing.regions)))}
    return {"after": draw.choice(("", "", "stream"))}


def _any(drawing: _Drawing) -> str:
    return drawing.draw.choice((drawing.user(), drawing.group()))


def _body(drawing: _Drawing, stream: str, number: int) -> dict[str, Any]:
    draw = drawing.draw
    if stream.startswith("users/"):
        fields = draw.sample(FIELDS, draw.choice((1, 1, 2)))
        return {"set": {field: None if draw.random() < 0.1 else f"v{number}" for field in fields}}
    field, some = draw.choice(SETS), draw.sample(ELEMENTS, draw.choice((1, 1, 2)))
    if draw.random() < 0.1 and len(some) == 2:
        return {"add": {field: some[:1]}, "remove": {field: some[1:]}}
    return {draw.choice(("add", "add", "remove")): {field: some}}


def _together(drawing: _Drawing, kind: str, at: float, number: int) -> list[Operation]:
    """Two clients who meet on one stream."""
    draw = drawing.draw
    (first, here), (second, there) = drawing.two_clients()
    user, group = drawing.user(), drawing.group()
    if kind == "duel":
        field = draw.choice(FIELDS)
        return [
            Operation(at, first, here, "write", user, {"set": {field: f"v{number}-first"}}),
            Operation(at, second, there, "write", user, {"set": {field: f"v{number}-second"}}),
        ]
    if kind == "clash":
        field, element = draw.choice(SETS), draw.choice(ELEMENTS)
        return [
            Operation(at, first, here, "write", group, {"add": {field: [element]}}),
            Operation(at, second, there, "write", group, {"remove": {field: [element]}}),
        ]
    writes = [{"set": {"name": f"v{number}-{who}"}} for who in ("first", "second")]
    return [
        Operation(at, first, here, "read", user),
        Operation(at, second, here, "read", user),
        Operation(round(at + 0.1, 3), first, here, "write", user, writes[0], expect="token"),
        Operation(round(at + 0.1, 3), second, here, "write", user, writes[1], expect="token"),
    ]
