"""PATCH of a group's members without reading them: an addition or removal is a set operation, whatever the size.

What names its members one by one (`add members`, `remove members[value eq "…"]`, the `remove` with a value that
Entra ID sends) becomes those members' additions and removals. Anything else, such as replacing all of them, is
applied to the whole group by the library.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from scim2_models import InvalidValueException, PatchOp, PatchOperation
from scim2_models.path import CompareOperator, Comparison, FilterNode, LogicalExpr, LogicalOperator

from crdt.operations import Add, Operation, Remove
from node.directory.mapping import element_of
from node.directory.names import GROUPS, MEMBERS
from replication.queries import contains
from replication.snapshot import Snapshot
from replication.tables import StreamRow

Wanted = dict[str, bool]
"""Members to be there or not, by their element."""


def split(patch: "PatchOp[Any]") -> tuple[Wanted, list[PatchOperation[Any]]] | None:
    """What a patch does to members one by one, and its other operations; None where it asks for more than that.

    Raises: InvalidValueException.
    """
    wanted: Wanted = {}
    others: list[PatchOperation[Any]] = []
    for operation in patch.operations or []:
        if _on_members(operation):
            named = _named(operation)
            if named is None:
                return None
            wanted |= dict.fromkeys(named, operation.op == PatchOperation.Op.add)
        elif operation.path is None and _holds_members(operation.value):
            if operation.op != PatchOperation.Op.add:
                return None
            rest = {name: value for name, value in operation.value.items() if name.casefold() != MEMBERS}
            wanted |= dict.fromkeys(_elements(_members_in(operation.value)), True)
            if rest:
                others.append(operation.model_copy(update={"value": rest}))
        else:
            others.append(operation)
    return wanted, others


def _on_members(operation: PatchOperation[Any]) -> bool:
    return operation.path is not None and operation.path.attr.casefold() == MEMBERS


def _holds_members(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and any(name.casefold() == MEMBERS for name in value)


def _members_in(value: Mapping[str, Any]) -> Any:
    return next(inner for name, inner in value.items() if name.casefold() == MEMBERS)


def _named(operation: PatchOperation[Any]) -> list[str] | None:
    """The elements that an operation on members names one by one; None where it means others too."""
    path = operation.path
    assert path is not None
    if len(path.parts) > 1:
        return None
    if operation.op == PatchOperation.Op.add:
        return _elements(operation.value) if path.value_filter is None else None
    if operation.op != PatchOperation.Op.remove:
        return None
    if path.value_filter is not None:
        return _compared(path.value_filter)
    return _elements(operation.value) if operation.value else None


def _elements(value: Any) -> list[str]:
    members = value if isinstance(value, list) else [value]
    for member in members:
        if not isinstance(member, Mapping) or not isinstance(member.get("value"), str) or not member["value"]:
            raise InvalidValueException(detail='a member is an object with a "value", the id of a user or group')
    return [element_of(member) for member in members]


def _compared(node: FilterNode) -> list[str] | None:
    """The elements that a filter compares `value` with; both that it may stand for."""
    match node:
        case Comparison(attr_path=path, op=CompareOperator.eq, value=str(value)) if path.attr.casefold() == "value":
            return [value, GROUPS + value]
        case LogicalExpr(op=LogicalOperator.or_, terms=terms):
            named = [_compared(term) for term in terms]
            return None if None in named else [element for one in named for element in one or ()]
    return None


def operations_for(snapshot: Snapshot, row: StreamRow, wanted: Iterable[tuple[str, bool]]) -> Iterable[Operation]:
    """The operations that have the members be as wanted; each member is looked up by itself."""
    for element, present in wanted:
        if contains(snapshot, row, MEMBERS, element) != present:
            yield Add(MEMBERS, element) if present else Remove(MEMBERS, element)
