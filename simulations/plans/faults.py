"""The faults a plan can hold, what each needs, and drawing some.

A fault of links is of one link (`region`, `other`), of all of a region's, or of all. `swarm` draws for each seed
which kinds are on at all, then how many and how strong: mixes of few kinds reach what the average of all kinds never
does (Groce et al. 2012, "Swarm testing").
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from node.errors import BadArguments
from simulations.draws import generator
from simulations.plans.plan import Fault, Point

SWARM, NONE = "swarm", "none"
SWARM_SHARE = 0.3
COUNT_MAX = 3
POINTS: tuple[Point, ...] = ("", "before", "after")
POWER_POINTS: tuple[Point, ...] = ("before", "during", "during", "after")


class _Place(NamedTuple):
    """Where and when a fault is drawn for."""

    draw: random.Random
    regions: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    at: float
    lasts: float

    def region(self) -> str:
        return self.draw.choice(self.regions)

    def link(self) -> tuple[str, str]:
        """One link, all of a region's (no other end), or all."""
        if self.draw.random() < 0.3 or not self.links:
            return "", ""
        left, right = self.draw.choice(self.links)
        return (left, "") if self.draw.random() < 0.3 else (left, right)

    def one_link(self) -> tuple[str, str]:
        return self.draw.choice(self.links) if self.links else (self.regions[0], self.regions[0])


Draw = Callable[[_Place], Fault]


class Kind(NamedTuple):
    """One kind of fault.

    Shape: `needs` are the fields that must be given; `loses` where acknowledged writes may be gone after it.
    """

    summary: str
    draw: Draw
    needs: tuple[str, ...] = ()
    loses: bool = False


def _partition(place: _Place) -> Fault:
    some = place.draw.sample(place.regions, place.draw.randint(1, max(1, len(place.regions) - 1)))
    return Fault(place.at, "partition", place.lasts, side=tuple(sorted(some)))


def _cut(place: _Place) -> Fault:
    left, right = place.one_link()
    if place.draw.random() < 0.5:
        left, right = right, left
    return Fault(place.at, "one-way-cut", place.lasts, left, right)


def _flapping(place: _Place) -> Fault:
    left, right = place.one_link()
    return Fault(place.at, "flapping", place.lasts, left, right, amount=round(place.draw.uniform(0.3, 4), 2))


def _link_fault(kind: str, least: float, most: float) -> Draw:
    def draw(place: _Place) -> Fault:
        region, other = place.link()
        return Fault(place.at, kind, place.lasts, region, other, amount=round(place.draw.uniform(least, most), 3))

    return draw


def _machine_fault(kind: str, least: float = 0.0, most: float = 0.0) -> Draw:
    def draw(place: _Place) -> Fault:
        amount = round(place.draw.uniform(least, most), 3)
        return Fault(place.at, kind, place.lasts, place.region(), amount=amount)

    return draw


def _signed(kind: str, most: float) -> Draw:
    def draw(place: _Place) -> Fault:
        strength = round(place.draw.choice((-1, 1)) * most * (0.02 + 0.98 * place.draw.random() ** 2), 3)
        return Fault(place.at, kind, place.lasts, place.region(), amount=strength)

    return draw


def _kill(place: _Place) -> Fault:
    point: Point = place.draw.choice(POINTS)
    return Fault(place.at, "kill", min(place.lasts, 8), place.region(), point=point)


def _power(place: _Place) -> Fault:
    point: Point = place.draw.choice(POWER_POINTS)
    return Fault(place.at, "power-loss", min(place.lasts, 8), place.region(), point=point)


def _old_disk(kind: str) -> Draw:
    def draw(place: _Place) -> Fault:
        age = round(min(place.at, place.draw.uniform(1, 20)), 3)
        return Fault(place.at, kind, min(place.lasts, 8), place.region(), amount=age)

    return draw


