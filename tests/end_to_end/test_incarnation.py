"""Clones and rollbacks of real data directories under real processes (I6, I7)."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import trio

from node.bench.processes import HOST, free_port
from tests.end_to_end.cluster import ATOLL, PATIENCE_S, ROOT, Cluster, running


async def write(cluster: Cluster, region: str, stream: str, value: Any) -> dict[str, Any]:
    response = await cluster.client.post(f"{cluster.urls[region]}/streams/{stream}", json={"set": {"n": value}})
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def value(cluster: Cluster, region: str, stream: str) -> Any:
    response = await cluster.client.get(f"{cluster.urls[region]}/streams/{stream}")
    return response.json()["registers"]["n"] if response.status_code == 200 else None


async def until_value(cluster: Cluster, region: str, stream: str, expected: Any) -> None:
    with trio.fail_after(PATIENCE_S):
        while await value(cluster, region, stream) != expected:
            await trio.sleep(0.05)


async def back_up(cluster: Cluster, region: str) -> Path:
    """A copy of the store as a killed process leaves it."""
    cluster.kill(region)
    copy = cluster.directory / f"{region}.backup"
    shutil.copyfile(cluster.directory / region / "data.mdb", copy)
    await cluster.start(region)
    return copy


def roll_back(cluster: Cluster, region: str, copy: Path) -> None:
    """Put the copy back into the very same file."""
    cluster.kill(region)
    shutil.copyfile(copy, cluster.directory / region / "data.mdb")


async def test_a_rollback_with_peers_in_reach_takes_a_new_incarnation(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await write(cluster, "eu", "s", 1)
        copy = await back_up(cluster, "eu")
        old = (await write(cluster, "eu", "s", 2))["dot"]
        await cluster.settle()
        roll_back(cluster, "eu", copy)
        await cluster.start("eu")
        new = (await write(cluster, "eu", "s", 3))["dot"]
        assert new.split(".")[1] != old.split(".")[1]
        await cluster.settle()
        for region in ("us", "eu", "ap"):
            assert await value(cluster, region, "s") == 3
            assert (await cluster.status(region))["forks"] == []


async def test_a_rollback_without_peers_is_a_fork_named_on_both_sides(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await write(cluster, "eu", "s", 1)
        copy = await back_up(cluster, "eu")
        await write(cluster, "eu", "s", "lost")
        await cluster.settle()
        cluster.cut("eu", True)
        roll_back(cluster, "eu", copy)
        await cluster.start("eu")
        forked = (await write(cluster, "eu", "s", "again"))["dot"]
        cluster.cut("eu", False)
        with trio.fail_after(PATIENCE_S):
            while not ((await cluster.status("eu"))["forks"] and (await cluster.status("us"))["forks"]):
                await trio.sleep(0.05)
        [here], [there] = (await cluster.status("eu"))["forks"], (await cluster.status("us"))["forks"]
        assert here["dot"] == there["dot"] == forked
        assert (here["here"], here["there"]) == (there["there"], there["here"])
        await write(cluster, "us", "t", 7)
        await until_value(cluster, "ap", "t", 7)
        assert (await value(cluster, "eu", "s"), await value(cluster, "us", "s")) == ("again", "lost")


async def test_a_clone_goes_on_as_another_origin(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await write(cluster, "eu", "s", 1)
        await cluster.settle()
        cluster.kill("eu")
        shutil.copytree(tmp_path / "eu", tmp_path / "clone")
        await cluster.start("eu")
        port = free_port()
        command = [*ATOLL, "serve", "--region", "eu", "--data", str(tmp_path / "clone"), "--listen", f"{HOST}:{port}"]
        command += ["--peer", cluster.urls["us"], "--gossip-interval-ms", "200"]
        clone = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)  # noqa: ASYNC220  # it outlives the line
        try:
            with trio.fail_after(PATIENCE_S):
                while True:
                    try:
                        written = await cluster.client.post(f"http://{HOST}:{port}/streams/s", json={"set": {"n": 2}})
                        break
                    except httpx.TransportError:
                        await trio.sleep(0.05)
            mine = await write(cluster, "eu", "u", 3)
            assert written.json()["dot"].split(".")[1] != mine["dot"].split(".")[1]
            for region in ("us", "eu", "ap"):
                await until_value(cluster, region, "s", 2)
                await until_value(cluster, region, "u", 3)
                assert (await cluster.status(region))["forks"] == []
        finally:
            clone.kill()
            clone.wait()
