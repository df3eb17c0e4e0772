"""`atoll`: the commands, and what is the same for all of them."""

import sys

from cyclopts import App

from node.configuration import ConfigurationError
from node.server import ListenError
from replication.errors import StoreRefused

app = App(
    name="atoll",
    help="A multi-region CRDT replication node: writes stay local, regions gossip, readers resolve.",
    version_flags=["--version"],
    backend="trio",
)

app.command("node.commands.demo:demo")
app.command("node.commands.links:cut")
app.command("node.commands.links:heal")
app.command("node.commands.links:delay")
app.command("node.commands.serve:serve")
app.command("node.commands.status:status")
app.command("node.commands.load:load")
app.command("node.commands.verify:verify")


class CommandFailed(Exception):
    """A command that cannot do what it was asked, and why, in one line."""


FAILURES = (CommandFailed, ConfigurationError, ListenError, StoreRefused)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        status = app(arguments, result_action="return_value")
    except FAILURES as error:
        return _say(error)
    except BaseExceptionGroup as group:
        expected = group.subgroup(FAILURES)
        if expected is None or group.split(FAILURES)[1] is not None:
            raise
        return _say(_first(expected))
    except KeyboardInterrupt:
        return 130
    return status if isinstance(status, int) else 0


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _say(error: BaseException) -> int:
    print(f"atoll: {error}", file=sys.stderr)
    return 1
