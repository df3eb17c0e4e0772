"""What a view is: a versioned pure function from a stream and its resolved state to rows.

The index keeps only which keys lead to which streams. An answer resolves those streams, applies the function again,
and shows what it then gives: so an index narrows, the query resolves, and no answer shows a value that is not the
stream's (I4). A view of a set's members has no function: each member is a key, and an addition costs one row however
large the set is.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from crdt.operations import JSON
from replication.stream_name import is_prefix

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


class Row(NamedTuple):
    """One row: the key that finds it, and what it shows."""

    key: str
    columns: Mapping[str, JSON] = {}


class State(msgspec.Struct, frozen=True):
    """A stream that exists, resolved, with the fields that were split off it.

    Shape: `sets` holds the members of sets that an answer would list; larger ones are views of members.
    """

    stream: str
    registers: Mapping[str, JSON]
    sets: Mapping[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """The stream's name without its first segment."""
        return self.stream.partition("/")[2]

    def text(self, register: str) -> str:
        """A register's value where it is text, else nothing."""
        value = self.registers.get(register)
        return value if isinstance(value, str) else ""


class ViewsRefused(Exception):
    """Definitions that cannot be used, and why."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A definition. Change `version` with whatever changes what `rows` gives.

    Shape: `streams` is the prefix whose streams it is of; `rows` is pure, and gives columns of `columns` alone.
    `members` names a set instead: each member is a key, as it is written. `folded`: the keys of rows are found
    however they are written. `searched`: they are found by what stands anywhere in them, and not by range.
    """

    name: str
    version: int
    streams: str
    rows: Callable[[State], Iterable[Row]] | None = None
    members: str = ""
    columns: tuple[str, ...] = ()
    folded: bool = True
    searched: bool = False
    _allowed: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_allowed", frozenset(self.columns))
        if not NAME.fullmatch(self.name):
            raise ViewsRefused(f"view {self.name!r}: a name is of a-z, 0-9 and '-', and starts with a letter")
        if self.version < 1:
            raise ViewsRefused(f"view {self.name!r}: versions count from 1")
        if not is_prefix(self.streams):
            raise ViewsRefused(f"view {self.name!r}: {self.streams!r} is not a prefix, which ends with '/'")
        if (self.rows is None) != bool(self.members):
            raise ViewsRefused(f"view {self.name!r}: it has either rows or members")
        if self.members and self.searched:
            raise ViewsRefused(f"view {self.name!r}: members are found whole, not by what stands in them")
        for column in self.columns:
            if not COLUMN.fullmatch(column):
                raise ViewsRefused(f"view {self.name!r}: {column!r} is not a column's name")

    def derive(self, state: State) -> list[Row]:
        """The rows of a stream.

        Raises: ViewFailed, where the function fails or gives what is no row of this view.
        """
        assert self.rows is not None
        try:
            rows = list(self.rows(state))
        except Exception as error:  # the operator's code: whatever it raises is its own mistake, and said so
            raise ViewFailed(self, state.stream, f"{type(error).__name__}: {error}") from error
        for row in rows:
            if type(row) is not Row or type(row.key) is not str:
                raise ViewFailed(self, state.stream, "it gives what is no Row with a text as its key")
            if not self._allowed.issuperset(row.columns):
                unknown = sorted(set(row.columns) - set(self.columns))
                raise ViewFailed(self, state.stream, f"it gives the columns {unknown}, which it does not name")
        return rows


class ViewFailed(Exception):
    """A view's function failed on a stream; the stream has no rows in it until the view is mended and rebuilt."""

    def __init__(self, view: View, stream: str, why: str) -> None:
        super().__init__(f"view {view.name!r} version {view.version} failed on {stream!r}: {why}")


def check_together(views: Sequence[View]) -> None:
    """That these can be served side by side.

    Raises: ViewsRefused, for a version that comes twice, and for a column that two of them fill from different
    streams: a column means one thing, whichever view shows it.
    """
    seen: set[tuple[str, int]] = set()
    filled: dict[str, View] = {}
    for view in views:
        if (view.name, view.version) in seen:
            raise ViewsRefused(f"view {view.name!r} comes twice in version {view.version}")
        seen.add((view.name, view.version))
        for column in view.columns:
            other = filled.setdefault(column, view)
            if other.streams != view.streams:
                raise ViewsRefused(
                    f"views {other.name!r} and {view.name!r} both fill column {column!r},"
                    f" from {other.streams!r} and from {view.streams!r}"
                )
