"""What identity providers send beside the RFC, read as what they mean.

Entra ID writes a manager, a single value of several parts, as its id alone, or as a list of one; the RFC has an
object. Okta sends the name of a member along, which is the member's own to say: it is left out. What else they send,
the library's policy reads: `Add` for `add`, a `remove` with values, a filter that describes a new entry.
"""

from collections.abc import Mapping
from typing import Any

from scim2_models import PatchOp, PatchOperation
from scim2_models.base import BaseModel

from node.directory.names import MEMBERS


def tolerated(patch: "PatchOp[Any]") -> "PatchOp[Any]":
    """The patch as it is meant."""
    operations = [_meant(operation) for operation in patch.operations or []]
    return patch.model_copy(update={"operations": operations})


def _meant(operation: "PatchOperation[Any]") -> "PatchOperation[Any]":
    value = operation.value
    if operation.path is None and isinstance(value, Mapping):
        named = {key: _nameless(inner) if key.casefold() == MEMBERS else inner for key, inner in value.items()}
        return operation.model_copy(update={"value": named})
    if operation.path is not None and operation.path.attr.casefold() == MEMBERS:
        return operation.model_copy(update={"value": _nameless(value)})
    if operation.path is None or not isinstance(value, str | list) or operation.path.value_filter is not None:
        return operation
    binding = operation.path.resolve()
    if binding is None or binding.is_multivalued or binding.sub_field_name is not None:
        return operation
    if not (isinstance(binding.field_type, type) and issubclass(binding.field_type, BaseModel)):
        return operation
    if isinstance(value, str):
        return operation.model_copy(update={"value": {"value": value}})
    if len(value) == 1 and isinstance(value[0], Mapping):
        return operation.model_copy(update={"value": dict(value[0])})
    return operation


def _nameless(members: Any) -> Any:
    """Members without `display`."""
    if isinstance(members, list):
        return [_nameless(member) for member in members]
    if isinstance(members, Mapping):
        return {key: value for key, value in members.items() if key.casefold() != "display"}
    return members
