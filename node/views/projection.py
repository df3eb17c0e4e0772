"""From streams to entries: following events, and the first scan of everything.

Both are pieces of work on builds that stand at the same place. An event tells which stream it touched, and which
members; the entries are made to be what the stream's state gives, whatever they were. So projecting twice, or a state
that is newer than the event, changes nothing in the end.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from crdt.operations import Add, Delete, Remove
from node.limits import (
    VIEW_EVENTS_A_PIECE,
    VIEW_FAILURES_LOGGED,
    VIEW_KEY_CHARACTERS_MAX,
    VIEW_MEMBERS_A_PIECE,
    VIEW_STREAMS_A_PIECE,
)
from node.views.folding import fold
from node.views.index import Build, Index
from node.views.state import state_of, state_of_row, wholes_of
from node.views.view import State, View, ViewFailed
from replication import tables
from replication.event import Body
from replication.event_codec import decode_body, decode_header
from replication.queries import contains, live_members, missing
from replication.snapshot import Snapshot
from replication.stream_name import is_prefix
from replication.tables import StreamRow

log = logging.getLogger("atoll.views")

Pairs = list[tuple[Build, View]]
Entries = list[tuple[str, str]]
"""(key, stream)."""


@dataclass(slots=True)
class Touched:
    """What events did to a stream. Shape: `elements` are (set, element); `deleted`: any of it may be gone."""

    elements: set[tuple[str, str]] = field(default_factory=set)
    deleted: bool = False


class Projection:
    """Writes the entries of builds."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._logged = 0

    # --- following the log

    def follow(self, group: Pairs, snapshot: Snapshot) -> bool:
        """Take in the next events, whole transactions; whether there were any."""
        first = group[0][0]
        vector, position = dict(first.vector), first.position
        of_members = tuple({view.streams for _, view in group if view.members})
        touched: dict[str, Touched] = {}
        for count, row in enumerate(missing(snapshot, vector)):
            header = decode_header(row.encoded.header)
            if count >= VIEW_EVENTS_A_PIECE and header.index == 0:
                break
            vector[header.origin], position = header.seq, row.position
            touch = touched.setdefault(header.stream, Touched())
            if header.stream.startswith(of_members):
                _note(touch, decode_body(header, row.encoded.body))
        for whole in wholes_of(snapshot, touched):
            touched.setdefault(whole, Touched())
        states: dict[str, State | None] = {}
        for build, view in group:
            here = {stream: touch for stream, touch in touched.items() if stream.startswith(view.streams)}
            if here:
                self._project(build, view, snapshot, here, states)
            build.vector, build.position = vector, position
        return bool(touched)

    def _project(
        self,
        build: Build,
        view: View,
        snapshot: Snapshot,
        touched: dict[str, Touched],
        states: dict[str, State | None],
    ) -> None:
        """Have the entries of these streams be what their state gives. Shape: `states` are those resolved so far."""
        added: Entries = []
        gone: Entries = []
        held = self._index.keys_of(build, [name for name, touch in touched.items() if touch.deleted or view.rows])
        for stream, touch in touched.items():
            before = held.get(stream, set())
            if view.members:
                row = snapshot.stream(stream)
                for element in before | {element for name, element in touch.elements if name == view.members}:
                    found = row is not None and not row.opaque and contains(snapshot, row, view.members, element)
                    (added if found else gone).append((element, stream))
                continue
            if stream not in states:
                states[stream] = state_of(snapshot, stream)
            state = states[stream]
            now = set() if state is None else self._keys(build, view, state)
            if now != before:
                added += [(key, stream) for key in now - before]
                gone += [(key, stream) for key in before - now]
        if gone:
            self._index.remove(build, gone, searched=view.searched)
        if added:
            self._index.put(build, added, searched=view.searched)

    def _keys(self, build: Build, view: View, state: State) -> set[str]:
        try:
            rows = view.derive(state)
            return {key_of(view, row.key) for row in rows} if rows else set()
        except ViewFailed as failure:
            build.failures += 1
            self._logged += 1
            if self._logged <= VIEW_FAILURES_LOGGED:
                log.error("%s", failure)
            return set()

    # --- the first scan

    def scan(self, group: Pairs, snapshot: Snapshot) -> bool:
        """Take in the next streams, or the next members of a large set; whether there was something to do."""
        scanning = group[0][0].scanning
        assert scanning is not None
        start, at, member = scanning
        entries: dict[int, Entries] = {build.number: [] for build, _ in group}
        seen = size = 0
        parent, here = None, group
        place: tuple[str, int, str] | None = None
        for name, data in _rows(snapshot, group, start):
            if seen >= VIEW_STREAMS_A_PIECE or size >= VIEW_MEMBERS_A_PIECE:
                place = (name, 0, "")
                break
            seen += 1
            above = name[: name.rfind("/") + 1]
            if above != parent:  # views are of prefixes, so streams beside each other are in the same views
                parent, here = above, [pair for pair in group if name.startswith(pair[1].streams)]
            row = tables.decode_stream(data, snapshot.numbers) if here else None
            if row is None or row.opaque or not row.exists:
                at = 0
                continue
            if not at:
                self._scan_state(here, snapshot, name, row, entries)
            for build, view in here:
                if not view.members or build.number < at:
                    continue
                room = max(1, VIEW_MEMBERS_A_PIECE - size)
                begin = member if build.number == at else ""
                some = list(islice(live_members(snapshot, row, view.members, begin), room + 1))
                size += len(some)
                if len(some) > room:
                    place = (name, build.number, some.pop()[0])
                entries[build.number] += [(element, name) for element, live in some if live]
                if place is not None:
                    break
            if place is not None:
                seen -= 1
                break
            at = 0
        for build, view in group:
            if entries[build.number]:
                self._index.put(build, entries[build.number], searched=view.searched)
            build.scanning = place
            build.streams += seen
        return True

    def _scan_state(
        self, here: Pairs, snapshot: Snapshot, name: str, row: StreamRow, entries: dict[int, Entries]
    ) -> None:
        state = None
        for build, view in here:
            if not view.members:
                state = state or state_of_row(snapshot, name, row)
                entries[build.number] += [(key, name) for key in self._keys(build, view, state)]


def _rows(snapshot: Snapshot, group: Pairs, start: str) -> Iterator[tuple[str, bytes]]:
    """The rows of streams from a name on: of one prefix, where all views are of that."""
    prefixes = {view.streams.encode() for _, view in group}
    below = prefixes.pop() if len(prefixes) == 1 else b""
    for key, data in snapshot.walk("streams", max(start.encode(), below), below):
        name = key.decode()
        if not is_prefix(name):
            yield name, data


def _note(touch: Touched, body: Body | None) -> None:
    for operation in (body and body.operations) or ():
        if isinstance(operation, Delete):
            touch.deleted = True
        elif isinstance(operation, Add | Remove):
            touch.elements.add((operation.field, operation.element))


def key_of(view: View, key: str) -> str:
    """A key as the index has it."""
    folded = fold(key) if view.folded else key
    return folded if view.searched else folded[:VIEW_KEY_CHARACTERS_MAX]
