"""A directory's workload: people hired, renamed, moved and let go in every region, on few names.

Users are made by SCIM under a name that clients give the request, so that a plan knows their ids beforehand: an id is
told from who asks and under which key. Operations that come before their user was made are refused, which is as good.
"""

import random
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from simulations.plans.plan import Operation

PEOPLE, TEAMS, NAMES = 10, 3, 6
ID_BYTES = 16
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

DIRECTORY: dict[str, float] = {
    "hire": 2, "found-team": 0.7, "rename": 3, "retitle": 2, "join-team": 3, "leave-team": 2, "let-go": 0.5,
    "look-up": 3, "rows": 4, "split-off": 0.5, "put-back": 0.3,
}  # fmt: skip
"""What clients of a directory do, and how often."""


def draw_directory(draw: random.Random, kind: str, at: float, client: int, region: str, number: int) -> Operation:
    """One operation. Shape: people have fixed numbers, each hired by a client of the same number, at a fixed time."""
    person = draw.randrange(PEOPLE)
    stream, team = f"users/{_id(person)}", f"/Groups/team{draw.randrange(TEAMS)}"
    made: dict[str, Any] = {"at": at, "client": client, "region": region, "do": "scim", "method": "PATCH"}
    name = f"name{draw.randrange(NAMES)}"
    if kind == "hire":
        body = {"schemas": [USER], "userName": f"person{person}" if draw.random() < 0.5 else name}
        made |= {"method": "POST", "path": "/Users", "body": body, "key": True, "client": 1_000 + person, "at": at}
    elif kind == "found-team":
        made |= {
            "do": "write",
            "method": "",
            "stream": f"groups/{team[8:]}",
            "body": {"set": {"displayName": team[8:]}},
        }
    elif kind == "rename":
        name = draw.choice((name, name.upper(), name.title()))
        made |= {"path": f"/Users/{_id(person)}", "body": _patch("replace", "userName", name)}
    elif kind == "retitle":
        made |= {"path": f"/Users/{_id(person)}", "body": _patch("replace", "title", f"v{number}")}
    elif kind == "join-team":
        made |= {"path": team, "body": _patch("add", "members", [{"value": _id(person)}])}
    elif kind == "leave-team":
        made |= {"path": team, "body": _patch("remove", f'members[value eq "{_id(person)}"]')}
    elif kind == "let-go":
        made |= {"method": "DELETE", "path": f"/Users/{_id(person)}"}
    elif kind == "look-up":
        made |= {"method": "GET", "path": "/Users?filter=" + quote(f'userName eq "{name}"'), **_forced(draw)}
    elif kind == "rows":
        path = draw.choice((f"/views/users-by-name?key={name}", "/views/users-by-name", "/views/groups-of"))
        made |= {"do": "rows", "method": "", "path": path, **_forced(draw)}
    else:
        made |= {"do": "transaction", "method": "", "events": _split(stream, f"v{number}", away=kind == "split-off")}
    return Operation(**made)


def _id(person: int) -> str:
    """The id of who was hired: told from the client's name and its request's key."""
    return blake2b(f"client-{1_000 + person}\nhired\n0".encode(), digest_size=ID_BYTES).hexdigest()


def _patch(op: str, path: str, value: Any = None) -> dict[str, Any]:
    operation = {"op": op, "path": path} | ({} if value is None else {"value": value})
    return {"schemas": [PATCH], "Operations": [operation]}


def _forced(draw: random.Random) -> dict[str, Any]:
    return {"after": draw.choice(("", "session")), "wait": draw.choice((0.5, 2, 5))}


def _split(stream: str, title: str, *, away: bool) -> tuple[dict[str, Any], ...]:
    """The title, split off or put back, as `atoll streams` does it."""
    part = f"{stream}/work"
    if away:
        whole = {"title": None, "moved_to": {part: ["title"]}}
        return ({"stream": stream, "set": whole}, {"stream": part, "set": {"title": title, "moved_from": stream}})
    gone = {"title": None, "moved_to": {stream: ["*"]}}
    return ({"stream": stream, "set": {"title": title, "moved_to": None}}, {"stream": part, "set": gone})
