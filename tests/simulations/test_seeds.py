"""Fixed seeds, in both fidelities; every case that ever broke a promise; every sabotage's small case."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from simulations.plans.case import load
from simulations.plans.drawing import Recipe, region_names
from simulations.plans.faults import KINDS
from simulations.plans.plan import Plan
from simulations.plans.scenario import shipped
from simulations.sabotages import SABOTAGES
from simulations.world.run import simulate

SEEDS = Path(__file__).parents[1] / "seeds"
PAGE = (SEEDS.parents[1] / "docs" / "simulation.md").read_text()
FOUND_BY = dict(re.findall(r"^\| ([a-z-]+) \| \d+ \| \d+ s \| ([a-z]+) \|", PAGE, re.MULTILINE))
"""The checker that each sabotage is found by, as the simulator's page says."""
SMALL = Recipe(region_names(4), 12.0, 120, None)
DIRECTORY = Recipe(region_names(3), 12.0, 120, None, "directory")


def said(plan: Plan, fidelity: str = "direct") -> list[str]:
    return [f"{one.checker} in {one.region}: {one.detail}" for one in simulate(plan, fidelity).violations]


@pytest.mark.parametrize("seed", range(12))
def test_a_swarm_of_faults_breaks_nothing_and_leaves_the_same_trace_in_both_fidelities(seed: int) -> None:
    direct = simulate(SMALL(seed), "direct", lines=True)
    http = simulate(SMALL(seed), "http", lines=True)
    assert direct.violations == http.violations == []
    assert direct.history.lines == http.history.lines
    assert direct.verified > 0


@pytest.mark.parametrize("seed", range(6))
def test_a_directory_holds_under_a_swarm_of_faults_and_leaves_the_same_trace_in_both_fidelities(seed: int) -> None:
    plan = DIRECTORY(seed)
    direct, http = simulate(plan, "direct", lines=True), simulate(plan, "http", lines=True)
    assert direct.violations == http.violations == []
    assert direct.history.lines == http.history.lines


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_fault_alone(kind: str) -> None:
    outcome = simulate(Recipe(region_names(3), 8.0, 60, (kind,))(1))
    assert outcome.violations == []
    assert any(band.kind == kind for band in outcome.history.bands)


@pytest.mark.parametrize("case", sorted(SEEDS.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_found_once_stays_mended(case: Path) -> None:
    assert said(load(case)) == []


@pytest.mark.parametrize("name", SABOTAGES)
def test_each_sabotage_is_found_by_its_small_case_and_nothing_without_it(name: str) -> None:
    plan = load(SEEDS / "sabotages" / f"{name}.json")
    assert plan.sabotage == name
    assert len(plan.operations) <= 12
    assert len(plan.faults) <= 3
    assert simulate(plan).violations[0].checker == FOUND_BY[name]
    assert said(replace(plan, sabotage="")) == []


@pytest.mark.parametrize("name", sorted(shipped()))
def test_each_scenario_that_is_shipped_holds(name: str) -> None:
    scenario = shipped()[name]
    regions = scenario.regions if isinstance(scenario.regions, tuple) else region_names(scenario.regions)
    recipe = Recipe(regions, min(scenario.duration, 60.0), 60, (), faults=scenario.faults, links=scenario.links)
    outcome = simulate(recipe(1))
    assert outcome.violations == []
    assert len(outcome.history.bands) == len(scenario.faults)
