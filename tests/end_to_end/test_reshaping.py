"""A directory that is reshaped while it is used: fields split off and joined, views changed, nodes killed meanwhile."""

import json
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from tests.end_to_end.cluster import ATOLL, REGIONS, ROOT, Cluster, running
from tests.end_to_end.scim_cluster import agree, ask, caught_up, done, patch, run
from tests.scim import USER


async def test_fields_are_split_off_and_joined_again_while_another_region_writes(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        us, ap = cluster.urls["us"], cluster.urls["ap"]
        user = {"schemas": [USER], "userName": "anna", "title": "Guide", "locale": "de", "timezone": "Europe/Berlin"}
        user = await done(await ask(cluster, "us", "POST", "/Users", user))
        stream = f"users/{user['id']}"
        part = f"{stream}/preferences"
        await cluster.settle()
        before = await done(await ask(cluster, "ap", "GET", f"/Users/{user['id']}"))
        cluster.cut("ap", cut=True)
        said = run("streams", "split", stream, "--fields", "locale", "--fields", "time*", "--to", part, "--node", us)
        assert said == f"2 fields of {stream} moved to {part}\n"
        await done(
            await ask(
                cluster,
                "ap",
                "PATCH",
                f"/Users/{user['id']}",
                patch({"op": "replace", "path": "locale", "value": "fr"}),
            )
        )
        cluster.cut("ap", cut=False)
        shown = await agree(cluster)
        [now] = shown["resources"]["Users"]
        assert {**now, "meta": None} == {**json.loads(json.dumps(before).replace(ap, "HERE")), "meta": None}, (
            "readers follow"
        )
        assert shown["answers"][part]["registers"] == {
            "locale": "de",
            "timezone": "Europe/Berlin",
            "moved_from": stream,
        }
        [item] = [one for one in shown["conflicts"] if one["stream"] == stream]
        written = item["fields"]["locale"]
        assert "fr" in (written["value"], *(lost["value"] for lost in written["lost"])), (
            "what came meanwhile is listed"
        )
        followed = (await cluster.client.get(f"{ap}/streams/{stream}?follow=true")).json()
        assert followed["registers"]["timezone"] == "Europe/Berlin"
        assert list(followed["parts"]) == [part]
        await cluster.client.post(f"{us}/streams/{stream}", json={"set": {"locale": None}})
        moved = patch({"op": "replace", "path": "locale", "value": "it"})
        await done(await ask(cluster, "us", "PATCH", f"/Users/{user['id']}", moved))
        assert (await cluster.client.get(f"{us}/streams/{part}")).json()["registers"]["locale"] == "it", (
            "writers follow too"
        )
        await cluster.client.post(f"{us}/streams/{stream}", json={"set": {"timezone": "Asia/Tokyo"}})
        stray = (await cluster.client.get(f"{us}/conflicts")).json()["conflicts"][0]
        assert stray["strays"] == {"registers": {"timezone": "Asia/Tokyo"}, "sets": {}}
        assert "written after a split" in run("conflicts", "--node", us)
        await refused_in_a_line(us, "join", part, "--into", stream, saying="other values of timezone")
        await cluster.client.post(f"{us}/streams/{stream}", json={"set": {"timezone": None}})
        run("streams", "join", part, "--into", stream, "--node", us)
        shown = await agree(cluster)
        [now] = shown["resources"]["Users"]
        assert (now["locale"], now["timezone"]) == ("it", "Europe/Berlin")
        assert shown["conflicts"] == []
        await refused_in_a_line(us, "join", part, "--into", "users/other", saying="lies below it")
        await refused_in_a_line(us, "split", stream, "--fields", "nothing", "--to", part, saying="nothing")
        for place in (part, f"{stream}/of-its-own"):
            await cluster.client.post(f"{us}/streams/{place}", json={"set": {"timezone": "Asia/Tokyo"}})
            await refused_in_a_line(us, "split", stream, "--fields", "*", "--to", place, saying="values of timezone")


async def refused_in_a_line(node: str, *arguments: str, saying: str) -> None:
    command = [*ATOLL, "streams", *arguments, "--node", node]
    refused = await trio.run_process(command, capture_stderr=True, check=False, cwd=ROOT)
    assert (refused.returncode, refused.stderr.count(b"\n")) == (1, 1), refused.stderr
    assert saying in refused.stderr.decode()


PEOPLE = """
    from node.views.view import Row, View


    def rows(state):
        name = state.text("userName")
        if name:
            yield Row(name{change}, {{"initial": name[0].upper()}})


    VIEWS = [View(name="people", version={version}, streams="users/", rows=rows, columns=("initial",))]
"""


@asynccontextmanager
async def under_load(cluster: Cluster, answered: dict[str, int]) -> AsyncIterator[None]:
    """Writes and reads in every region for the time of the block; none of them may fail."""

    enough = trio.Event()

    async def work(region: str) -> None:
        number = 0
        while not enough.is_set():  # a request under way is let come to its end
            made = await ask(cluster, region, "POST", "/Users", {"schemas": [USER], "userName": f"{region}-{number}"})
            assert made.status_code == 201, made.text
            read = await cluster.client.get(f"{cluster.urls[region]}/views/people?key={region}-{number}")
            assert read.status_code == 200, read.text
            answered[region] += 1
            number += 1

    async with trio.open_nursery() as nursery:
        for region in REGIONS:
            nursery.start_soon(work, region)
        yield
        enough.set()


async def test_a_view_is_changed_and_rolled_back_under_load_without_a_failed_read(tmp_path: Path) -> None:
    module = tmp_path / "people.py"
    module.write_text(textwrap.dedent(PEOPLE.format(version=1, change="")))
    answered = dict.fromkeys(REGIONS, 0)
    async with running(tmp_path, options=("--view", "people"), modules=tmp_path) as cluster:
        async with under_load(cluster, answered):
            await trio.sleep(0.5)
            module.write_text(textwrap.dedent(PEOPLE.format(version=2, change=".upper()")))
            for region in REGIONS:
                said = await trio.to_thread.run_sync(
                    run, "views", "rebuild", "people", "--switch", "--node", cluster.urls[region]
                )
                assert "has caught up, and serves" in said
            for region in REGIONS:
                builds = (await cluster.client.get(f"{cluster.urls[region]}/views")).json()["views"]["people"][
                    "builds"
                ]
                old, new = (build["build"] for build in builds)
                assert [build["serving"] for build in builds] == [False, True]
                for do, build in (("switch", old), ("switch", new), ("drop", old)):
                    if region == REGIONS[0]:  # by the command, which takes its time to start
                        node = ("--node", cluster.urls[region])
                        await trio.to_thread.run_sync(run, "views", do, "people", str(build), *node)
                    else:
                        asked = {"do": do, "build": build}
                        done = await cluster.client.post(f"{cluster.urls[region]}/views/people", json=asked)
                        assert done.status_code == 200, done.text
            assert "people" in await trio.to_thread.run_sync(run, "views", "--node", cluster.urls[REGIONS[0]])
        assert all(count > 3 for count in answered.values()), answered
        await cluster.settle()


async def test_killed_while_views_are_built_they_end_as_a_fresh_build(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        lines = [
            {
                "stream": f"users/{number}",
                "set": {"userName": f"name {number}"},
                "add": {"emails": [f"{number}@x.example"]},
            }
            for number in range(2_000)
        ]
        file = tmp_path / "lines.ndjson"
        file.write_text("\n".join(map(json.dumps, lines)))
        upload = ["curl", "-s", "-T", str(file), "-X", "POST", "-H", "content-type: application/x-ndjson"]
        for pause in (0.0, 0.03, 0.1, 0.3):
            async with trio.open_nursery() as nursery:

                async def load() -> None:
                    await trio.run_process(
                        [*upload, f"{cluster.urls['us']}/ingest"], capture_stdout=True, check=False
                    )

                nursery.start_soon(load)
                await trio.sleep(0.1 + pause)
                for name in ("users-by-name", "users-search", "groups-of"):
                    try:
                        await cluster.client.post(f"{cluster.urls['us']}/views/{name}", json={"do": "rebuild"})
                    except httpx.TransportError:
                        break
                await trio.sleep(pause)
                cluster.kill("us")
            await cluster.start("us")
        for region in REGIONS:
            await caught_up(cluster, region)
