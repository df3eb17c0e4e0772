"""Tables: as wide as the terminal at one, as wide as they need to be in a pipe, where lines are to be found again."""

from rich.console import Console
from rich.table import Table

WIDTH_MAX = 10_000


def print_table(table: Table) -> None:
    """Print a table on standard output."""
    console = Console()
    if not console.is_terminal:
        console.width = max(
            console.width, console.measure(table, options=console.options.update(width=10_000)).maximum
        )
    console.print(table)
