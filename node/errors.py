"""What stops a command before it starts: each is one clear line for whoever typed it."""


class ConfigurationError(Exception):
    """A configuration that cannot be used, and why."""


class ListenError(Exception):
    """An address that cannot be listened on, and why."""


class CommandFailed(Exception):
    """A command that cannot do what it was asked, and why."""


class BadArguments(CommandFailed):
    """What was typed makes no sense, and why."""


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, however deep it lies."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
