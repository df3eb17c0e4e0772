"""Asking a view: the index gives candidates, each is resolved, and only what still holds is shown."""

from collections.abc import Iterable
from dataclasses import dataclass

from node.limits import SEARCH_CHARACTERS_MIN, SEARCH_HITS_MAX
from node.views.index import LAST_KEY, Build, Index
from node.views.projection import compared, key_of
from node.views.state import state_of
from node.views.view import Row, View, ViewFailed
from node.views.views import Views
from replication.errors import Invalid, TooLarge
from replication.queries import contains, fitting
from replication.snapshot import Snapshot

Place = tuple[str, str]
"""Where an entry stands: (key, stream)."""
BEGINNING: Place = ("", "")


@dataclass(frozen=True, slots=True)
class Hit:
    """One row of an answer, and the stream that it is of."""

    stream: str
    row: Row


def page(
    views: Views, snapshot: Snapshot, name: str, first: str, last: str | None, after: Place, limit: int
) -> tuple[list[Hit], Place | None]:
    """Up to `limit` rows with first <= key <= last, by (key, stream), beyond `after`; and where the next page starts.

    Raises: UnknownView; ViewBuilding; Invalid, where the view is searched, and has no order.
    """
    with views.reading(name) as (view, build, index):
        if view.searched:
            raise Invalid("q", f"is what view {name!r} is asked by: a text that its keys hold")
        until = LAST_KEY if last is None else key_of(view, last)
        entries = index.between(build, key_of(view, first), until, after, limit + 1)
    shown, following = _cut(snapshot, entries, limit)
    low, high = compared(view, first), None if last is None else compared(view, last)
    hits = [(compared(view, hit.row.key), hit) for hit in resolve(view, snapshot, shown)]
    return [hit for key, hit in hits if low <= key and (high is None or key <= high)], following


def search(
    views: Views, snapshot: Snapshot, name: str, text: str, after: Place, limit: int
) -> tuple[list[Hit], Place | None]:
    """The same, of rows whose key holds a text.

    Raises: Invalid, where the view is not searched, or the text is too short; TooLarge, where too many hold it.
    """
    with views.reading(name) as (view, build, index):
        if not view.searched:
            raise Invalid("q", f"is not what view {name!r} is asked by: look it up by key, or from and to")
        wanted = compared(view, text)
        if len(wanted) < SEARCH_CHARACTERS_MIN:
            raise Invalid("q", f"has fewer than {SEARCH_CHARACTERS_MIN} characters")
        found = holding(index, build, wanted)
    entries = [entry for entry in sorted(found) if entry > after]
    shown, following = _cut(snapshot, entries, limit)
    hits = resolve(view, snapshot, shown)
    return [hit for hit in hits if wanted in compared(view, hit.row.key)], following


def _cut(snapshot: Snapshot, entries: list[Place], limit: int) -> tuple[list[Place], Place | None]:
    """The entries of a page, whose streams can be read at once; and the last, where there are more."""
    count = fitting(snapshot, [stream for _, stream in entries[:limit]])
    return entries[:count], entries[count - 1] if len(entries) > count else None


def holding(index: Index, build: Build, text: str) -> list[Place]:
    """The entries whose key holds a text, as keys are compared. Raises: TooLarge, where they are too many."""
    entries = index.search(build, text, SEARCH_HITS_MAX + 1)
    if len(entries) > SEARCH_HITS_MAX:
        raise TooLarge(f"more than {SEARCH_HITS_MAX} entries hold this text; search for a longer one")
    return entries


def resolve(view: View, snapshot: Snapshot, entries: Iterable[Place]) -> Iterable[Hit]:
    """What these entries show now; nothing where the stream has changed since, and does not give them any more."""
    derived: dict[str, list[Row]] = {}
    for key, stream in entries:
        if view.members:
            row = snapshot.stream(stream)
            if row is not None and not row.opaque and contains(snapshot, row, view.members, key):
                yield Hit(stream, Row(key))
            continue
        if stream not in derived:
            derived[stream] = _derive(view, snapshot, stream)
        yield from (Hit(stream, row) for row in derived[stream] if key_of(view, row.key) == key)


def _derive(view: View, snapshot: Snapshot, stream: str) -> list[Row]:
    state = state_of(snapshot, stream)
    try:
        return [] if state is None else view.derive(state)
    except ViewFailed:
        return []
