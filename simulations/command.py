"""`atoll simulate`: a plan from options, a scenario or a file; run it, search many seeds, shrink what is found."""

import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from node.commands.event_file import FileEvent, read_event_file
from node.commands.progress import progress_bar
from node.commands.writable import check_writable
from node.errors import BadArguments, CommandFailed
from simulations.checkers.sometimes import situations_of
from simulations.plans.case import check, load
from simulations.plans.drawing import Recipe, region_names
from simulations.plans.event_file import EVENTS_A_SECOND, file_operations
from simulations.plans.faults import KINDS, parse_kinds
from simulations.plans.plan import DURATION_MAX_S, REGIONS_MAX, Plan, dump
from simulations.plans.scenario import Scenario, find_scenario, shipped
from simulations.plans.workloads import WORKLOADS
from simulations.report import write_report
from simulations.sabotages import SABOTAGES, check_name
from simulations.search import Result, run_plan, search
from simulations.shrink import BUDGET_S, shrink
from simulations.world.run import Outcome

HELD, VIOLATED = 0, 1
DEFAULTS = Scenario("", regions=5, duration=60.0, operations=500, kinds="swarm")
SHRUNK = "atoll-case-{seed}.json"
OPERATIONS_MAX = 1_000_000

Listed = Literal["faults", "sabotages", "workloads", "scenarios", "situations"]


def simulate(
    scenario: str | None = None,
    /,
    *,
    seed: int | None = None,
    seeds: str | None = None,
    regions: int | None = None,
    duration: str | None = None,
    operations: int | None = None,
    faults: str | None = None,
    fidelity: Literal["direct", "http"] = "direct",
    workload: str | None = None,
    sabotage: str = "",
    shrink: Annotated[bool, Parameter(negative=())] = False,
    replay: Path | None = None,
    jobs: int = 1,
    report: Path | None = None,
    case: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    list: Listed | None = None,  # noqa: A002  # the option's name
) -> int:
    """Run a cluster of the production code in virtual time, do to it what the plan says, and check every promise.

    The same plan leaves the same trace, in any process. Exit status 0: all held; 1: a promise was broken, and the
    last line says how to see it again; 2: what was typed makes no sense.

    Parameters
    ----------
    scenario
        A scenario's TOML file, or the name of one that is shipped.
    seed
        What everything that is not given is drawn from [1].
    seeds
        A search: every seed from A to B, as A..B.
    regions
        How many regions [5].
    duration
        How long the cluster is written to and disturbed, in virtual time, such as 60s, 500ms or 2m [60s].
    operations
        How many requests clients make [500].
    faults
        Kinds of faults, with commas between; `swarm` draws a mix for each seed; `none` [swarm].
    fidelity
        direct calls the interface's functions; http goes through the real Quart application and httpx.
    workload
        A kind of workload [mixed], or an event file as `atoll load` takes it.
    sabotage
        Put a known bug into the product, to see whether it is found.
    shrink
        Make the first case that is found as small as it gets within two minutes, and write it to a file.
    replay
        Run the plan of a file: one that was printed, edited or made small.
    jobs
        How many processes search at once.
    report
        Write what happened as one HTML file: of the run, or of the first case that was found.
    case
        Where the case that was found (or made small) is written [atoll-case-SEED.json].
    json
        Print one JSON object instead of text.
    list
        Print what there is of something, and end.
    """
    if list is not None:
        _print_list(list)
        return HELD
    if jobs < 1:
        raise BadArguments("--jobs must be at least 1")
    for path in (report, case):
        check_writable(path)
    if seed is not None and seeds is not None:
        raise BadArguments("give --seed or --seeds, not both")
    if replay is not None:
        besides = (scenario, seed, seeds, regions, duration, operations, faults, workload, sabotage or None)
        if any(given is not None for given in besides):
            raise BadArguments("--replay takes everything from its file; edit that instead")
        return _run_one(load(replay), fidelity, shrink, report, case, json)
    recipe = _recipe(scenario, regions, duration, operations, faults, workload, check_name(sabotage))
    if seeds is None:
        plan = recipe(1 if seed is None else seed)
        check(plan)
        return _run_one(plan, fidelity, shrink, report, case, json)
    return _search(recipe, _parse_seeds(seeds), fidelity, shrink, jobs, report, case, json)


# --- what is asked for


