"""The directory's own views: look-up by what is exact, by prefix and by what stands anywhere in a name."""

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from crdt.operations import JSON
from node.directory.names import CLAIMS, GROUPS, HOLDERS, MEMBERS, USERS, is_resource
from node.views.state import MOVED_TO
from node.views.view import Row, State, View

USER_COLUMNS = ("userName", "displayName")
NAMES = (
    "userName",
    "displayName",
    "nickName",
    "name.formatted",
    "name.givenName",
    "name.familyName",
    "name.middleName",
)


def emails_of(state: State) -> Iterable[str]:
    """A user's addresses."""
    for element in state.sets.get("emails", ()):
        address = _address(element)
        if address:
            yield address


@lru_cache(maxsize=1024)
def _address(element: str) -> str:
    try:
        value = msgspec.json.decode(element).get("value")
    except (msgspec.DecodeError, AttributeError):
        value = element  # a set that was not written by the directory: the elements themselves
    return value if isinstance(value, str) else ""


def _users(state: State) -> Iterable[Row]:
    if is_resource(state):
        yield Row(state.name, _columns(state, USER_COLUMNS))


def _users_by_name(state: State) -> Iterable[Row]:
    if is_resource(state) and state.text("userName"):
        yield Row(state.text("userName"), _columns(state, USER_COLUMNS))


def _users_by_email(state: State) -> Iterable[Row]:
    if is_resource(state):
        for address in emails_of(state):
            yield Row(address, _columns(state, USER_COLUMNS))


def _by_external_id(state: State) -> Iterable[Row]:
    if is_resource(state) and state.text("externalId"):
        yield Row(state.text("externalId"))


def _users_search(state: State) -> Iterable[Row]:
    """All of a user's names and addresses in one key, a line each."""
    if is_resource(state):
        values = map(state.registers.get, NAMES)
        texts = {*(value for value in values if isinstance(value, str) and value), *emails_of(state)}
        if texts:
            yield Row("\n".join(sorted(texts)), _columns(state, USER_COLUMNS))


def _groups(state: State) -> Iterable[Row]:
    if is_resource(state):
        yield Row(state.name, {"groupName": state.text("displayName")})


def _groups_by_name(state: State) -> Iterable[Row]:
    if is_resource(state) and state.text("displayName"):
        yield Row(state.text("displayName"))


def _contested(state: State) -> Iterable[Row]:
    """Claims of more than one: some of them may not hold any more, which whoever asks finds out."""
    if len(state.sets.get(HOLDERS, ())) > 1:
        yield Row(state.stream)


def _strays(state: State) -> Iterable[Row]:
    """Streams from which fields were split off: some may have been written there meanwhile, elsewhere."""
    if MOVED_TO in state.registers:
        yield Row(state.stream)


def _columns(state: State, names: tuple[str, ...]) -> dict[str, JSON]:
    registers = state.registers
    return {name: registers[name] for name in names if name in registers}


BUILTIN = (
    View(name="users", version=1, streams=USERS, rows=_users, columns=USER_COLUMNS, folded=False),
    View(name="users-by-name", version=1, streams=USERS, rows=_users_by_name, columns=USER_COLUMNS),
    View(name="users-by-email", version=1, streams=USERS, rows=_users_by_email, columns=USER_COLUMNS),
    View(name="users-by-external-id", version=1, streams=USERS, rows=_by_external_id, folded=False),
    View(name="users-search", version=1, streams=USERS, rows=_users_search, columns=USER_COLUMNS, searched=True),
    View(name="groups", version=1, streams=GROUPS, rows=_groups, columns=("groupName",), folded=False),
    View(name="groups-by-name", version=1, streams=GROUPS, rows=_groups_by_name),
    View(name="groups-by-external-id", version=1, streams=GROUPS, rows=_by_external_id, folded=False),
    View(name="groups-of", version=1, streams=GROUPS, members=MEMBERS, folded=False),
    View(name="contested-claims", version=1, streams=CLAIMS, rows=_contested, folded=False),
    View(name="split-streams", version=1, streams="", rows=_strays, folded=False),
)
"""What every node has. Names of the operator's own views are not to be among these."""
