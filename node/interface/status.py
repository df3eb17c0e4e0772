"""What an operator asks: status, liveness, readiness."""

from importlib.metadata import version
from typing import Any

from node.interface.moments import format_timestamp
from node.interface.reply import Reply
from node.interface.request import Request
from node.interface.views import summarize
from node.peer import Peer
from node.service import Node
from replication.origin import region_of

VERSION = version("atoll")
"""Read once: that takes longer than all the rest of a status."""


async def read_status(request: Request) -> Reply:
    """This node's heads, its peers and how far they are behind, forks, what is left out, refusals by reason."""
    return Reply(describe(request.node))


def describe(node: Node) -> dict[str, Any]:
    """The status document."""
    mirror, gossip, replica = node.replica.mirror, node.gossip, node.replica
    now_ms = node.clock.now_ms()
    return {
        "version": VERSION,
        "region": replica.meta.region,
        "cluster": replica.meta.cluster,
        "origin": mirror.origin,
        "ready": node.ready,
        "writing": not replica.failed,
        "clock": format_timestamp(mirror.clock),
        "events": sum(head.seq for head in mirror.heads.values()),
        "heads": {origin: [head.seq, head.chain.hex()] for origin, head in mirror.heads.items()},
        "peers": [_describe_peer(peer, mirror.vector, now_ms) for peer in gossip.peers],
        "regions": {
            region_of(origin): {"origin": origin, "behind": _lacks(vector, mirror.vector)}
            for origin, vector in gossip.vectors().items()
        },
        "forks": [
            {"dot": f"{fork.origin}.{fork.seq}", "here": fork.chain.hex(), "there": theirs, "at": sender}
            for fork, sender, theirs in gossip.forks.values()
        ],
        "left_out": [
            {"dot": f"{one.origin}.{one.seq}", "reason": one.reason, "detail": one.detail}
            for one in gossip.withheld.current(now_ms)
        ],
        "refusals": dict(gossip.refusals),
        "views": _describe_views(node, mirror.position),
    }


def _describe_views(node: Node, position: int) -> dict[str, Any]:
    """The build of each view that serves, or the newest where none does; /views has all of them."""
    return {
        build.view: summarize(build, position)
        for _, build in sorted(node.views.builds(), key=lambda one: one[1].serving)
    }


def _describe_peer(peer: Peer, vector: dict[str, int], now_ms: int) -> dict[str, Any]:
    held = {} if peer.digest is None else {origin: claim.seq for origin, claim in peer.digest.heads.items()}
    return {
        "url": peer.url,
        "origin": peer.origin,
        "region": None if peer.origin is None else region_of(peer.origin),
        "reachable": peer.digest is not None and peer.failures == 0,
        "behind": None if peer.digest is None else _lacks(held, vector),
        "ahead": None if peer.digest is None else _lacks(vector, held),
        "answered_ms_ago": None if peer.last_answer_ms is None else max(0, now_ms - peer.last_answer_ms),
        "failures": peer.failures,
        "error": peer.error,
    }


def _lacks(held: dict[str, int], wanted: dict[str, int]) -> int:
    """How many events of `wanted` are not within `held`."""
    return sum(max(0, seq - held.get(origin, 0)) for origin, seq in wanted.items())


async def read_health(request: Request) -> Reply:
    """Whether the process lives."""
    return Reply({"status": "ok"})


async def read_readiness(request: Request) -> Reply:
    """Whether this node takes reads and writes: its peers were asked what they hold, and its store works."""
    ready = request.node.ready
    return Reply({"ready": ready}, 200 if ready else 503)
