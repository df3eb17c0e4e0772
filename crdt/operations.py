"""What one event may do to its stream: set a register, add to or remove from a set, delete.

Registers and sets have separate namespaces, so the field `name` may be both. A delete stands alone in its event,
and an event touches each cell (kind, field, element) at most once; whoever makes an event checks that.
"""

from dataclasses import dataclass
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


@dataclass(frozen=True, slots=True)
class Set:
    """Write a register. Null clears it, and competes like any value."""

    field: str
    value: JSON


@dataclass(frozen=True, slots=True)
class Add:
    """Put an element into a set."""

    field: str
    element: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Take out of a set the additions of an element that the event's context covers."""

    field: str
    element: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Reset every field that the event's context covers."""


Operation = Set | Add | Remove | Delete