def _recipe(
    name: str | None,
    regions: int | None,
    duration: str | None,
    operations: int | None,
    faults: str | None,
    workload: str | None,
    sabotage: str,
) -> Recipe:
    scenario = DEFAULTS if name is None else find_scenario(name)
    if regions is not None and not 1 <= regions <= REGIONS_MAX:
        raise BadArguments(f"--regions must be from 1 to {REGIONS_MAX}")
    if operations is not None and not 0 <= operations <= OPERATIONS_MAX:
        raise BadArguments(f"--operations must be from 0 to {OPERATIONS_MAX}")
    seconds = scenario.duration if duration is None else _parse_duration(duration)
    wanted = scenario.workload if workload is None else workload
    names = scenario.regions if regions is None else regions
    given = None
    if wanted not in WORKLOADS:
        if not Path(wanted).exists():
            raise BadArguments(f"workload {wanted!r} is not a file, nor known; known are {', '.join(WORKLOADS)}")
        events = _read_events(Path(wanted))
        seconds = seconds if name or duration else max(60.0, len(events) / EVENTS_A_SECOND)
        given = file_operations(events, seconds)
        if regions is None and not isinstance(names, tuple):
            names = tuple(sorted({event.region for event in events}))
    return Recipe(
        regions=names if isinstance(names, tuple) else region_names(names),
        duration=seconds,
        operations=scenario.operations if operations is None else operations,
        kinds=parse_kinds(scenario.kinds if faults is None else faults),
        workload=wanted if given is None else "mixed",
        given=given,
        faults=scenario.faults,
        links=scenario.links,
        sabotage=sabotage,
    )


def _read_events(path: Path) -> list[FileEvent]:
    try:
        events = read_event_file(path)
    except CommandFailed as error:
        raise BadArguments(str(error)) from None
    if not events:
        raise BadArguments(f"{path} holds no event")
    return events


def _parse_duration(text: str) -> float:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m)", text)
    seconds = float(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2]] if match else 0.0
    if not 0 < seconds <= DURATION_MAX_S:
        raise BadArguments(f"--duration {text!r} is not a time such as 60s, 500ms or 2m, at most a day")
    return seconds


