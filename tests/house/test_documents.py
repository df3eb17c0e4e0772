"""The documents are held to the code."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Meta

from node.configuration import Configuration, configure
from node.interface.routes import ROUTES

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def described(field: Any) -> str:
    hint = Configuration.__annotations__[field.name]
    [meta] = [one for one in hint.__metadata__ if isinstance(one, Meta)]
    assert meta.description
    return str(meta.description)


def test_every_key_of_the_configuration_is_documented_in_its_own_words() -> None:
    for field in msgspec.structs.fields(Configuration):
        default = "required" if field.required else "none" if field.default == () else f"`{field.default}`"
        assert f"| `{field.name}` | {default} | {described(field)} |" in CONFIGURATION
    example = CONFIGURATION.partition("```toml\n")[2].partition("```")[0]
    assert configure(tomllib.loads(example)).region == "eu-west"


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["dev"]
    table = ARCHITECTURE.partition("## Dependencies")[2].partition("\n## ")[0]
    named = {name.strip() for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in row.split(",")}
    assert {re.split(r"[<>=]", one)[0] for one in declared} <= named


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
