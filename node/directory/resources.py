"""Reading a user or group: its stream's state, what is told from elsewhere, and the model that all of it makes."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from scim2_models import NotFoundException, Resource, ResponseParameters, TooManyException

from crdt.dot import Dot
from crdt.hybrid_clock import milliseconds
from crdt.operations import JSON
from crdt.version_vector import VersionVector, join
from node.directory.mapping import Fields, fields_of, to_document
from node.directory.names import DELETED, GROUPS, MEMBERS, USERS, is_resource, member_element, member_stream
from node.directory.schema import GROUP, USER, provider
from node.limits import SCIM_GROUPS_SHOWN_MAX, SCIM_MEMBERS_SHOWN_MAX
from node.views.query import BEGINNING, page
from node.views.state import MOVED_FROM, MOVED_TO, parts_of, state_of, state_of_row
from node.views.view import State
from node.views.views import Views
from replication.errors import Invalid
from replication.event_codec import decode_header
from replication.queries import live_members
from replication.snapshot import Snapshot
from replication.stream_name import check_stream
from replication.tables import StreamRow
from replication.tokens import format_token

PREFIXES = {USER: USERS, GROUP: GROUPS}
VARIANT_BYTES = 4


@dataclass(slots=True)
class Found:
    """A resource as it was read.

    Shape: `parts` holds the state of its stream, and of those that were split off it. `members` maps elements to
    displayNames; None where they were not read.
    """

    stream: str
    kind: str
    state: State
    fields: Fields
    row: StreamRow
    parts: dict[str, VersionVector]
    created: datetime
    modified: datetime
    members: dict[str, str] | None = None
    groups: list[dict[str, Any]] | None = None

    @property
    def token(self) -> str:
        """The state of all of its parts."""
        return format_token(self.stream, reduce(join, self.parts.values()))


def stream_of(kind: str, identity: str) -> str:
    """The stream of a resource."""
    return PREFIXES[kind] + identity


def find(snapshot: Snapshot, kind: str, identity: str) -> Found:
    """A resource without its members.

    Raises: NotFoundException.
    """
    found = read(snapshot, kind, stream_of(kind, identity))
    if found is None:
        raise NotFoundException(detail=f"{kind} {identity[:100]!r} does not exist")
    return found


def read(snapshot: Snapshot, kind: str, stream: str) -> Found | None:
    """The same; None where there is none."""
    try:
        state = state_of(snapshot, check_stream(stream))
    except Invalid:
        return None
    if not is_resource(state):
        return None
    row = snapshot.stream(stream)
    assert row is not None
    parts: dict[str, VersionVector] = {stream: row.vector}
    parts.update((name, part.vector) for part, name in parts_of(snapshot, stream, row.values))
    created, modified = _times(snapshot, row, parts)
    return Found(stream, kind, state, fields_of(state, kind), row, parts, created, modified)


def _times(snapshot: Snapshot, row: StreamRow, parts: Mapping[str, VersionVector]) -> tuple[datetime, datetime]:
    """When a resource's first and last events were stamped."""
    last = row.created
    for origin, seq in (entry for vector in parts.values() for entry in vector.items()):
        stored = snapshot.event(Dot(origin, seq))
        assert stored is not None, f"{origin}.{seq} is in a vector and not in the log"
        last = max(last, decode_header(stored.encoded.header).timestamp)
    return _moment(row.created), _moment(last)


def _moment(timestamp: int) -> datetime:
    return datetime.fromtimestamp(milliseconds(timestamp) / 1000, UTC)


def living(snapshot: Snapshot, stream: str) -> Mapping[str, JSON] | None:
    """The registers of a user or group that exists; None where it does not."""
    row = snapshot.stream(stream)
    if row is None or row.opaque or not row.exists:
        return None
    registers: Mapping[str, JSON] = row.values
    if MOVED_TO in registers:
        registers = state_of_row(snapshot, stream, row).registers
    return None if registers.get(DELETED) or MOVED_FROM in registers else registers


