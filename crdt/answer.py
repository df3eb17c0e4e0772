"""What a stream answers: its registers' values, the writes that lost, its sets."""

from dataclasses import dataclass

from crdt.operations import JSON
from crdt.register import Register


@dataclass(frozen=True, slots=True)
class Answer:
    """A stream resolved. Shape: live writes by field, members by field in UTF-8 order; neither holds an empty one."""

    live: dict[str, Register]
    sets: dict[str, tuple[str, ...]]

    @property
    def registers(self) -> dict[str, JSON]:
        """Each register's value; one whose value is null is left out."""
        return values(self.live)

    @property
    def conflicts(self) -> dict[str, Register]:
        """Each register's live writes that lost, greatest first."""
        return conflicts(self.live)

    @property
    def exists(self) -> bool:
        """Whether the answer is not empty."""
        return bool(self.registers or self.sets)


def values(live: dict[str, Register]) -> dict[str, JSON]:
    """The winner of each register, without nulls."""
    return {field: writes[0].value for field, writes in sorted(live.items()) if writes[0].value is not None}


def conflicts(live: dict[str, Register]) -> dict[str, Register]:
    """The losers of each register that has some."""
    return {field: writes[1:] for field, writes in sorted(live.items()) if len(writes) > 1}
