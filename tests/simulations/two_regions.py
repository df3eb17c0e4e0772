"""The smallest cluster that tests of the simulator share."""

from typing import Any

from simulations.plans.plan import Link, Operation, Plan

TWO = Plan(seed=1, regions=("eu", "us"), duration=4.0, links=(Link("eu", "us", 20.0),))


def write(at: float, region: str, client: int = 0, **more: Any) -> Operation:
    """A client sets a register to the time that it is."""
    return Operation(at, client, region, "write", "s", {"set": {"n": at}}, **more)
