"""A resource as fields, and back.

A single value is a register, named by its SCIM path: `userName`, `name.givenName`, `urn:…:User:department`. So two
regions that change different attributes both keep their change. A list is a set, and each of its elements the
canonical JSON of one value without `primary`; which one is primary is a register, so there is never more than one.
A value too long for an element stands in a register of its own, and its hash in the set.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from crdt.operations import JSON, Add, Operation, Remove, Set
from node.directory.names import GROUPS, MEMBERS, member_element
from node.directory.schema import GROUP, Kinds, kinds_of
from node.views.view import State
from replication.limits import ELEMENT_BYTES_MAX

LONG = "#"
HASH_BYTES = 16


@dataclass(slots=True)
class Fields:
    """A resource's registers and sets."""

    registers: dict[str, JSON] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)


def to_fields(document: Mapping[str, Any], resource_type: str) -> Fields:
    """The fields of a resource, as its model dumps it."""
    kinds = kinds_of(resource_type)
    fields = Fields()
    _put(document, "", kinds, fields)
    for urn in kinds.extensions:
        _put(document.get(urn) or {}, f"{urn}:", kinds, fields)
    if resource_type == GROUP:
        members = {element_of(member) for member in document.get(MEMBERS) or ()}
        if members:
            fields.sets[MEMBERS] = members
    return fields


def _put(document: Mapping[str, Any], before: str, kinds: Kinds, fields: Fields) -> None:
    for name, value in document.items():
        path = before + name
        if path in kinds.single:
            fields.registers[path] = value
        elif path in kinds.lists:
            for item in value or ():
                _put_item(path, item, fields)
        elif isinstance(value, dict):
            for part, inner in value.items():
                if f"{path}.{part}" in kinds.single:
                    fields.registers[f"{path}.{part}"] = inner


def _put_item(path: str, item: Any, fields: Fields) -> None:
    kept = {name: value for name, value in item.items() if name != "primary"} if isinstance(item, dict) else item
    element = canonical(kept)
    if len(element.encode()) > ELEMENT_BYTES_MAX:
        element = LONG + hashlib.blake2b(element.encode(), digest_size=HASH_BYTES).hexdigest()
        fields.registers[path + element] = kept
    fields.sets.setdefault(path, set()).add(element)
    if isinstance(item, dict) and item.get("primary"):
        fields.registers[f"{path}.primary"] = element


def canonical(value: JSON) -> str:
    """One text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def element_of(member: Mapping[str, Any]) -> str:
    """The element of `members` that a member, as SCIM writes it, stands for."""
    identity = str(member.get("value") or "")
    return member_element(GROUPS + identity) if member.get("type") == GROUP else identity


def fields_of(state: State, resource_type: str) -> Fields:
    """The fields that a resource has now: of what its stream holds, those that its schemas name."""
    kinds = kinds_of(resource_type)
    registers = {
        name: value
        for name, value in state.registers.items()
        if isinstance(value, kinds.single.get(name, ())) or _belongs_to_list(name, kinds)
    }
    sets = {name: set(state.sets[name]) for name in kinds.lists if name in state.sets}
    return Fields(registers, sets)


def _belongs_to_list(name: str, kinds: Kinds) -> bool:
    return name.removesuffix(".primary") in kinds.lists or (LONG in name and name.partition(LONG)[0] in kinds.lists)


def to_document(fields: Fields, resource_type: str) -> dict[str, Any]:
    """A resource as its model reads it, without what is told from elsewhere."""
    kinds = kinds_of(resource_type)
    document: dict[str, Any] = {"schemas": [_core(resource_type)]}
    for name, value in fields.registers.items():
        if name in kinds.single:
            inside, path = _within(document, name, kinds)
            first, _, part = path.partition(".")
            if part:
                inside.setdefault(first, {})[part] = value
            else:
                inside[first] = value
    for name in sorted(fields.sets.keys() & kinds.lists.keys()):
        items = list(_items(fields, name, kinds.lists[name]))
        if items:
            inside, path = _within(document, name, kinds)
            inside[path] = items
    document["schemas"] += [urn for urn in kinds.extensions if urn in document]
    return document


def _core(resource_type: str) -> str:
    return f"urn:ietf:params:scim:schemas:core:2.0:{resource_type}"


def _within(document: dict[str, Any], name: str, kinds: Kinds) -> tuple[dict[str, Any], str]:
    """The object that an attribute stands in, and its path there."""
    for urn in kinds.extensions:
        if name.startswith(f"{urn}:"):
            return document.setdefault(urn, {}), name[len(urn) + 1 :]
    return document, name


def _items(fields: Fields, name: str, parts: frozenset[str]) -> Iterator[Any]:
    primary = fields.registers.get(f"{name}.primary")
    for element in sorted(fields.sets[name]):
        value = fields.registers.get(name + element) if element.startswith(LONG) else _parse(element)
        if not parts:
            if isinstance(value, str):
                yield value
            continue
        item = value if isinstance(value, dict) else {"value": element}
        shown: dict[str, Any] = {part: text for part, text in item.items() if part in parts and isinstance(text, str)}
        if shown:
            yield shown | {"primary": element == primary} if "primary" in parts else shown


def _parse(element: str) -> Any:
    try:
        return json.loads(element)
    except ValueError:
        return element


def difference(before: Fields, after: Fields) -> tuple[Operation, ...]:
    """The least that turns one state into the other."""
    operations: list[Operation] = [
        Set(name, after.registers.get(name))
        for name in sorted(before.registers.keys() | after.registers.keys())
        if before.registers.get(name) != after.registers.get(name)
    ]
    for name in sorted(before.sets.keys() | after.sets.keys()):
        held, wanted = before.sets.get(name, set()), after.sets.get(name, set())
        operations += [Add(name, element) for element in sorted(wanted - held)]
        operations += [Remove(name, element) for element in sorted(held - wanted)]
    return tuple(operations)
