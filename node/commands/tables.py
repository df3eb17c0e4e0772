"""Tables: as wide as the terminal at one, as wide as they need to be in a pipe, where lines are to be found again.

A cell is text and nothing else: what is stored in a node is anybody's, and may look like markup.
"""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from node.commands.printable import printable

WIDTH_MAX = 10_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on standard output."""
    table = Table(*(Column(_cell(column)) for column in columns))
    for row in rows:
        table.add_row(*map(_cell, row))
    console = Console()
    if not console.is_terminal:
        console.width = max(
            console.width, console.measure(table, options=console.options.update(width=WIDTH_MAX)).maximum
        )
    console.print(table)


def _cell(text: str) -> Text:
    return Text(printable(text))
