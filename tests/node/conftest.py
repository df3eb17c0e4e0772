"""What tests of the node share."""

from pathlib import Path

import pytest

from tests.gossiping import World


@pytest.fixture
def world(workplace: Path) -> World:
    """A cluster that has no node yet."""
    return World(workplace)
