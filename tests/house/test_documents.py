"""The documents are held to the code."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Meta

from node.commands.application import run
from node.configuration import Configuration, configure
from node.interface.routes import ROUTES
from simulations.plans.drawing import Recipe
from simulations.plans.faults import check_fault
from simulations.plans.plan import dump
from simulations.plans.scenario import Scenario
from simulations.sabotages import SABOTAGES
from tests.serving import serving

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
README = (ROOT / "README.md").read_text()
SIMULATION = (ROOT / "docs" / "simulation.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def described(field: Any) -> str:
    hint = Configuration.__annotations__[field.name]
    [meta] = [one for one in hint.__metadata__ if isinstance(one, Meta)]
    assert meta.description
    return str(meta.description)


def test_every_key_of_the_configuration_is_documented_in_its_own_words() -> None:
    for field in msgspec.structs.fields(Configuration):
        default = "required" if field.required else "none" if field.default in ((), "") else f"`{field.default}`"
        assert f"| `{field.name}` | {default} | {described(field)} |" in CONFIGURATION
    example = CONFIGURATION.partition("```toml\n")[2].partition("```")[0]
    assert configure(tomllib.loads(example)).region == "eu-west"


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["dev"]
    table = ARCHITECTURE.partition("## Dependencies")[2].partition("\n## ")[0]
    named = {name.strip() for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in row.split(",")}
    assert {re.split(r"[<>=\[]", one)[0] for one in declared} <= named


def test_the_simulator_s_page_names_what_there_is() -> None:
    table = re.findall(r"^\| ([a-z-]+) \| (\d+) \| \d+ s \| [a-z]+ \| (\d+) \| (\d+) \|", SIMULATION, re.MULTILINE)
    assert [row[0] for row in table] == list(SABOTAGES)
    assert all(
        int(seeds) <= 200 and int(operations) <= 12 and int(faults) <= 3 for _, seeds, operations, faults in table
    )
    example = SIMULATION.partition("```toml\n")[2].partition("```")[0]
    scenario = msgspec.toml.decode(example, type=Scenario)
    for fault in scenario.faults:
        check_fault(fault)


@pytest.mark.parametrize(
    "line", [line.strip() for line in README.splitlines() if line.startswith("    atoll simulate")]
)
def test_the_readme_s_simulations_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "case.json").write_text(dump(Recipe(("eu", "us"), 2.0, 10, ())(1)))
    command = re.split(r"\s{2,}", line)[0].replace("0..499", "0..2")
    small = [] if "--replay" in command else ["--duration", "5s", "--operations", "40"]
    assert run([*command.split()[1:], *small]) == 0


def test_every_route_stands_in_the_readme() -> None:
    for route in ROUTES:
        collection = "/" + route.path.strip("/").split("/")[0]
        assert collection in README, route.path


def test_nothing_records_an_address_or_a_place_of_the_machine_it_was_made_on() -> None:
    for name in ("requirements.lock", "pyproject.toml", "README.md", "ARCHITECTURE.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text()
        assert "--index" not in text
        assert not re.search(r"https?://(?!127\.0\.0\.1|10\.)\S+", text), name
        assert not re.search(r"/(root|home|work)/", text), name


def test_pins_and_lock_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = {pin.partition(";")[0].strip() for pin in project["tool"]["uv"]["constraint-dependencies"]}
    lock = (ROOT / "requirements.lock").read_text()
    assert pins == set(re.findall(r"^([\w.-]+==[^ \\;]+)", lock, re.MULTILINE))


DIRECTORY = (ROOT / "docs" / "directory.md").read_text()


async def test_the_directory_s_page_does_what_it_says(
    tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "atoll_documented_view.py").write_text(DIRECTORY.partition("```python\n")[2].partition("```")[0])
    lines = [line.strip() for line in DIRECTORY.splitlines() if line.startswith("    curl ")]
    assert len(lines) == 6
    async with serving(workplace, views=["atoll_documented_view"]) as served:
        department = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"
        await served.write("users/7", set={"userName": "anna", department: "Engineering"})
        answers: list[Any] = []
        for line in lines:
            command = line.replace("URL", served.url)
            done = await trio.run_process(command, shell=True, capture_stdout=True)
            answers.append(json.loads(done.stdout))
    made, named, by_email, view, conflicts, own = answers
    assert named["Resources"][0]["id"] == by_email["Resources"][0]["id"] == made["id"]
    assert view["rows"][0]["stream"] == f"users/{made['id']}"
    assert conflicts["conflicts"] == []
    assert own["rows"][0]["columns"] == {"userName": "anna", "engineer": True}
