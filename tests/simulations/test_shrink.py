"""Making a case small: the same promise is broken, and nothing that is left can be taken away."""

import pytest
from msgspec.structs import replace

from simulations.plans.drawing import Recipe, region_names
from simulations.plans.plan import Plan
from simulations.shrink import Shrinking, shrink
from simulations.world.run import Outcome, simulate

TRIES_MAX = 100


def broken(plan: Plan) -> str:
    """The checker that finds something first; the empty name where nothing is found."""
    violations = simulate(plan).violations
    return violations[0].checker if violations else ""


def find(sabotage: str) -> Outcome:
    """The first seed that breaks a promise."""
    recipe = Recipe(region_names(3), 15.0, 80, None, sabotage=sabotage)
    return next(outcome for seed in range(30) if not (outcome := simulate(recipe(seed))).ok)


@pytest.mark.parametrize("sabotage", ["delete-takes-all", "dot-reuse-after-restore"])
def test_a_case_is_made_as_small_as_it_gets(sabotage: str) -> None:
    found = find(sabotage)
    told = list[tuple[Plan, int]]()
    small = shrink(found, "direct", lambda plan, tried: told.append((plan, tried)))
    plan, checker = small.plan, found.violations[0].checker
    assert broken(plan) == small.violations[0].checker == checker
    assert told[-1][0] == plan
    assert [tried for _, tried in told] == sorted({tried for _, tried in told}), "each try is counted"
    assert told[-1][1] < TRIES_MAX
    assert len(plan.regions) < len(found.plan.regions)
    for place in range(len(plan.operations)):
        fewer = plan.operations[:place] + plan.operations[place + 1 :]
        assert broken(replace(plan, operations=fewer)) != checker
    for place in range(len(plan.faults)):
        fewer_faults = plan.faults[:place] + plan.faults[place + 1 :]
        assert broken(replace(plan, faults=fewer_faults)) != checker


def test_what_there_is_no_time_for_stays_as_it_was_found() -> None:
    found = find("delete-takes-all")
    assert Shrinking(found, "direct", lambda plan, tried: None, budget_s=-1.0).run().plan == found.plan
