"""`atoll views`: what views a node has, and building, switching and dropping their builds."""

import sys
from typing import Any
from urllib.parse import quote

import trio
from cyclopts import App

from node.commands.asking import NODE, Asked, asking
from node.commands.progress import progress_bar
from node.commands.tables import print_table
from node.errors import CommandFailed

LOOK_S = 0.2

app = App(name="views", help="A node's views: list them, build one anew beside what serves, switch, drop.")


@app.default
async def show(*, node: str = NODE) -> None:
    """List the views, and how far each of their builds has come.

    Parameters
    ----------
    node
        The node to ask.
    """
    async with asking(node) as asked:
        answer = await asked.get("/views", "views")
    rows: list[tuple[str, ...]] = []
    for name, view in sorted(answer["views"].items()):
        for build in view["builds"]:
            state = build["state"] + (f" {build['scanned']} of {build['streams']}" if "scanned" in build else "")
            counts = [str(build[one]) for one in ("behind", "entries", "failures")]
            serves = "yes" if build["serving"] else ""
            rows.append((name, str(build["build"]), str(build["version"]), state, serves, *counts))
    print_table(("view", "build", "version", "state", "serves", "events behind", "entries", "failures"), rows)


@app.command
async def rebuild(name: str, /, *, node: str = NODE, switch: bool = False) -> None:
    """Load the definitions again, and build a view anew beside what serves; wait until it has caught up.

    Parameters
    ----------
    name
        The view.
    node
        The node to ask.
    switch
        Have it serve as soon as it can.
    """
    async with asking(node) as asked:
        number = (await asked.post(_path(name), {"do": "rebuild"}, "build"))["build"]
        with progress_bar(f"building {name}") as advance:
            while True:
                build, serving = await _build(asked, name, number)
                if build["state"] == "following" and build["behind"] <= serving["behind"]:
                    break
                if "scanned" in build:
                    advance(build["scanned"], build["streams"])
                await trio.sleep(LOOK_S)
        if switch and not build["serving"]:
            await asked.post(_path(name), {"do": "switch", "build": number}, "build")
    print(f"build {number} of view {name} has caught up" + (", and serves" if switch or build["serving"] else ""))
    if build["failures"]:
        print(f"its function failed {build['failures']} times; the node's log says on what", file=sys.stderr)


async def _build(asked: Asked, name: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A build, and the one that serves."""
    builds = (await asked.get("/views", "views"))["views"][name]["builds"]
    build = next((build for build in builds if build["build"] == number), None)
    if build is None:
        raise CommandFailed(f"build {number} of view {name} is gone: the views were damaged, and are all built anew")
    return build, next((build for build in builds if build["serving"]), build)


@app.command(name="switch")
async def switch_to(name: str, build: int, /, *, node: str = NODE) -> None:
    """Have another build serve, from one query to the next: a newer one, or, to roll back, the one before.

    Parameters
    ----------
    name
        The view.
    build
        The build's number, as `atoll views` lists it.
    node
        The node to ask.
    """
    async with asking(node) as asked:
        await asked.post(_path(name), {"do": "switch", "build": build}, "build")
    print(f"build {build} of view {name} serves")


@app.command
async def drop(name: str, build: int, /, *, node: str = NODE) -> None:
    """Forget a build that does not serve.

    Parameters
    ----------
    name
        The view.
    build
        The build's number, as `atoll views` lists it.
    node
        The node to ask.
    """
    async with asking(node) as asked:
        await asked.post(_path(name), {"do": "drop", "build": build}, "build")
    print(f"build {build} of view {name} is dropped")


def _path(name: str) -> str:
    return f"/views/{quote(name, safe='', errors='replace')}"
