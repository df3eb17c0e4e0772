"""Checking views: what each build holds, against what its function gives of every stream now."""

from collections.abc import Sequence

from node.views.index import Build, Index
from node.views.projection import key_of
from node.views.state import state_of_row
from node.views.view import View, ViewFailed
from replication import tables
from replication.queries import live_members
from replication.snapshot import Snapshot
from replication.stream_name import is_prefix

SHOWN_MAX = 3


def check(index: Index, views: Sequence[View], snapshot: Snapshot) -> tuple[int, list[str]]:
    """Check every build that shows all that a snapshot holds: how many those were, and what is wrong with them."""
    known = {(view.name, view.version): view for view in views}
    checked, found = 0, []
    for build in index.builds():
        view = known.get((build.view, build.version))
        if view is not None and build.scanning is None and build.vector == snapshot.vector:
            checked += 1
            found += differences(index, build, view, snapshot)
    return checked, found


def expected(view: View, snapshot: Snapshot) -> set[tuple[str, str]]:
    """Every entry that a view has, from nothing but the streams."""
    entries: set[tuple[str, str]] = set()
    for key, data in snapshot.walk("streams", view.streams.encode(), view.streams.encode()):
        name = key.decode()
        if is_prefix(name):
            continue
        row = tables.decode_stream(data, snapshot.numbers)
        if row.opaque or not row.exists:
            continue
        if view.members:
            entries |= {(element, name) for element, live in live_members(snapshot, row, view.members) if live}
            continue
        try:
            rows = view.derive(state_of_row(snapshot, name, row))
        except ViewFailed:
            continue
        entries |= {(key_of(view, row.key), name) for row in rows}
    return entries


def differences(index: Index, build: Build, view: View, snapshot: Snapshot) -> list[str]:
    """What a build that shows everything has too much, and what too little, beside a fresh one."""
    held, wanted = index.entries(build), expected(view, snapshot)
    found = [f"{view.name}: build {build.number} lacks {entry}" for entry in sorted(wanted - set(held))[:SHOWN_MAX]]
    found += [f"{view.name}: build {build.number} still has {one}" for one in sorted(set(held) - wanted)[:SHOWN_MAX]]
    if len(held) != len(set(held)):
        found.append(f"{view.name}: build {build.number} has entries twice")
    if view.rows is not None and index.entries_leading(build) != held:
        found.append(f"{view.name}: build {build.number} has other entries by stream than by key")
    return found
