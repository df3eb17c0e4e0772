"""How the directory lies in streams: which are users and groups, and the registers and sets that mean something.

| stream                    | holds                                                                            |
|---------------------------|----------------------------------------------------------------------------------|
| users/{id}, groups/{id}   | a resource: a register a single value, a set a list, `deleted` once it is gone   |
| claims/{attribute}/{hash} | who uses a unique value: the set `holders`, of streams                           |

An id is never used again: a deleted resource keeps its marker, which nothing in the directory resets.
"""

import hashlib
from typing import TypeGuard

from node.views.state import MOVED_FROM
from node.views.view import State

USERS, GROUPS, CLAIMS = "users/", "groups/", "claims/"
MEMBERS, HOLDERS = "members", "holders"
DELETED = "deleted"
CLAIM_BYTES = 16


def is_resource(state: State | None) -> TypeGuard[State]:
    """Whether a stream is a user or group that exists: not deleted, and not a part split off one."""
    return state is not None and not state.registers.get(DELETED) and MOVED_FROM not in state.registers


def claim_stream(attribute: str, key: str) -> str:
    """The stream of the claims on a value of a unique attribute. Shape: `key` is the value as it is compared."""
    return f"{CLAIMS}{attribute}/{hashlib.blake2b(key.encode(), digest_size=CLAIM_BYTES).hexdigest()}"


def member_stream(element: str) -> str:
    """The stream that an element of `members` stands for: a group's by its name, a user's by its id alone."""
    return element if element.startswith(GROUPS) else USERS + element


def member_element(stream: str) -> str:
    """The element of `members` that stands for a stream."""
    return stream if stream.startswith(GROUPS) else stream.removeprefix(USERS)