KINDS: dict[str, Kind] = {
    "partition": Kind("the regions of `side` cannot reach the others, nor be reached", _partition, ("side",)),
    "isolation": Kind("one region is cut off", _machine_fault("isolation"), ("region",)),
    "one-way-cut": Kind(
        "nothing comes through from `region` to `other`; the way back works", _cut, ("region", "other")
    ),
    "flapping": Kind("a link that fails and heals every `amount` seconds", _flapping, ("region", "other", "amount")),
    "loss": Kind("a share `amount` of messages and answers is lost", _link_fault("loss", 0.02, 0.5)),
    "duplication": Kind(
        "a share `amount` of messages arrives twice, once late", _link_fault("duplication", 0.05, 0.6)
    ),
    "reordering": Kind("up to `amount` seconds are added, so messages overtake", _link_fault("reordering", 0.05, 2)),
    "slow-link": Kind("a link is `amount` times slower", _link_fault("slow-link", 2, 30), ("amount",)),
    "damage": Kind("a share `amount` of messages has a byte changed", _link_fault("damage", 0.02, 0.4)),
    "kill": Kind("the process dies, at `point` of a commit or anywhere, and starts again", _kill, ("region",)),
    "power-loss": Kind(
        "the machine stops at `point` of a commit; the disk keeps what was synced", _power, ("region",)
    ),
    "restore": Kind(
        "a copy `amount` seconds old is put where the disk was", _old_disk("restore"), ("region",), loses=True
    ),
    "rollback": Kind(
        "the disk's content goes back by `amount` seconds, in place", _old_disk("rollback"), ("region",), loses=True
    ),
    "move": Kind("the machine goes on from a copy of its disk", _machine_fault("move"), ("region",)),
    "disk-full": Kind("the disk has no room for a commit", _machine_fault("disk-full"), ("region",)),
    "disk-failure": Kind(
        "a commit fails, and the process is started again at the end", _machine_fault("disk-failure"), ("region",)
    ),
    "slow-disk": Kind(
        "a commit takes `amount` times as long", _machine_fault("slow-disk", 5, 400), ("region", "amount")
    ),
    "clock-offset": Kind(
        "the wall clock is `amount` ms wrong", _signed("clock-offset", 45_000), ("region", "amount")
    ),
    "clock-drift": Kind(
        "the wall clock runs `amount` times too fast, or too slow", _signed("clock-drift", 0.5), ("region", "amount")
    ),
    "clock-jump": Kind(
        "the wall clock jumps by `amount` ms, and stays there", _signed("clock-jump", 45_000), ("region", "amount")
    ),
}


def check_fault(fault: Fault) -> None:
    """Raises: BadArguments, where the fault is of no kind, or lacks what its kind needs."""
    kind = KINDS.get(fault.kind)
    if kind is None:
        raise BadArguments(f"fault {fault.kind!r} is not known; known are {', '.join(KINDS)}")
    for name in kind.needs:
        if not getattr(fault, name):
            raise BadArguments(f"fault {fault.kind!r} at {fault.at:g} s needs {name!r}")
    if (fault.amount < 0 and not fault.kind.startswith("clock")) or (
        fault.amount <= -1 and fault.kind == "clock-drift"
    ):
        raise BadArguments(f"fault {fault.kind!r} at {fault.at:g} s has an amount below what it can have")


def parse_kinds(text: str) -> tuple[str, ...] | None:
    """The kinds of a comma-separated list; None for swarm.

    Raises: BadArguments.
    """
    if text == SWARM:
        return None
    if text == NONE:
        return ()
    kinds = tuple(text.split(","))
    for kind in kinds:
        if kind not in KINDS:
            raise BadArguments(f"fault {kind!r} is not known; known are {', '.join(KINDS)}, swarm, none")
    return kinds


def draw_faults(
    seed: int,
    kinds: Sequence[str] | None,
    regions: tuple[str, ...],
    links: tuple[tuple[str, str], ...],
    duration: float,
    *,
    lossless: bool = False,
) -> tuple[Fault, ...]:
    """Some faults of these kinds, or of a swarm of kinds; `lossless` without those that lose acknowledged writes."""
    if kinds is None:
        swarm = generator(seed, "swarm")
        share = SWARM_SHARE * swarm.choice((0.5, 1.0, 1.0, 2.0))
        kinds = [kind for kind in KINDS if swarm.random() < share]
    drawn: list[Fault] = []
    for kind in kinds:
        if lossless and KINDS[kind].loses:
            continue
        draw = generator(seed, "fault", kind)
        for _ in range(draw.randint(1, COUNT_MAX)):
            at = round(draw.uniform(0, duration * 0.9), 3)
            lasts = round(min(duration - at, draw.uniform(0.5, max(1.0, duration / 3))), 3)
            drawn.append(KINDS[kind].draw(_Place(draw, regions, links, at, lasts)))
    return tuple(sorted(drawn, key=lambda fault: (fault.at, fault.kind, fault.region, fault.other)))
