"""What the directory serves: the resource types and schemas of RFC 7643, without passwords, and what it announces.

Secrets never enter an event, so `password` is no attribute here: a client that asks the service learns so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from scim2_models import (
    Attribute,
    Bulk,
    ChangePassword,
    ETag,
    Filter,
    Mutability,
    Pagination,
    Patch,
    Schema,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
)
from scim2_server.utils import load_default_resource_types, load_default_schemas

from node.limits import SCIM_BULK_BYTES_MAX, SCIM_BULK_OPERATIONS_MAX, SCIM_PAGE_DEFAULT, SCIM_PAGE_MAX
from node.views.folding import fold

PASSWORD = "password"  # noqa: S105  # the attribute's name, not a secret
USER, GROUP = "User", "Group"
_DERIVED = ("id", "meta", "schemas", "groups", "members")
"""Attributes that are no field: they are told from the stream, or from views, or are a set of their own kind."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """How a resource type's attributes lie in fields.

    Shape: `single` maps each register's name to the type of its value, `lists` each set's name to its sub-attributes
    (none for a list of plain values).
    """

    single: Mapping[str, type]
    lists: Mapping[str, frozenset[str]]
    extensions: tuple[str, ...]


def _compared(binding: object, value: str) -> str:
    """What two values are compared by: as they are where case matters, else folded."""
    return value if getattr(binding, "case_exact", False) else fold(value)


@cache
def provider() -> ScimProvider:
    """The service as its discovery endpoints describe it."""
    return ScimProvider.from_discovery(
        _schemas(),
        load_default_resource_types().values(),
        config=_announced(),
        policy=ScimPolicy(
            unknown=ScimPolicy.Unknown.ignore,
            remove_value_as_filter=ScimPolicy.RemoveValue.apply,
            unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
            comparison_key=_compared,
        ),
    )


def _schemas() -> list[Schema]:
    schemas = list(load_default_schemas().values())
    for schema in schemas:
        schema.attributes = [one for one in schema.attributes or [] if one.name != PASSWORD]
        for attribute in schema.attributes:
            for part in attribute.sub_attributes or []:
                if (attribute.name, part.name) == ("members", "display"):
                    part.mutability = Mutability.read_only  # the member's own displayName
    return schemas


def _announced() -> ServiceProviderConfig:
    return ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=True, max_operations=SCIM_BULK_OPERATIONS_MAX, max_payload_size=SCIM_BULK_BYTES_MAX),
        filter=Filter(supported=True, max_results=SCIM_PAGE_MAX),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=True),
        etag=ETag(supported=True),
        pagination=Pagination(
            cursor=True,
            index=True,
            default_pagination_method=Pagination.DefaultPaginationMethod.index,
            default_page_size=SCIM_PAGE_DEFAULT,
            max_page_size=SCIM_PAGE_MAX,
        ),
    )


@cache
def kinds_of(resource_type: str) -> Kinds:
    """The fields of a resource type, by its name."""
    schemas = {str(schema.id): schema for schema in provider().schemas}
    [described] = [one for one in provider().resource_types if one.name == resource_type]
    single: dict[str, type] = {"externalId": str}
    lists: dict[str, frozenset[str]] = {}
    _collect(schemas[str(described.schema_)], "", single, lists)
    extensions = tuple(str(one.schema_) for one in described.schema_extensions or [])
    for urn in extensions:
        _collect(schemas[urn], f"{urn}:", single, lists)
    return Kinds(single, lists, extensions)


def _collect(schema: Schema, before: str, single: dict[str, type], lists: dict[str, frozenset[str]]) -> None:
    for attribute in schema.attributes or []:
        name = f"{before}{attribute.name}"
        if attribute.name in _DERIVED:
            continue
        parts = frozenset(str(part.name) for part in attribute.sub_attributes or [])
        if attribute.multi_valued:
            lists[name] = parts
        elif parts:
            single |= {f"{name}.{part.name}": _type(part) for part in attribute.sub_attributes or []}
        else:
            single[name] = _type(attribute)


def _type(attribute: Attribute) -> type:
    return bool if attribute.type == Attribute.Type.boolean else str
