"""What one event may do to its stream: set a register, add to or remove from a set, delete.

Registers and sets have separate namespaces, so the field `name` may be both. A delete stands alone in its event,
and an event touches each cell (kind, field, element) at most once; whoever makes an event checks that.

Operations are values: their fields are final, which mypy holds. To freeze them as they are made would cost as much as
to make them, and each event makes some.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


@dataclass(slots=True, unsafe_hash=True)
class Set:
    """Write a register. Null clears it, and competes like any value."""

    field: Final[str]
    value: Final[JSON]


@dataclass(slots=True, unsafe_hash=True)
class Add:
    """Put an element into a set."""

    field: Final[str]
    element: Final[str]


@dataclass(slots=True, unsafe_hash=True)
class Remove:
    """Take out of a set the additions of an element that the event's context covers."""

    field: Final[str]
    element: Final[str]


@dataclass(slots=True, unsafe_hash=True)
class Delete:
    """Reset every field that the event's context covers."""


Operation = Set | Add | Remove | Delete
