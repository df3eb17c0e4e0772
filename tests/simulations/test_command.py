"""`atoll simulate`: what it prints, what it writes, how it ends."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from node.commands.application import run
from simulations.checkers.sometimes import SITUATIONS
from simulations.plans.case import load
from simulations.plans.drawing import Recipe, region_names
from simulations.plans.plan import dump
from simulations.search import search

QUICK = ["--regions", "3", "--duration", "5s", "--operations", "40"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def simulate(*arguments: str) -> int:
    return run(["simulate", *arguments])


def test_one_run_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seed", "3", *QUICK) == 0
    text = capsys.readouterr().out
    assert re.match(
        r"seed 3: 3 regions, .* 40 operations, .* trace [0-9a-f]{32}\n  all held: \d+ events verified", text
    )
    assert simulate("--seed", "3", *QUICK, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert {
        "seed", "trace", "ok", "violations", "simulated_seconds", "wall_seconds", "operations", "exchanges", "faults",
        "sometimes",
    } <= shown.keys()  # fmt: skip
    assert (shown["seed"], shown["ok"], shown["operations"]) == (3, True, 40)
    assert shown["trace"] in text


def test_a_search_in_two_processes_finds_what_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[Any] = []
    for jobs in ("1", "2"):
        assert simulate("--seeds", "4..7", *QUICK, "--json", "--jobs", jobs) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["trace"] == found[1]["trace"]
    assert list(found[0]["trace"]) == ["4", "5", "6", "7"]
    assert found[0]["seed"] == [4, 7]
    assert found[0]["sometimes"].keys() >= set(SITUATIONS) - set(found[0]["never"])
    assert not found[0]["sometimes"].keys() & set(found[0]["never"])
    assert found[0]["sometimes"].keys() <= set(SITUATIONS)


def test_a_search_says_what_it_never_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seeds", "1..2", *QUICK, "--faults", "none") == 0
    text = capsys.readouterr().out
    assert "2 seeds" in text
    assert "a process died before its commit   <- never reached" in text


def test_a_sabotage_is_found_made_small_written_and_replayed(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--seeds", "0..50", "--sabotage", "tie-by-arrival", "--workload", "registers", "--faults", "none"]
    assert simulate(*arguments, "--shrink", "--report", "found.html", *QUICK) == 1
    text = capsys.readouterr().out
    match = re.search(r"to see it again: atoll simulate --replay (\S+)", text)
    assert match
    case = elsewhere / match[1]
    plan = load(case)
    assert len(plan.operations) <= 12
    assert dump(plan) == case.read_text()
    assert simulate("--replay", str(case)) == 1
    assert "VIOLATION reference" in capsys.readouterr().out
    report = (elsewhere / "found.html").read_text()
    assert "a promise was broken" in report
    assert "had seen, of its stream" in report
    assert "http://" not in report.replace("http://www.w3.org", "")


def test_a_report_of_a_run_that_held(elsewhere: Path) -> None:
    assert simulate("--seed", "2", *QUICK, "--report", "held.html", "--faults", "partition,kill") == 0
    report = (elsewhere / "held.html").read_text()
    for part in ("all held", "<svg", "partition", "kill", "events that some region lacks", "--replay case.json"):
        assert part in report


def test_an_event_file_is_a_workload(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[dict[str, Any]] = [
        {"region": "us", "stream": "users/a", "set": {"n": 1}, "at": "2020-01-01T00:00:00Z"},
        {"region": "eu", "stream": "users/a", "set": {"n": 2}},
        {"region": "us", "stream": "groups/g", "add": {"members": ["a", "b"]}},
        {"region": "eu", "stream": "groups/g", "remove": {"members": ["a"]}},
    ]
    (elsewhere / "file.ndjson").write_text("\n".join(map(json.dumps, lines)))
    assert simulate("--workload", "file.ndjson", "--duration", "5s", "--faults", "partition") == 0
    assert "2 regions" in capsys.readouterr().out


def test_a_file_that_holds_no_events_is_told(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, said in (("", "holds no event"), ("[]", "line 1: not an event"), ('{"region": []}', "not an event")):
        (elsewhere / "file.ndjson").write_text(text)
        assert simulate("--workload", "file.ndjson") == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("what", ["faults", "sabotages", "workloads", "scenarios", "situations"])
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--list", what) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seed", "x"], "x"),
        (["--seeds", "5..1"], "--seeds '5..1' is not A..B"),
        (["--seed", "1", "--seeds", "1..2"], "not both"),
        (["--duration", "60"], "--duration '60' is not a time"),
        (["--duration", "0s"], "is not a time"),
        (["--regions", "17"], "--regions must be from 1 to 16"),
        (["--operations", "-1"], "--operations must be from 0"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--faults", "flood"], "fault 'flood' is not known; known are partition"),
        (["--workload", "nothing"], "workload 'nothing' is not a file, nor known"),
        (["--report", "nowhere/report.html"], "nowhere/report.html cannot be written"),
        (["--case", "."], ". cannot be written"),
        (["--sabotage", "nothing"], "sabotage 'nothing' is not known"),
        (["--fidelity", "none"], "fidelity"),
        (["nowhere.toml"], "nowhere.toml: No such file"),
        (["--replay", "nowhere.json"], "nowhere.json: No such file"),
        (["--replay", "x.json", "--seed", "1"], "--replay takes everything from its file"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_what_makes_no_sense_ends_with_two(
    arguments: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert simulate(*arguments) == 2
    shown = capfd.readouterr()
    assert says in re.sub(r"\s+", " ", shown.err + shown.out)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda plan: plan | {"regions": ["eu", "EU"]}, "region 'EU'"),
        (lambda plan: plan | {"regions": ["eu", "eu"]}, "a region comes twice"),
        (lambda plan: plan | {"home": "mars"}, "'mars' is not one of the plan's regions"),
        (lambda plan: plan | {"links": []}, "the links do not connect all regions"),
        (lambda plan: plan | {"format": 9}, "is not a plan"),
        (lambda plan: plan | {"colour": 1}, "is not a plan: Object contains unknown field `colour`"),
        (lambda plan: plan | {"faults": [{"at": 1, "kind": "flood"}]}, "fault 'flood' is not known"),
        (lambda plan: plan | {"faults": [{"at": 1, "kind": "kill"}]}, "fault 'kill' at 1 s needs 'region'"),
        (lambda plan: plan | {"faults": [{"at": 1, "kind": "kill", "region": "xx"}]}, "'xx' is not one of"),
        (lambda plan: plan | {"faults": [{"at": 1, "kind": "loss", "amount": -1}]}, "below what it can have"),
        (lambda plan: plan | {"operations": [{"at": 1, "client": 0, "region": "eu", "do": "sing"}]}, "is not a plan"),
    ],
)
def test_a_plan_that_was_edited_wrongly_is_refused(
    change: Any, says: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = json.loads(dump(Recipe(("eu", "us"), 5.0, 5, ())(1)))
    (elsewhere / "case.json").write_text(json.dumps(change(plan)))
    assert simulate("--replay", "case.json") == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("said", [b'{"summary": "\xff"}', b"a = " + b"[" * 5_000, b"[" * 5_000])
def test_a_file_that_cannot_be_read_is_named(
    said: bytes, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "file").write_bytes(said)
    assert simulate("--replay", "file") == 2
    assert "file is not a plan: " in capsys.readouterr().err
    assert simulate("file") == 2
    assert "file is not a scenario: " in capsys.readouterr().err


def test_a_plan_survives_being_printed(elsewhere: Path) -> None:
    plan = Recipe(region_names(5), 60.0, 300, None)(9)
    (elsewhere / "plan.json").write_text(dump(plan))
    assert load(elsewhere / "plan.json") == plan


def deadly(seed: int) -> Any:
    """A plan whose making ends its process, as LMDB would."""
    if seed == 1:
        import os

        os.abort()
    return Recipe(region_names(2), 2.0, 5, ())(seed)


def make_unless_worker(seed: int) -> Any:
    import multiprocessing

    return deadly(seed) if multiprocessing.parent_process() else Recipe(region_names(2), 2.0, 5, ())(seed)


def test_a_seed_that_kills_its_process_is_named_and_the_others_run() -> None:
    results = list(search(make_unless_worker, range(3), "direct", 1))
    assert [result.seed for result in results] == [0, 1, 2]
    assert [result.ok for result in results] == [True, False, True]
    assert "died" in results[1].violations[0].detail
