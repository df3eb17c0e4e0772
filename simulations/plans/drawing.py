"""A whole plan, from a seed and what is asked for."""

from dataclasses import dataclass
from itertools import combinations, pairwise

from replication.limits import MESSAGE_TARGET_BYTES
from simulations.draws import generator
from simulations.plans.faults import draw_faults
from simulations.plans.plan import Fault, Link, Operation, Plan
from simulations.plans.workloads import draw_operations

NAMES = ("eu", "us", "ap", "sa", "af", "in", "au", "me", "jp", "ca", "uk", "br", "kr", "za", "mx", "nz")
MESSAGE_BYTES = (512, 4096, MESSAGE_TARGET_BYTES)
"""Small messages make rare orders; the thousands of events of a file would take hours in them."""
ACROSS = 0.3
DELAYS_MS = (40, 100, 160, 250)
GOSSIP_INTERVALS_MS = (1_000, 2_000, 4_000)
HOMES = 0.4
"""In how many directories one region gives all names."""


def region_names(count: int) -> tuple[str, ...]:
    return NAMES[:count]


def draw_links(seed: int, regions: tuple[str, ...]) -> tuple[Link, ...]:
    """Some connected graph: a line or a star, which one cut takes apart, or a ring, with links across or without."""
    draw = generator(seed, "links")
    order = draw.sample(regions, len(regions))
    shape = draw.choice(("line", "star", "ring", "mesh"))
    if shape == "star":
        pairs = {frozenset((order[0], other)) for other in order[1:]}
    else:
        pairs = {frozenset(pair) for pair in pairwise(order)}
    if shape in ("ring", "mesh") and len(order) > 2:
        pairs.add(frozenset((order[0], order[-1])))
    if shape == "mesh":
        pairs |= {frozenset(pair) for pair in combinations(order, 2) if draw.random() < ACROSS}
    drawn: list[Link] = []
    for left, right in combinations(regions, 2):
        delay = round(draw.choice(DELAYS_MS) * draw.uniform(0.5, 1.5), 1)
        if frozenset((left, right)) in pairs:
            drawn.append(Link(left, right, delay))
    return tuple(drawn)


def draw_home(seed: int, regions: tuple[str, ...]) -> str:
    draw = generator(seed, "home")
    return draw.choice(regions) if draw.random() < HOMES else ""


@dataclass(frozen=True)
class Recipe:
    """Draws the plan of any seed. Shape: `kinds` None is a swarm; `given` operations take the place of drawn ones."""

    regions: tuple[str, ...]
    duration: float
    operations: int
    kinds: tuple[str, ...] | None
    workload: str = "mixed"
    given: tuple[Operation, ...] | None = None
    faults: tuple[Fault, ...] = ()
    links: tuple[Link, ...] = ()
    sabotage: str = ""

    def __call__(self, seed: int) -> Plan:
        links = self.links or draw_links(seed, self.regions)
        pairs = tuple((link.left, link.right) for link in links)
        lossless = self.given is not None
        drawn = draw_faults(seed, self.kinds, self.regions, pairs, self.duration, lossless=lossless)
        operations = self.given
        if operations is None:
            operations = draw_operations(seed, self.workload, self.regions, self.duration, self.operations)
        return Plan(
            seed=seed,
            regions=self.regions,
            duration=self.duration,
            links=links,
            message_bytes=MESSAGE_TARGET_BYTES if self.given else generator(seed, "message").choice(MESSAGE_BYTES),
            gossip_interval_ms=generator(seed, "interval").choice(GOSSIP_INTERVALS_MS),
            home=draw_home(seed, self.regions) if self.workload == "directory" else "",
            sabotage=self.sabotage,
            faults=(*self.faults, *drawn),
            operations=operations,
        )
