"""A plan from a file, checked before it is run: it may have been edited by hand."""

from pathlib import Path

import msgspec

from node.errors import BadArguments
from replication.origin import is_region
from replication.packing import DECODE_ERRORS
from simulations.plans.faults import check_fault
from simulations.plans.plan import Plan, is_connected


def load(path: Path) -> Plan:
    """The plan of a file.

    Raises: BadArguments, naming what is wrong.
    """
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise BadArguments(f"{path}: {error.strerror}") from None
    except DECODE_ERRORS as error:
        raise BadArguments(f"{path} is not a plan: {error}") from None
    check(plan)
    return plan


def check(plan: Plan) -> None:
    """Raises: BadArguments, where the plan names what it does not have, or what cannot be."""
    for region in plan.regions:
        if not is_region(region):
            raise BadArguments(f"region {region!r} must be of a-z, 0-9 and '-', 1 to 32 long")
    if len(set(plan.regions)) != len(plan.regions):
        raise BadArguments("a region comes twice")
    named = {name for link in plan.links for name in (link.left, link.right)} | ({plan.home} if plan.home else set())
    named |= {name for fault in plan.faults for name in (fault.region, fault.other, *fault.side) if name}
    named |= {name for operation in plan.operations for name in (operation.region, operation.again) if name}
    for name in sorted(named - set(plan.regions)):
        raise BadArguments(f"{name!r} is not one of the plan's regions: {', '.join(plan.regions)}")
    if not is_connected(plan):
        raise BadArguments("the links do not connect all regions, so these can never agree")
    for fault in plan.faults:
        check_fault(fault)
