"""SCIM's models are loaded when they are first asked for, beside everything else."""

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from node.interface.directory import load
from tests.scim import Directory
from tests.serving import serving


def test_a_node_starts_without_scim_s_models() -> None:
    starts = "import sys, node.server; print(sorted(name for name in sys.modules if name.startswith('scim2')))"
    assert subprocess.run([sys.executable, "-c", starts], capture_output=True, text=True, check=True).stdout == "[]\n"


async def test_requests_that_meet_while_they_are_loaded_are_all_answered(workplace: Path) -> None:
    async with serving(workplace) as served:
        load.cache_clear()
        answers = []

        async def ask() -> None:
            answers.append((await served.client.get("/scim/v2/ServiceProviderConfig")).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert answers == [200, 200, 200]
        assert load.cache_info().currsize == 1


async def test_they_are_loaded_at_start_where_they_were_asked_for_before(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(workplace) as served:
        await served.write("users/1", set={"userName": "anna"})
        await Directory(served).user("berta")
    load.cache_clear()
    async with serving(workplace / "another"):
        assert not load.cache_info().currsize
    async with serving(workplace):
        pass
    assert load.cache_info().currsize

    def broken() -> None:
        raise ImportError("there is no such module")

    monkeypatch.setattr("node.interface.directory.load", broken)
    async with serving(workplace) as served:
        assert (await served.client.get("/streams/users/1")).status_code == 200
    assert "/scim/v2 cannot be loaded" in caplog.text
    caplog.clear()
