"""One measured figure, and how figures are shown: a table for people, JSON for machines."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured. Shape: `floor` is the best that could be, in the same unit; `peers` what others do."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    peers: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How close the figure comes to its floor, 1 being as good: rate by rate, or time by time."""
        if not self.floor or not self.value:
            return None
        return self.value / self.floor if self.unit.endswith("/s") else self.floor / self.value


def show(figures: Iterable[Figure]) -> None:
    """Print a table."""
    table = Table("what", "here", "unit", "floor", "ratio", "peers")
    for figure in figures:
        peers = "  ".join(f"{name} {value:,.4g}" for name, value in figure.peers.items())
        floor = "" if figure.floor is None else f"{figure.floor:,.4g}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(figure.name, f"{figure.value:,.4g}", figure.unit, floor, ratio, peers)
    Console(width=150).print(table)


def dump(figures: Iterable[Figure]) -> str:
    """The figures as one JSON object."""
    return json.dumps(
        {
            figure.name: {
                "value": figure.value,
                "unit": figure.unit,
                "floor": figure.floor,
                "ratio": figure.ratio,
                "peers": figure.peers,
            }
            for figure in figures
        },
        indent=2,
    )
