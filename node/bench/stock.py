"""The same handlers behind Quart on stock hypercorn: what the hot interface is measured against.

`python -m node.bench.stock DIRECTORY PORT`.
"""

import sys

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from node import interpreter
from node.configuration import configure
from node.interface.application import Application
from node.seams import SystemClock, system_entropy
from node.service import run_node
from node.transport import HttpTransport


async def main(*arguments: str) -> None:
    directory, port = arguments
    interpreter.set_up()
    configuration = configure({"region": "eu", "data": directory, "cluster": "bench"})
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = config.errorlog = None
    async with run_node(configuration, SystemClock(), HttpTransport(), system_entropy()) as node:
        await serve(Application(node), config)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
