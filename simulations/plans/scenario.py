"""A scenario: a TOML file that says what happens to a cluster; the rest of the plan is drawn from the seed."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from node.errors import BadArguments
from replication.packing import DECODE_ERRORS
from simulations.plans.plan import DURATION_MAX_S, REGIONS_MAX, Fault, Link

PLACE = Path(__file__).resolve().parent.parent / "scenarios"


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scenario file may say. Options of the command line go before it.

    Shape: `kinds` of faults to draw, beside the `faults` that are given; without `links`, a ring and some across.
    """

    summary: str
    regions: tuple[str, ...] | Annotated[int, Meta(ge=1, le=REGIONS_MAX)] = 3
    duration: Annotated[float, Meta(gt=0, le=DURATION_MAX_S)] = 60.0
    operations: Annotated[int, Meta(ge=0, le=1_000_000)] = 200
    workload: str = "mixed"
    kinds: str = "none"
    faults: tuple[Fault, ...] = ()
    links: tuple[Link, ...] = ()


def shipped() -> dict[str, Scenario]:
    """The scenarios that come with Atoll, by name."""
    return {path.stem: read_scenario(path) for path in sorted(PLACE.glob("*.toml"))}


def find_scenario(name: str) -> Scenario:
    """A scenario by its file, or by the name of one that is shipped. Raises: BadArguments."""
    path = Path(name)
    if not path.exists() and (PLACE / f"{path.stem}.toml").exists() and path.parent == Path():
        path = PLACE / f"{path.stem}.toml"
    return read_scenario(path)


def read_scenario(path: Path) -> Scenario:
    """Raises: BadArguments."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Scenario)
    except OSError as error:
        raise BadArguments(
            f"{path}: {error.strerror}; `atoll simulate --list scenarios` names those shipped"
        ) from None
    except DECODE_ERRORS as error:
        raise BadArguments(f"{path} is not a scenario: {error}") from None
