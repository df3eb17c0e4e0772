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


def _users(state: State) -> list[Row]:
    return [Row(state.name, _columns(state, USER_COLUMNS))] if is_resource(state) else []


def _users_by_name(state: State) -> list[Row]:
    name = state.text("userName")
    return [Row(name, _columns(state, USER_COLUMNS))] if name and is_resource(state) else []


def _users_by_email(state: State) -> list[Row]:
    if "emails" not in state.sets or not is_resource(state):
        return []
    columns = _columns(state, USER_COLUMNS)
    return [Row(address, columns) for address in emails_of(state)]


def _by_external_id(state: State) -> list[Row]:
    external_id = state.text("externalId")
    return [Row(external_id)] if external_id and is_resource(state) else []


def _users_search(state: State) -> list[Row]:
    """All of a user's names and addresses in one key, a line each."""
    if not is_resource(state):
        return []
    texts = {value for value in map(state.registers.get, NAMES) if value and isinstance(value, str)}
    texts.update(emails_of(state))
    return [Row("\n".join(sorted(texts)), _columns(state, USER_COLUMNS))] if texts else []


def _groups(state: State) -> list[Row]:
    return [Row(state.name, {"groupName": state.text("displayName")})] if is_resource(state) else []


def _groups_by_name(state: State) -> list[Row]:
    name = state.text("displayName")
    return [Row(name)] if name and is_resource(state) else []


def _contested(state: State) -> list[Row]:
    """Claims of more than one: some of them may not hold any more, which whoever asks finds out."""
    return [Row(state.stream)] if len(state.sets.get(HOLDERS, ())) > 1 else []


def _strays(state: State) -> list[Row]:
    """Streams from which fields were split off: some may have been written there meanwhile, elsewhere."""
    return [Row(state.stream)] if MOVED_TO in state.registers else []


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
