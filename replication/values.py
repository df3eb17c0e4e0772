"""Which values and operations an event may carry: what JSON can say, within bounds that every region shares (I8, I9).

Checked where a value enters: from a client, and from a peer.
"""

from typing import Any

from crdt.operations import JSON, Add, Delete, Operation, Set
from replication.errors import Invalid
from replication.limits import ELEMENT_BYTES_MAX, FIELD_BYTES_MAX, OPERATIONS_MAX, VALUE_DEPTH_MAX

INTEGER_MIN = -(1 << 63)
INTEGER_MAX = (1 << 64) - 1


def is_count(value: object, most: int) -> bool:
    """Whether the value is a whole number from 0 to `most`; a boolean is none."""
    return type(value) is int and 0 <= value <= most


def check_text(text: object, field: str, bytes_max: int, *, empty: bool = False) -> str:
    """The text itself, if it is UTF-8 of 1 to `bytes_max` bytes (or empty, where that is allowed).

    Raises: Invalid, naming `field`.
    """
    if not isinstance(text, str):
        raise Invalid(field, "must be a string")
    if text and text.isascii() and len(text) <= bytes_max:
        return text
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid(field, "holds a lone surrogate, which UTF-8 cannot write") from None
    if size > bytes_max:
        raise Invalid(field, f"has {size} bytes; at most {bytes_max} are allowed")
    if not text and not empty:
        raise Invalid(field, "must not be empty")
    return text


def _is_plain(value: object) -> bool:
    """Whether the value is right at a glance, as most are."""
    if type(value) is str:
        return value.isascii()
    return value is None or type(value) is bool or (type(value) is int and INTEGER_MIN <= value <= INTEGER_MAX)


def check_value(value: Any, field: str, depth: int = 0) -> JSON:
    """The value itself, if it is JSON within bounds.

    Raises: Invalid, naming the field down to the part that is wrong.
    """
    match value:
        case _ if _is_plain(value):
            pass
        case int():
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                raise Invalid(field, "is an integer beyond 64 bits")
        case float():
            if value != value or value in (float("inf"), float("-inf")):
                raise Invalid(field, "is not a finite number")
        case str():
            _check_string(value, field)
        case list() | dict() if depth >= VALUE_DEPTH_MAX:
            raise Invalid(field, f"is nested deeper than {VALUE_DEPTH_MAX} levels")
        case list():
            for index, item in enumerate(value):
                check_value(item, f"{field}[{index}]", depth + 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise Invalid(field, "has a key that is not a string")
                _check_string(key, field)
                check_value(item, f"{field}.{key}", depth + 1)
        case _:
            raise Invalid(field, f"is of a type that JSON does not have ({type(value).__name__})")
    checked: JSON = value
    return checked


def _check_string(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(field.encode("utf-8", "replace").decode(), "holds a lone surrogate") from None


def check_operations(operations: list[Operation]) -> tuple[Operation, ...]:
    """The operations of one event, if they make one: within bounds, each cell once, a delete alone.

    Raises: Invalid, naming the field.
    """
    if not operations:
        raise Invalid("", "the event is empty: give at least one of set, add, remove, delete")
    if len(operations) > OPERATIONS_MAX:
        raise Invalid("", f"the event touches {len(operations)} cells; at most {OPERATIONS_MAX} are allowed")
    cells: set[str | tuple[str, str] | None] = set()
    for operation in operations:
        cell: str | tuple[str, str] | None
        if isinstance(operation, Set):
            cell, value = operation.field, operation.value
            if not (cell.isascii() and 0 < len(cell) <= FIELD_BYTES_MAX):  # as most are, at a glance
                check_text(cell, "set", FIELD_BYTES_MAX)
            if not _is_plain(value):
                check_value(value, f"set.{cell}")
        elif isinstance(operation, Delete):
            cell = None
        else:
            kind = "add" if isinstance(operation, Add) else "remove"
            field = check_text(operation.field, kind, FIELD_BYTES_MAX)
            cell = (field, check_text(operation.element, f"{kind}.{field}", ELEMENT_BYTES_MAX))
        if cell in cells:
            named = ".".join(cell) if isinstance(cell, tuple) else cell or ""
            raise Invalid(named, "the event touches this cell twice")
        cells.add(cell)
    if None in cells and len(cells) > 1:
        raise Invalid("delete", "stands alone in its event")
    return tuple(operations)