def _parse_seeds(text: str) -> range:
    match = re.fullmatch(r"(\d{1,12})\.\.(\d{1,12})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise BadArguments(f"--seeds {text!r} is not A..B, the first seed and the last")
    return range(int(match[1]), int(match[2]) + 1)


def _print_list(what: Listed) -> None:
    lists: dict[str, Callable[[], dict[str, str]]] = {
        "faults": lambda: {name: kind.summary for name, kind in KINDS.items()},
        "sabotages": lambda: {name: sabotage.summary for name, sabotage in SABOTAGES.items()},
        "workloads": lambda: {name: ", ".join(weights) for name, weights in WORKLOADS.items()},
        "scenarios": lambda: {name: scenario.summary for name, scenario in shipped().items()},
        "situations": lambda: dict.fromkeys(situations_of("directory"), ""),
    }
    for name, summary in lists[what]().items():
        print(f"{name:<28}{summary}".rstrip())


# --- running


def _run_one(plan: Plan, fidelity: str, small: bool, report: Path | None, case: Path | None, as_json: bool) -> int:
    outcome, result = run_plan(plan, fidelity)
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _print_result(result)
    return _conclude(outcome, fidelity, small, report, case, quiet=as_json)


def _conclude(
    outcome: Outcome, fidelity: str, small: bool, report: Path | None, case: Path | None, *, quiet: bool
) -> int:
    """What is left to do once a run is chosen: make it small, write it down, say how to see it again."""
    if small and not outcome.ok:
        outcome = _shrink(outcome, fidelity, quiet=quiet)
    if not outcome.ok:
        path = case or Path(SHRUNK.format(seed=outcome.plan.seed))
        _write(path, dump(outcome.plan))
        where = sys.stderr if quiet else sys.stdout
        shown = f" --fidelity {fidelity}" if fidelity != "direct" else ""
        print(f"to see it again: atoll simulate --replay {path}{shown}", file=where)
    if report is not None:
        _write(report, write_report(outcome, fidelity))
    return HELD if outcome.ok else VIOLATED


def _shrink(outcome: Outcome, fidelity: str, *, quiet: bool) -> Outcome:
    told: Callable[[Plan, int], None] = lambda plan, tried: None  # noqa: E731  # there is nothing to tell in a pipe
    if sys.stderr.isatty():
        told = _tell_shrinking
    smallest = shrink(outcome, fidelity, told)
    plan, violation = smallest.plan, smallest.violations[0]
    if not quiet:
        print(
            f"made small: {len(plan.operations)} operations, {len(plan.faults)} faults, {len(plan.regions)} regions, "
            f"{plan.duration:g} s\n  {violation.checker} at {violation.at:.3f} s in {violation.region or 'all'}: "
            f"{violation.detail}"
        )
    return smallest


def _tell_shrinking(plan: Plan, tried: int) -> None:
    text = f"{len(plan.operations)} operations, {len(plan.faults)} faults after {tried} runs (at most {BUDGET_S:g} s)"
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from None


def _search(
    recipe: Recipe,
    seeds: range,
    fidelity: str,
    small: bool,
    jobs: int,
    report: Path | None,
    case: Path | None,
    as_json: bool,
) -> int:
    """Every seed; with a sabotage or to make a case small, only up to the first that is found."""
    check(recipe(seeds[0]))
    results: list[Result] = []
    bar = nullcontext(lambda done, total: None) if as_json else progress_bar("seeds")
    try:
        with bar as advance:
            for result in search(recipe, seeds, fidelity, jobs):
                results.append(result)
                advance(len(results), len(seeds))
                if not result.ok:
                    if not as_json:
                        _print_result(result)
                    if recipe.sabotage or small:
                        break
    except KeyboardInterrupt:
        print(f"stopped after {len(results)} of {len(seeds)} seeds", file=sys.stderr)
        raise
    finally:
        if as_json:
            print(msgspec.json.encode(_summary(seeds, results, situations_of(recipe.workload))).decode())
        elif results:
            _print_search(results, situations_of(recipe.workload))
    found = [result for result in results if not result.ok]
    if not found:
        return HELD
    if found[0].trace:
        outcome, _ = run_plan(recipe(found[0].seed), fidelity)
        return _conclude(outcome, fidelity, small, report, case, quiet=as_json)
    _write(case or Path(SHRUNK.format(seed=found[0].seed)), dump(recipe(found[0].seed)))
    return VIOLATED


def _summary(seeds: range, results: list[Result], situations: tuple[str, ...]) -> dict[str, Any]:
    totals = _totals(results, situations)
    return {
        "seed": [seeds[0], seeds[-1]],
        "trace": {str(result.seed): result.trace for result in results},
        "ok": all(result.ok for result in results),
        "violations": [
            {"seed": result.seed, **asdict(violation)} for result in results for violation in result.violations
        ],
        **totals,
    }


def _totals(results: list[Result], situations: tuple[str, ...]) -> dict[str, Any]:
    faults: Counter[str] = Counter()
    sometimes: Counter[str] = Counter()
    for result in results:
        faults.update(result.faults)
        sometimes.update(result.sometimes)
    return {
        "simulated_seconds": round(sum(result.simulated_seconds for result in results), 3),
        "wall_seconds": round(sum(result.wall_seconds for result in results), 3),
        "operations": sum(result.operations for result in results),
        "exchanges": sum(result.exchanges for result in results),
        "faults": dict(sorted(faults.items())),
        "sometimes": dict(sorted(sometimes.items())),
        "never": [situation for situation in situations if not sometimes[situation]],
    }


def _print_result(result: Result) -> None:
    faults = ", ".join(f"{count} {kind}" for kind, count in result.faults.items()) or "none"
    print(
        f"seed {result.seed}: {result.regions} regions, {result.simulated_seconds:.1f} s simulated in "
        f"{result.wall_seconds:.2f} s, {result.operations} operations, {result.events} events, "
        f"{result.exchanges} exchanges; faults: {faults}; trace {result.trace}"
    )
    for violation in result.violations[:5]:
        where = f"in {violation.region}" if violation.region else "in the cluster"
        print(f"  VIOLATION {violation.checker} at {violation.at:.3f} s {where}: {violation.detail}")
    if result.ok:
        print(f"  all held: {result.verified} events verified on disk")


def _print_search(results: list[Result], situations: tuple[str, ...]) -> None:
    totals = _totals(results, situations)
    bad = [str(result.seed) for result in results if not result.ok]
    print(
        f"{len(results)} seeds, {totals['simulated_seconds']:.0f} s simulated in {totals['wall_seconds']:.1f} s of "
        f"computing, {totals['exchanges']} exchanges: {'violations in ' + ', '.join(bad) if bad else 'all held'}"
    )
    for situation in situations:
        runs = sum(1 for result in results if result.sometimes.get(situation))
        print(f"  {runs:>6} of {len(results)}  {situation}{'' if runs else '   <- never reached'}")
