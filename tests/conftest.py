"""Fixtures for all tests, and how hard hypothesis tries."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers import Node

settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# Which lines and branches are reached shows in few histories; to look at many is for the other runs.
settings.register_profile("branches", parent=settings.get_profile("default"), max_examples=20)
settings.register_profile("search", parent=settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

MEMORY = Path("/dev/shm")


@pytest.fixture
def workplace() -> Iterator[Path]:
    """A directory for stores: in memory where there is one, since these tests sync often and lose no power."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory)


@pytest.fixture
def node(workplace: Path) -> Iterator[Callable[..., Node]]:
    """Makes replicas; at the end each is closed and verified."""
    made: list[Node] = []

    def make(region: str, **options: Any) -> Node:
        made.append(Node(workplace / f"{region}{len(made)}", region, seed=len(made) * 1000, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
