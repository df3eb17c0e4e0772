"""`atoll cut`, `heal` and `delay`: act on the links of the demo that runs on this machine."""

import json
import os
import tempfile
from pathlib import Path

import trio

from node.commands.tcp_proxy import parse_delay
from node.errors import CommandFailed

REPLY_BYTES_MAX = 65_536


def control_path() -> Path:
    """The socket that this user's demo listens on."""
    return Path(tempfile.gettempdir()) / f"atoll-demo-{os.getuid()}.sock"


async def cut(first: str, second: str, /) -> None:
    """Cut the link between two regions: what they send each other is lost until it is healed.

    Parameters
    ----------
    first
        A region of the demo.
    second
        Another one.
    """
    await _ask("cut", first, second)


async def heal(first: str, second: str, /) -> None:
    """Heal the link between two regions: it carries again, and without delay.

    Parameters
    ----------
    first
        A region of the demo.
    second
        Another one.
    """
    await _ask("heal", first, second)


async def delay(first: str, second: str, by: str, /) -> None:
    """Slow the link between two regions down: everything takes so much longer, each way.

    Parameters
    ----------
    first
        A region of the demo.
    second
        Another one.
    by
        How much, such as 80ms or 1s.
    """
    try:
        seconds = parse_delay(by)
    except ValueError:
        raise CommandFailed(f"{by!r} is not a delay such as 80ms or 1s, at most 60s") from None
    await _ask("delay", first, second, seconds)


async def _ask(command: str, first: str, second: str, seconds: float = 0.0) -> None:
    try:
        stream = await trio.open_unix_socket(str(control_path()))
    except OSError:
        raise CommandFailed("no demo runs on this machine; start one with: atoll demo") from None
    async with stream:
        await stream.send_all(json.dumps([command, first, second, seconds]).encode() + b"\n")
        reply = b""
        while chunk := await stream.receive_some(REPLY_BYTES_MAX):
            reply += chunk
    taken, message = json.loads(reply)
    if not taken:
        raise CommandFailed(message)
    print(message)
