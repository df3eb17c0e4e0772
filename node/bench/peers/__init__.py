"""Others that do this work, measured in the same run where they are installed: started on loopback, and stopped."""

from pathlib import Path

from node.bench.peers import eventsourcing, nats, postgres, pouchdb, redis
from node.bench.peers.rates import Rates

PEERS = {
    "PostgreSQL": postgres,
    "NATS JetStream": nats,
    "PouchDB Server": pouchdb,
    "Redis": redis,
    "eventsourcing": eventsourcing,
}


def measure(directory: Path) -> dict[str, Rates]:
    """Every peer that is installed, by name."""
    measured: dict[str, Rates] = {}
    for name, peer in PEERS.items():
        if peer.installed():
            home = directory / name.split()[0].lower()
            home.mkdir()
            measured[name] = peer.measure(home)
    return measured


def rates_beside(name: str, measured: dict[str, Rates]) -> dict[str, float]:
    """What the peers do of what the figure of this name measures, by peer and how it does that."""
    shown: dict[str, float] = {}
    for peer, rates in measured.items():
        for key, rate in rates.items():
            what, parenthesis, how = key.partition(" (")
            same_lag = what.startswith("lag") and name.startswith("replication lag at 100 ") and name.endswith("p50")
            if same_lag or (name.removeprefix("HTTP ").startswith(what) and not name.endswith("p99")):
                shown[peer + parenthesis + how] = rate
    return shown
