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
