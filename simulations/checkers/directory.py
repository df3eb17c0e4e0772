"""Checked of the directory: a region gives a name once, the earliest claim holds everywhere, views show what is.

A model of its own, as the design and the directory's documents have it: a user or group exists while it has an answer
and no marker; a name is its earliest claim's, among those whose user exists and still has it; fields that were split
off a stream are its own still. Names are ASCII here, so folding is lower case.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from simulations.checkers.arrivals import Note, Say
from simulations.checkers.holdings import Holding, Resolutions
from simulations.checkers.model import ADD, Happened, Vector, additions, includes, vector_of
from simulations.world.fidelity import Asked, Told

CLAIM_BYTES = 16
VIEWS = ("users-by-name", "groups-of")


class Directory:
    """What one region's directory is, from what the region holds."""

    def __init__(self, holding: Holding, resolutions: Resolutions) -> None:
        self._holding = holding
        self._resolutions = resolutions

    def state(self, stream: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """A stream's registers and sets, with those of its parts."""
        own = self._resolutions.of(self._holding, stream)
        registers, sets = dict(own.registers), dict(own.sets)
        moved = own.registers.get("moved_to")
        for target in moved if isinstance(moved, dict) else ():
            part = self._resolutions.of(self._holding, target)
            if target.startswith(f"{stream}/") and part.registers.get("moved_from") == stream:
                registers |= {
                    name: value for name, value in part.registers.items() if name not in ("moved_from", "moved_to")
                }
                sets |= part.sets
        return registers, sets

    def resource(self, stream: str) -> dict[str, Any] | None:
        """A user's or group's registers; None where it does not exist."""
        registers, sets = self.state(stream)
        if not (registers or sets) or registers.get("deleted") or "moved_from" in registers:
            return None
        return registers

    def names(self) -> dict[str, list[str]]:
        """The users that have each name."""
        found: dict[str, list[str]] = {}
        for stream in sorted(self._holding.streams):
            registers = self.resource(stream) if stream.startswith("users/") else None
            if registers is not None and isinstance(registers.get("userName"), str):
                found.setdefault(registers["userName"].lower(), []).append(stream)
        return found

    def claims(self, name: str) -> list[str]:
        """The users whose claim on a name counts, the one that holds it first."""
        stream = "claims/userName/" + blake2b(name.encode(), digest_size=CLAIM_BYTES).hexdigest()
        counting: list[tuple[tuple[int, str, int], str]] = []
        for holder, events in additions(self._holding.streams.get(stream, ()), "holders").items():
            registers = self.resource(holder)
            if registers is not None and str(registers.get("userName", "")).lower() == name:
                counting.append((min(event.order for event in events), holder))
        return [holder for _, holder in sorted(counting)]

    def rows(self, view: str) -> list[tuple[str, str]]:
        """All rows of a view, by key and stream."""
        if view == "users-by-name":
            return sorted((name, stream) for name, streams in self.names().items() for stream in streams)
        return sorted(
            (member, stream)
            for stream in self._holding.streams
            if stream.startswith("groups/")
            for member in self._resolutions.of(self._holding, stream).sets.get("members", ())
        )


class Directories:
    """Watches what regions write to, and answer of, their directories."""

    def __init__(self, resolutions: Resolutions, say: Say, note: Note, home: str) -> None:
        """`home` is the region that gives names, where one does."""
        self._resolutions = resolutions
        self._say = say
        self._note = note
        self._home = home

    def of(self, holding: Holding) -> Directory:
        return Directory(holding, self._resolutions)

    def regressed(self, region: str) -> None:
        """An older disk is in place there: what a home has given since then, it does not know any more."""
        if region == self._home:
            self._home = ""

    def written(self, region: str, holding: Holding, transaction: Sequence[Happened]) -> None:
        """A region wrote a transaction: whoever claims a name in it is the only one there."""
        if self._resolutions.forked:
            return
        for event in transaction:
            taken = [rest[1] for code, *rest in event.operations if code == ADD and rest[0] == "holders"]
            if not event.stream.startswith("claims/userName/") or not taken:
                continue
            directory = self.of(holding)
            for holder in taken[0]:
                registers = directory.resource(holder) or {}
                name = str(registers.get("userName", "")).lower()
                others = [one for one in directory.claims(name) if one != holder]
                if others:
                    self._say("claims", region, f"gave {name!r} to {holder}; {others} had it", event)

    def answered(
        self, region: str, holding: Holding, asked: Asked, told: Told, document: dict[str, Any], wanted: Vector
    ) -> None:
        """A node answered of its directory."""
        if told.status == 409:
            self._note("a name was refused: it was taken")
        if not asked.target.startswith("/views/") or told.status != 200:
            return
        if not includes(vector_of(document["watermark"]), wanted):
            self._say("session", region, f"{asked.target} shows {document['watermark']}, not all of {wanted}")
        if wanted:
            self._note("a view was forced to a token")
        directory = self.of(holding)
        for row in document["rows"]:
            state = directory.resource(row["stream"]) or {}
            of_view = document["view"] == "groups-of"
            members = self._resolutions.of(holding, row["stream"]).sets.get("members", [])
            if row["key"] not in members if of_view else state.get("userName") != row["key"]:
                self._say("views", region, f"{asked.target} shows {row}; the stream is {state or members}")

    def check_end(
        self, region: str, holding: Holding, rows: dict[str, list[tuple[str, str]]], named: dict[str, list[str]],
        contested: dict[str, list[str]],
    ) -> None:  # fmt: skip
        """Everything has healed: the views show all there is, a name finds whose it is, and who else wants it."""
        directory = self.of(holding)
        for view, shown in rows.items():
            expected = directory.rows(view)
            if shown != expected:
                self._say("views", region, f"{view} shows {shown}; there is {expected}")
        for name, streams in directory.names().items():
            claims = directory.claims(name)
            holds = (claims or sorted(streams))[:1]
            if named.get(name) != holds:
                self._say("claims", region, f"{name!r} finds {named.get(name)}; {holds} holds it")
            if (contested.get(name, []) or claims[:1]) != claims:
                self._say("claims", region, f"{name!r} is listed for {contested.get(name)}; {claims} claim it")
            if len(claims) > 1:
                self._note("two regions gave a name at once")
                if self._home:
                    self._say("claims", region, f"{name!r} is claimed by {claims}, and one region gives names")
