"""Redis (Debian: redis-server): SET of 200 bytes, with every command's append to its file synced."""

import shutil
from pathlib import Path

from node.bench.peers.rates import Rates
from node.bench.processes import HOST, free_port, run, server

SETS = 50_000


def installed() -> bool:
    """Whether this machine has it."""
    return shutil.which("redis-server") is not None


def measure(home: Path) -> Rates:
    """SET of 200 bytes, with every command's append synced."""
    port = free_port()
    rates: Rates = {}
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--dir", str(home)]
    with server([*command, "--appendonly", "yes", "--appendfsync", "always"], port, home):
        for clients in (16, 64):
            output = run(
                ["redis-benchmark", "-p", str(port), "-t", "set", "-d", "200", "-r", "20000", "-c", str(clients),
                 "-n", str(SETS), "--csv"]
            )  # fmt: skip
            rates[f"write, {clients} connections"] = float(output.splitlines()[-1].split(",")[1].strip('"'))
    return rates
