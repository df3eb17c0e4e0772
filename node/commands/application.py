"""`atoll`: the commands, and what is the same for all of them. Each command's file is imported when it is called."""

import errno
import os
import sys
from importlib.metadata import version

from cyclopts import App, CycloptsError

from node.commands.printable import printable
from node.errors import BadArguments, CommandFailed, ConfigurationError, ListenError, first_of
from node.views.view import ViewsRefused
from replication.errors import StoreRefused

FAILURES = (CommandFailed, ConfigurationError, ListenError, StoreRefused, ViewsRefused)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED, CUT_OFF = 130, 141
BAD_ARGUMENTS = 2

app = App(
    name="atoll",
    help="A multi-region CRDT replication node: writes stay local, regions gossip, readers resolve.",
    version=lambda: version("atoll"),
    backend="trio",
    suppress_keyboard_interrupt=False,
)
for name, module, summary in (
    ("demo", "demo", "Three regions on this machine, with links that can be cut, healed and delayed."),
    ("cut", "links", "Cut the link between two regions of the demo."),
    ("heal", "links", "Heal the link between two regions of the demo."),
    ("delay", "links", "Slow the link between two regions of the demo down."),
    ("serve", "serve", "Run one region's node."),
    ("status", "status", "Regions, vectors and lag, as nodes see them."),
    ("load", "load", "Replay an event file into regions, carrying tokens."),
    ("verify", "verify", "Check a store against its own log."),
    ("history", "history", "Who changed a stream, when and where, and what lost."),
    ("conflicts", "history", "What waits to be mended: lost writes, contested names, fields written after a split."),
    ("bench", "bench", "Figures, each with its floor from the same run, and peers beside it."),
):
    app.command(f"node.commands.{module}:{name}", name=name, help=summary)
for name, summary in (  # each has commands of its own
    ("views", "A node's views: list them, build one anew beside what serves, switch, drop."),
    ("streams", "Move fields between streams: split some off, or join them again."),
):
    app.command(f"node.commands.{name}:app", name=name, help=summary)
# The one name that points up: the command line is where everything meets, and it is imported only when it is called.
app.command(
    "simulations.command:simulate", name="simulate", help="Do to a simulated cluster what may happen to a real one."
)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        status = app(arguments, result_action="return_value", exit_on_error=False)
    except CycloptsError:  # it has said what is wrong
        return BAD_ARGUMENTS
    except BrokenPipeError:  # whoever read this has seen enough
        _say_no_more()
        return CUT_OFF
    except KeyboardInterrupt:
        return INTERRUPTED
    except (*FAILURES, OSError, BaseExceptionGroup) as error:
        return _fail(error)
    return status if isinstance(status, int) else 0


def _fail(error: BaseException) -> int:
    """The exit status of a command that cannot do what it was asked; our own mistakes are raised again."""
    group = BaseExceptionGroup("", [error])
    if group.subgroup(KeyboardInterrupt) is not None:
        return INTERRUPTED
    expected, mistakes = group.split(_is_expected)
    if expected is None or mistakes is not None:
        raise error
    first = first_of(expected)
    if isinstance(first, OSError):
        _say_no_more()
    return _say(first)


def _is_expected(error: BaseException) -> bool:
    return isinstance(error, FAILURES) or (isinstance(error, OSError) and error.errno in NO_ROOM)


def _say_no_more() -> None:
    """Have nothing be flushed to standard output any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(error: BaseException) -> int:
    print(f"atoll: {printable(str(error))}", file=sys.stderr)
    return BAD_ARGUMENTS if isinstance(error, BadArguments) else 1
