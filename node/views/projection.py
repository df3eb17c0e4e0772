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
from node.views.index import Build, Entries, Index, Keys
from node.views.state import state_of_row, wholes_of
from node.views.view import State, View, ViewFailed
from replication import tables
from replication.event import Body
from replication.event_codec import decode_body, decode_header, decode_place
from replication.queries import contains, live_members, missing
from replication.snapshot import Snapshot
from replication.stream_name import is_prefix, parent_of
from replication.tables import StreamRow

log = logging.getLogger("atoll.views")

Pairs = list[tuple[Build, View]]


@dataclass(slots=True)
class Touched:
    """What events did to a stream's sets. Shape: `elements` are (set, element); `deleted`: any may be gone."""

    elements: set[tuple[str, str]] = field(default_factory=set)
    deleted: bool = False


class _Covering(dict[str, Pairs]):
    """The builds of the views that streams right below a prefix are in: views are of prefixes, too."""

    def __init__(self, group: Pairs) -> None:
        self._group = group

    def __missing__(self, prefix: str) -> Pairs:
        here = self[prefix] = [pair for pair in self._group if prefix.startswith(pair[1].streams)]
        return here

    def of(self, stream: str) -> Pairs:
        return self[parent_of(stream)]


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
        streams: set[str] = set()
        touched: dict[str, Touched] = {}
        for count, event in enumerate(missing(snapshot, vector)):
            place = decode_place(event.encoded.header)
            if count >= VIEW_EVENTS_A_PIECE and place.index == 0:
                break
            vector[place.origin], position = place.seq, event.position
            streams.add(place.stream)
            if place.stream.startswith(of_members):
                touch = touched.setdefault(place.stream, Touched())
                _note(touch, decode_body(decode_header(event.encoded.header), event.encoded.body))
        streams.update(wholes_of(snapshot, streams))
        keys: dict[str, Keys] = {}
        covering = _Covering(group)
        for stream in sorted(streams):
            here = covering.of(stream)
            row = snapshot.stream(stream)
            keys[stream] = self._keys_of(here, snapshot, stream, row)
            if stream in touched:
                for build, view in here:
                    if view.members:
                        self._follow_members(build, view, snapshot, stream, row, touched[stream])
        self._index.lead([build for build, view in group if not view.members], keys)
        for build, _ in group:
            build.vector, build.position = vector, position
        return bool(streams)

    def _follow_members(
        self, build: Build, view: View, snapshot: Snapshot, stream: str, row: StreamRow | None, touch: Touched
    ) -> None:
        """Have a set's members be entries, as far as these events may have changed it."""
        elements = {element for name, element in touch.elements if name == view.members}
        shown = None if row is None or row.opaque else row
        if touch.deleted or shown is None:
            elements |= self._index.led_to(build, stream)
        added: Entries = []
        gone: Entries = []
        for element in elements:
            found = shown is not None and contains(snapshot, shown, view.members, element)
            (added if found else gone).append((element, stream))
        self._index.remove(build, gone)
        self._index.put(build, added)

    def _keys_of(self, here: Pairs, snapshot: Snapshot, stream: str, row: StreamRow | None) -> Keys:
        """The keys that lead to a stream as it is now."""
        if row is None or row.opaque or not row.exists:
            return {}
        state = state_of_row(snapshot, stream, row)
        led: Keys = {}
        for build, view in here:
            if view.rows is not None and (keys := self._derive(build, view, state)):
                led[build.number] = keys
        return led

    def _derive(self, build: Build, view: View, state: State) -> list[str]:
        try:
            rows = view.derive(state)
        except ViewFailed as failure:
            build.failures += 1
            self._logged += 1
            if self._logged <= VIEW_FAILURES_LOGGED:
                log.error("%s", failure)
            return []
        if not rows:  # most often
            return []
        return sorted({key_of(view, row.key) for row in rows})

    # --- the first scan

    def scan(self, group: Pairs, snapshot: Snapshot) -> bool:
        """Take in the next streams, or the next members of a large set; whether there was something to do."""
        scanning = group[0][0].scanning
        assert scanning is not None
        start, at, member = scanning
        keys: dict[str, Keys] = {}
        members: dict[int, Entries] = {build.number: [] for build, view in group if view.members}
        seen = size = 0
        covering = _Covering(group)
        place: tuple[str, int, str] | None = None
        for name, data in _rows(snapshot, group, start):
            if seen >= VIEW_STREAMS_A_PIECE or size >= VIEW_MEMBERS_A_PIECE:
                place = (name, 0, "")
                break
            seen += 1
            here = covering.of(name)
            row = tables.decode_stream(data, snapshot.numbers) if here else None
            if row is None or row.opaque or not row.exists:
                at = 0
                continue
            if not at and (now := self._keys_of(here, snapshot, name, row)):
                keys[name] = now
            for build, view in here:
                if not view.members or build.number < at:
                    continue
                room = max(1, VIEW_MEMBERS_A_PIECE - size)
                begin = member if build.number == at else ""
                some = list(islice(live_members(snapshot, row, view.members, begin), room + 1))
                size += len(some)
                if len(some) > room:
                    place = (name, build.number, some.pop()[0])
                members[build.number] += [(element, name) for element, live in some if live]
                if place is not None:
                    break
            if place is not None:
                seen -= 1
                break
            at = 0
        self._index.lead([build for build, view in group if not view.members], keys)
        for build, _ in group:
            self._index.put(build, members.get(build.number, []))
            build.scanning = place
            build.streams += seen
        return True


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


def compared(view: View, key: str) -> str:
    """A key as it is compared: members are what they are, as sets have them."""
    return fold(key) if view.folded and not view.members else key


def key_of(view: View, key: str) -> str:
    """A key as the index has it."""
    return compared(view, key) if view.searched else compared(view, key)[:VIEW_KEY_CHARACTERS_MAX]
