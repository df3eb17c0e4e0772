"""Searching users and groups: an index gives candidates, each is resolved and matched, the page is what is left.

Where the order asked for is an index's own and the index serves all of the filter, a page costs a page. Otherwise
the candidates are looked at one by one, up to a bound: a filter that would need more is refused, and says what would
narrow it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio
from scim2_models import InvalidCursorException, Resource, SearchRequest, TooManyException
from scim2_models.path import CompareOperator, Comparison
from scim2_server.storage import SearchPage

from node.directory.aside import aside
from node.directory.candidates import Id, Key, Prefix, Source, Text, members_named, mentions, name_of, plan, terms_of
from node.directory.claims import USER_NAME, ranked
from node.directory.names import MEMBERS
from node.directory.refusals import search_error_of
from node.directory.resources import Found, keeps, read, read_groups, stream_of, to_model
from node.directory.schema import GROUP, USER
from node.limits import (
    MEMBERS_AT_ONCE,
    SCIM_COMPARED_MAX,
    SCIM_EXAMINED_MAX,
    SCIM_MEMBERS_MATCHED_MAX,
    SCIM_MEMBERS_SHOWN_MAX,
    VIEW_KEY_CHARACTERS_MAX,
)
from node.views.folding import fold
from node.views.index import LAST_KEY, last_with
from node.views.projection import key_of
from node.views.query import holding
from replication.errors import TooLarge
from replication.queries import contains
from replication.snapshot import Snapshot

if TYPE_CHECKING:
    from node.directory.storage import DirectoryStorage

PAUSE_AFTER = 16
"""Resources after which a search lets others run."""
COMPARED_AT_ONCE = 2_000
"""Comparisons that are made in one piece."""
LISTS = {USER: "users", GROUP: "groups"}
ORDERED = {(USER, "username"): "users-by-name", (GROUP, "displayname"): "groups-by-name", (USER, "id"): "users",
           (GROUP, "id"): "groups"}  # fmt: skip

SortKey = tuple[bool, Any, str]
"""Whether there is no value to sort by, the value, and the id."""


class Search:
    """One search of one request."""

    def __init__(
        self, storage: "DirectoryStorage", kinds: list[str], request: SearchRequest[Any], position: Any
    ) -> None:
        self.storage = storage
        self.views = storage.node.views
        self.kinds = kinds
        self.request = request
        self.filter = request.filter
        self.tree = None if request.filter is None else request.filter.ast
        self.position = position
        self.down = request.sort_by is not None and request.sort_order == SearchRequest.SortOrder.descending
        self._examined = 0
        self._members_left = SCIM_MEMBERS_SHOWN_MAX
        self._matched_left = SCIM_MEMBERS_MATCHED_MAX
        self._terms = terms_of(self.tree)
        self._compared_left = SCIM_COMPARED_MAX
        self._pause_after = max(1, PAUSE_AFTER // (1 + self._terms // PAUSE_AFTER))

    async def run(self) -> SearchPage:
        """The page. Raises: SCIMException."""
        for kind in self.kinds:
            for view in self._views_of(kind):
                await self.storage.have_shown(view)
        with self.storage.node.replica.read() as snapshot:
            self.storage.drawn_on = (snapshot.vector, self.views.serving(LISTS[self.kinds[0]])[1].vector)
            ordered = self._ordered()
            page = None if ordered is None else await self._page_of_index(snapshot, *ordered)
            return page or await self._page_of_all(snapshot)

    def _views_of(self, kind: str) -> Iterable[str]:
        sources = () if self.tree is None else plan(kind, self.tree) or ()
        views = {source.view for source in sources if not isinstance(source, Id)} | {LISTS[kind]}
        if kind == USER and (mentions(self.tree, "groups") or self._shows("groups")):
            views.add("groups-of")
        return sorted(views)

    def _shows(self, attribute: str) -> bool:
        return keeps(self.request, attribute)

    # --- where an index has the answer in order

    def _ordered(self) -> tuple[str, str, str] | None:
        """The view that has all of the answer in its own order, and the keys between which it lies."""
        if len(self.kinds) > 1:
            return None
        [kind] = self.kinds
        by = None if self.request.sort_by is None else str(self.request.sort_by).rpartition(":")[2].casefold()
        if self.tree is None:
            view = ORDERED.get((kind, by or "id"))
            return None if view is None else (view, "", LAST_KEY)
        if isinstance(self.tree, Comparison) and self.tree.op == CompareOperator.sw:
            view = ORDERED.get((kind, name_of(self.tree.attr_path)))
            if view is not None and view not in LISTS.values() and by in (None, name_of(self.tree.attr_path)):
                prefix = fold(str(self.tree.value))
                return (view, prefix, last_with(prefix)) if len(prefix) <= VIEW_KEY_CHARACTERS_MAX else None
        return None

    async def _page_of_index(self, snapshot: Snapshot, name: str, first: str, last: str) -> SearchPage | None:
        [kind] = self.kinds
        count = self.request.count or 0
        after, skip = ("", ""), 0
        if self.position is not None:
            after = self._place()
        elif self.request.cursor is None:
            skip = max(0, (self.request.start_index or 1) - 1)
        with self.views.reading(name) as (_, build, index):
            total = index.count_between(build, first, last)
            if self.tree is None and name not in LISTS.values() and total != self._count(kind):
                return None  # some have no value to sort by, and come last
            entries: list[tuple[str, str]] = []
            if count and skip < total:
                entries = index.between(build, first, last, after, count + 1, skip=skip, down=self.down)
        resources = [
            resource for _, stream in entries[:count] if (resource := await self._shown(snapshot, kind, stream))
        ]
        following = list(entries[count - 1]) if len(entries) > count else None
        return SearchPage(total, resources, next=following)

    def _count(self, kind: str) -> int:
        with self.views.reading(LISTS[kind]) as (_, build, index):
            return index.count_between(build, "", LAST_KEY)

    def _place(self) -> tuple[str, str]:
        match self.position:
            case [str(key), str(stream)]:
                return key, stream
        raise InvalidCursorException

    async def _shown(self, snapshot: Snapshot, kind: str, stream: str) -> Resource[Any] | None:
        """A resource of the page; None where it is gone, or not what the filter asks for any more."""
        found = read(snapshot, kind, stream)
        if found is None:
            return None
        if not await self._matches(found, to_model(found)):
            return None
        await self._complete(snapshot, found)
        return to_model(found)

    async def _complete(self, snapshot: Snapshot, found: Found) -> None:
        """Add what is shown and stands elsewhere: members and groups."""
        self._examined += 1
        if self._examined % self._pause_after == 0:
            await trio.lowlevel.checkpoint()
        if found.kind == USER:
            if self._shows("groups"):
                found.groups = read_groups(snapshot, self.views, found)
        elif self._shows(MEMBERS):
            members = self.storage.members[found.state.name] = await self.storage.read_members(snapshot, found)
            self._members_left -= len(members)
            if self._members_left < 0:
                raise TooManyException(
                    detail=f"the groups of this page have more than {SCIM_MEMBERS_SHOWN_MAX} members; ask for fewer"
                    " groups at once, or with excludedAttributes=members"
                )

    # --- where every candidate is looked at

    async def _page_of_all(self, snapshot: Snapshot) -> SearchPage:
        matched: list[tuple[SortKey, Found]] = []
        for kind in self.kinds:
            for stream in self._candidates(snapshot, kind):
                found = await self._examine(snapshot, kind, stream)
                if found is not None:
                    matched.append(found)
        matched.sort(key=lambda pair: pair[0], reverse=self.down)
        count = self.request.count or 0
        start = self._start([key for key, _ in matched])
        page = matched[start : start + count]
        for _, one in page:
            one.groups = None
            await self._complete(snapshot, one)
        following = list(page[-1][0]) if page and start + count < len(matched) else None
        return SearchPage(len(matched), [to_model(one) for _, one in page], next=following)

    def _start(self, keys: list[SortKey]) -> int:
        if self.request.cursor is None:
            return max(0, (self.request.start_index or 1) - 1)
        if self.position is None:
            return 0
        match self.position:
            case [bool(missing), str(value), str(identity)]:
                last = (missing, value, identity)
                return sum(1 for key in keys if (key >= last if self.down else key <= last))
        raise InvalidCursorException

    async def _examine(self, snapshot: Snapshot, kind: str, stream: str) -> tuple[SortKey, Found] | None:
        self._examined += 1
        if self._examined % self._pause_after == 0:
            await trio.lowlevel.checkpoint()
        found = read(snapshot, kind, stream)
        if found is None:
            return None
        if kind == GROUP and mentions(self.tree, MEMBERS):
            found.members = await self._members_to_match(snapshot, found)
        if kind == USER and mentions(self.tree, "groups"):
            found.groups = read_groups(snapshot, self.views, found)
        model = await aside(len(found.members or ()) > MEMBERS_AT_ONCE, to_model, found)
        matches = await self._matches(found, model)
        found.members = None
        if not matches:
            return None
        value = self.request.sort_value(model)
        return (value is None, "" if value is None else str(value), str(model.id)), found

    async def _matches(self, found: Found, model: Resource[Any]) -> bool:
        """Whether the filter matches. Raises: TooManyException."""
        if self.filter is None:
            return True
        comparisons = self._terms * (1 + len(found.members or ()) + len(found.groups or ()))
        self._compared_left -= comparisons
        if self._compared_left < 0:
            raise TooManyException(
                detail=f"this search would make more than {SCIM_COMPARED_MAX} comparisons; ask for less at once"
            )
        return await aside(comparisons > COMPARED_AT_ONCE, self.filter.match, model)

    async def _members_to_match(self, snapshot: Snapshot, found: Found) -> dict[str, str]:
        """What a filter needs to know of a group's members. Raises: TooManyException."""
        named = members_named(self.tree)
        if named is not None:
            return {one: "" for one in named if contains(snapshot, found.row, MEMBERS, one)}
        self._matched_left -= found.row.sets.get(MEMBERS, 0)
        if self._matched_left < 0:
            raise TooManyException(
                detail=f"this filter would look at more than {SCIM_MEMBERS_MATCHED_MAX} members; compare them with eq"
            )
        return await self.storage.read_members(snapshot, found)

    def _candidates(self, snapshot: Snapshot, kind: str) -> list[str]:
        """The streams among which everything that matches is. Raises: TooManyException."""
        sources = None if self.tree is None else plan(kind, self.tree)
        streams: dict[str, None] = {}
        for source in (Prefix(LISTS[kind], ""),) if sources is None else sources:
            streams |= dict.fromkeys(self._streams(snapshot, kind, source))
        if len(streams) > SCIM_EXAMINED_MAX:
            what = "this filter is served by no index" if sources is None and self.tree else "this search"
            raise TooManyException(
                detail=f"{what} and would look at more than {SCIM_EXAMINED_MAX} resources; compare id, userName,"
                " externalId, emails, displayName of a group or members with eq, or names with sw or co"
            )
        return list(streams)

    def _streams(self, snapshot: Snapshot, kind: str, source: Source) -> list[str]:
        if isinstance(source, Id):
            return [stream_of(kind, source.identity)]
        with self.views.reading(source.view) as (view, build, index):
            match source:
                case Key(key=key):
                    streams = index.streams_at(build, key_of(view, key), SCIM_EXAMINED_MAX + 1)
                case Prefix(prefix=prefix):
                    first = key_of(view, prefix)
                    entries = index.between(build, first, last_with(first), ("", ""), SCIM_EXAMINED_MAX + 1)
                    streams = [stream for _, stream in entries]
                case Text(text=text):
                    try:
                        found = holding(index, build, fold(text))
                    except TooLarge as refusal:
                        raise search_error_of(refusal) from None
                    streams = [stream for _, stream in found]
        if source.view == "users-by-name" and isinstance(source, Key) and len(streams) > 1:
            return ranked(snapshot, USER_NAME, source.key, streams)[:1]
        return streams