def read_members(snapshot: Snapshot, found: Found) -> Iterator[tuple[str, str]]:
    """The members of a group that exist and their displayNames, one by one; whoever asks may pause between them.

    Raises: TooManyException, before any, where they are too many to list.
    """
    count = found.row.sets.get(MEMBERS, 0)
    if count > SCIM_MEMBERS_SHOWN_MAX:
        raise TooManyException(
            detail=f"the group has {count} members, and {SCIM_MEMBERS_SHOWN_MAX} can be listed at once; ask with"
            f" excludedAttributes=members, and page them at /streams/{found.stream}?set=members"
        )
    for element, live in live_members(snapshot, found.row, MEMBERS):
        member = living(snapshot, member_stream(element)) if live else None
        if member is not None:
            yield element, _display(member)


def _display(registers: Mapping[str, JSON]) -> str:
    name = registers.get("displayName")
    return name if isinstance(name, str) else ""


def read_groups(snapshot: Snapshot, views: Views, found: Found) -> list[dict[str, Any]]:
    """The groups of a user, as the resource shows them.

    Raises: ViewBuilding.
    """
    element = member_element(found.stream)
    hits, _ = page(views, snapshot, "groups-of", element, element, BEGINNING, SCIM_GROUPS_SHOWN_MAX)
    shown: list[dict[str, Any]] = []
    for hit in hits:
        group = living(snapshot, hit.stream)
        if group is not None:
            identity, name = hit.stream.removeprefix(GROUPS), _display(group)
            about = {"value": identity, "$ref": f"Groups/{identity}", "type": "direct"}
            shown.append(about | ({"display": name} if name else {}))
    return shown


def version_of(found: Found) -> str:
    """The weak tag of what is shown: the stream's token, and beside it what else the answer draws on."""
    variant = ""
    if found.groups:
        text = "\n".join(f"{group['value']} {group.get('display', '')}" for group in found.groups)
        variant = "+" + hashlib.blake2b(text.encode(), digest_size=VARIANT_BYTES).hexdigest()
    return f'W/"{found.token}{variant}"'


def to_document_of(found: Found) -> dict[str, Any]:
    """The resource in full, but for where it is: whoever answers knows its own address."""
    document = to_document(found.fields, found.kind)
    document["id"] = found.state.name
    document["meta"] = {
        "resourceType": found.kind,
        "created": found.created,
        "lastModified": found.modified,
        "version": version_of(found),
    }
    if found.members:
        document[MEMBERS] = [_member(element, name) for element, name in found.members.items()]
    if found.groups:
        document["groups"] = found.groups
    return document


def _member(element: str, name: str) -> dict[str, Any]:
    kind, identity = member_named(element)
    return member_document(kind, identity, f"{kind}s/{identity}", name)


def member_named(element: str) -> tuple[str, str]:
    """The resource type and the id of a member."""
    stream = member_stream(element)
    kind = GROUP if stream.startswith(GROUPS) else USER
    return kind, stream.removeprefix(PREFIXES[kind])


def member_document(kind: str, identity: str, location: str, name: str) -> dict[str, Any]:
    """A member as a group shows it."""
    shown = {"value": identity, "$ref": location, "type": kind}
    return shown | {"display": name} if name else shown


def to_model(found: Found) -> Resource[Any]:
    """The resource as a model."""
    model: Any = provider().model_for(found.kind)
    made: Resource[Any] = model.model_validate(to_document_of(found))
    return made


def keeps(parameters: ResponseParameters[Any], attribute: str) -> bool:
    """Whether an answer with these parameters shows an attribute, or any part of it."""
    asked, left_out = _paths(parameters.attributes), _paths(parameters.excluded_attributes)
    name = attribute.casefold()
    return (not asked or any(path.partition(".")[0] == name for path in asked)) and name not in left_out


def keeps_part(parameters: ResponseParameters[Any], attribute: str, part: str) -> bool:
    """Whether an answer that shows an attribute shows this part of it."""
    asked, left_out = _paths(parameters.attributes), _paths(parameters.excluded_attributes)
    name, whole = f"{attribute}.{part}".casefold(), attribute.casefold()
    return (not asked or whole in asked or name in asked) and name not in left_out


def _paths(paths: Iterable[object] | None) -> set[str]:
    """Paths without their schema, in lower case."""
    return {str(path).rpartition(":")[2].casefold() for path in paths or ()}
