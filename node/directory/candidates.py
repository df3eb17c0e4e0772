"""Which index narrows a filter, and to what: the plan of a search.

A plan names the streams among which everything that the filter matches must be; each is resolved and matched after
that. A conjunction is narrowed by its best term, a disjunction only where every term can be.

| asked                                           | narrowed by                              |
|-------------------------------------------------|------------------------------------------|
| eq on id, userName, externalId, emails, members | one key                                  |
| eq on a group's displayName                     | one key                                  |
| sw on these, but for id and members             | a range of keys                          |
| co, sw, ew on names, userName, emails           | the text index, from three characters on |
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from scim2_models.path import (
    AttrPath,
    CompareOperator,
    Comparison,
    FilterNode,
    LogicalExpr,
    LogicalOperator,
    ValuePath,
)

from node.directory.names import GROUPS
from node.directory.schema import GROUP, USER
from node.limits import SEARCH_CHARACTERS_MIN
from node.views.folding import fold

_EXACT = {
    (USER, "username"): "users-by-name",
    (USER, "externalid"): "users-by-external-id",
    (USER, "emails"): "users-by-email",
    (USER, "emails.value"): "users-by-email",
    (GROUP, "displayname"): "groups-by-name",
    (GROUP, "externalid"): "groups-by-external-id",
}
_SEARCHED = (
    "username", "displayname", "nickname", "emails", "emails.value", "name.formatted", "name.givenname",
    "name.familyname", "name.middlename",
)  # fmt: skip
_MEMBERS = ("members", "members.value")


@dataclass(frozen=True, slots=True)
class Key:
    """Streams that one key of a view leads to."""

    view: str
    key: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """Streams that the keys of a view with a prefix lead to."""

    view: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Text:
    """Streams that a text leads to, wherever it stands."""

    view: str
    text: str


@dataclass(frozen=True, slots=True)
class Id:
    """One resource."""

    identity: str


Source = Key | Prefix | Text | Id
Plan = tuple[Source, ...]
"""Where the candidates come from, all together."""


def plan(kind: str, node: FilterNode) -> Plan | None:
    """The plan of a filter on one resource type; None where no index narrows it."""
    match node:
        case Comparison():
            return _plan_comparison(kind, node)
        case ValuePath(attr_path=path, val_filter=inner):
            return plan(kind, _outside(path, inner))
        case LogicalExpr(op=LogicalOperator.and_, terms=terms):
            plans = [found for term in terms if (found := plan(kind, term)) is not None]
            return min(plans, key=_cost, default=None)
        case LogicalExpr(op=LogicalOperator.or_, terms=terms):
            every = [plan(kind, term) for term in terms]
            return None if None in every else tuple(source for found in every for source in found or ())
    return None


def _cost(sources: Plan) -> int:
    order = (Id, Key, Text, Prefix)
    return max(order.index(type(source)) for source in sources)


def _outside(path: AttrPath, node: FilterNode) -> FilterNode:
    """The filter inside `emails[…]`, with the paths that its terms have outside."""
    match node:
        case Comparison(attr_path=inner):
            return replace(node, attr_path=AttrPath(path.attr, inner.attr, path.uri))
        case LogicalExpr(terms=terms):
            return replace(node, terms=tuple(_outside(path, term) for term in terms))
    return node


def _plan_comparison(kind: str, node: Comparison) -> Plan | None:
    name, value = name_of(node.attr_path), node.value
    if not isinstance(value, str):
        return None
    if node.op == CompareOperator.eq:
        if name == "id":
            return (Id(value),)
        if kind == GROUP and name in _MEMBERS:
            return (Key("groups-of", value), Key("groups-of", GROUPS + value))
        view = _EXACT.get((kind, name))
        return None if view is None else (Key(view, value),)
    view = _EXACT.get((kind, name))
    if node.op == CompareOperator.sw and view is not None:
        return (Prefix(view, value),)
    if node.op in (CompareOperator.co, CompareOperator.sw, CompareOperator.ew) and kind == USER and name in _SEARCHED:
        return (Text("users-search", value),) if len(fold(value)) >= SEARCH_CHARACTERS_MIN else None
    return None


def name_of(path: AttrPath) -> str:
    """An attribute's path in lower case, without its schema."""
    return (f"{path.attr}.{path.sub_attr}" if path.sub_attr else path.attr).casefold()


def members_named(node: FilterNode | None) -> list[str] | None:
    """The elements of `members` that a filter compares with; None where it asks for members in another way."""
    named: list[str] = []
    for path, comparison in _terms(node, None):
        if name_of(path) in _MEMBERS or path.attr.casefold() == "members":
            if comparison is None or comparison.op != CompareOperator.eq or name_of(path) not in _MEMBERS:
                return None
            named += [str(comparison.value), GROUPS + str(comparison.value)]
    return named


def mentions(node: FilterNode | None, attribute: str) -> bool:
    """Whether a filter asks for an attribute."""
    return any(path.attr.casefold() == attribute for path, _ in _terms(node, None))


def terms_of(node: FilterNode | None) -> int:
    """How many comparisons a filter makes of one value, at most."""
    return sum(1 for _ in _terms(node, None))


def _terms(node: Any, around: AttrPath | None) -> Iterator[tuple[AttrPath, Comparison | None]]:
    """Every attribute that a filter asks for, and the comparison where it is one."""
    match node:
        case LogicalExpr(terms=terms):
            for term in terms:
                yield from _terms(term, around)
        case ValuePath(attr_path=path, val_filter=inner):
            yield from _terms(inner, path)
        case Comparison(attr_path=path):
            yield (AttrPath(around.attr, path.attr) if around else path), node
        case None:
            return
        case _ if hasattr(node, "expr"):
            yield from _terms(node.expr, around)
        case _:
            path = node.attr_path
            yield (AttrPath(around.attr, path.attr) if around else path), None
