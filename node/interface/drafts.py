"""Events as clients write them: `{"set": {…}, "add": {…}, "remove": {…}}` or `{"delete": true}`."""

from collections.abc import Iterable, Iterator
from typing import Any

from crdt.operations import Add, Delete, Operation, Remove, Set
from crdt.version_vector import VersionVector
from node.interface.moments import parse_moment
from replication.command import Draft
from replication.errors import Invalid
from replication.event import Source, check_source
from replication.tokens import parse_scoped

OPERATIONS = ("set", "add", "remove", "delete")
PROVENANCE = ("occurred_at", "source")


def check_object(value: Any, allowed: tuple[str, ...], path: str = "") -> dict[str, Any]:
    """The value itself, if it is an object of these keys.

    Raises: Invalid, naming the key, below `path`.
    """
    if not isinstance(value, dict):
        raise Invalid(path.rstrip(".") or "body", "must be an object")
    for key in value:
        if key not in allowed:
            raise Invalid(f"{path}{key}", f"is not known here; known are {', '.join(allowed)}")
    return value


def parse_draft(value: dict[str, Any], stream: str, context: VersionVector | None = None, path: str = "") -> Draft:
    """One event to be, from its operations.

    Raises: Invalid, naming the field, below `path`.
    """
    try:
        return Draft(stream, tuple(_operations(value)), context=context)
    except Invalid as error:
        raise Invalid(path + error.field if error.field else path.rstrip("."), error.detail) from None


def parse_state(value: dict[str, Any], key: str, stream: str, path: str = "") -> VersionVector | None:
    """The state of a stream that a key names by its token; None where there is no such key.

    Raises: Invalid, naming the key, below `path`.
    """
    return parse_scoped(value[key], stream, path + key) if key in value else None


def _operations(value: dict[str, Any]) -> Iterator[Operation]:
    for field, written in _fields(value, "set"):
        yield Set(field, written)
    for kind, operation in (("add", Add), ("remove", Remove)):
        for field, elements in _fields(value, kind):
            if not isinstance(elements, list) or not elements:
                raise Invalid(f"{kind}.{field}", "must be a list of at least one element")
            for element in elements:
                if not isinstance(element, str):
                    raise Invalid(f"{kind}.{field}", "has an element that is not a string")
                yield operation(field, element)
    if "delete" in value:
        if value["delete"] is not True:
            raise Invalid("delete", "is true, or left out")
        yield Delete()


def spell(operations: Iterable[Operation]) -> dict[str, Any]:
    """Operations as clients write them."""
    shown: dict[str, Any] = {}
    for operation in operations:
        match operation:
            case Set(field, value):
                shown.setdefault("set", {})[field] = value
            case Add(field, element):
                shown.setdefault("add", {}).setdefault(field, []).append(element)
            case Remove(field, element):
                shown.setdefault("remove", {}).setdefault(field, []).append(element)
            case Delete():
                shown["delete"] = True
    return shown


def _fields(value: dict[str, Any], kind: str) -> Iterable[tuple[str, Any]]:
    if kind not in value:
        return ()
    fields = value[kind]
    if not isinstance(fields, dict) or not fields:
        raise Invalid(kind, "must be an object of at least one field")
    return fields.items()


def parse_provenance(value: dict[str, Any]) -> tuple[str | None, Source | None]:
    """When an event happened, where that is not now, and where it was imported from.

    Raises: Invalid, naming the field.
    """
    occurred_at = value.get("occurred_at")
    if "occurred_at" in value:
        parse_moment(occurred_at, "occurred_at")
    if "source" not in value:
        return occurred_at, None
    source = check_object(value["source"], ("name", "position"), "source.")
    return occurred_at, check_source(source.get("name"), source.get("position"))
