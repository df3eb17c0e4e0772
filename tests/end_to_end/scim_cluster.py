"""SCIM to each region of a cluster of real processes, and what its regions then say alike."""

import json
import subprocess
from typing import Any

import httpx
import trio

from tests.end_to_end.cluster import ATOLL, PATIENCE_S, REGIONS, ROOT, Cluster
from tests.scim import PATCH, SCIM


async def ask(
    cluster: Cluster,
    region: str,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    **query: str,
) -> httpx.Response:
    """One SCIM request to a region."""
    return await cluster.client.request(
        method, f"{cluster.urls[region]}/scim/v2{path}", params=query, headers={**SCIM, **(headers or {})},
        content=None if body is None else json.dumps(body).encode(),
    )  # fmt: skip


async def done(response: httpx.Response, *statuses: int) -> Any:
    """What must have succeeded."""
    assert response.status_code in (statuses or (200, 201, 204)), (response.status_code, response.text)
    return response.json() if response.content else None


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(operations)}


def token_of(resource: Any) -> str:
    return str(resource["meta"]["version"]).removeprefix('W/"').rstrip('"').partition("+")[0]


async def everything(cluster: Cluster, region: str) -> dict[str, Any]:
    """Every user and group of a region, and what waits to be mended, as bodies without their region's address."""
    shown: dict[str, Any] = {}
    for kind in ("Users", "Groups"):
        listed = await done(await ask(cluster, region, "GET", f"/{kind}", count="200"))
        shown[kind] = listed.get("Resources", [])
    conflicts = (await cluster.client.get(f"{cluster.urls[region]}/conflicts")).json()["conflicts"]
    text = json.dumps([shown, conflicts], sort_keys=True).replace(cluster.urls[region], "HERE")
    parsed: list[Any] = json.loads(text)
    return {"resources": parsed[0], "conflicts": parsed[1], "answers": await cluster.answers(region)}


async def agree(cluster: Cluster) -> dict[str, Any]:
    """Wait until all heads are equal; what all regions then answer alike."""
    await cluster.settle()
    first, *others = [await everything(cluster, region) for region in REGIONS]
    for other in others:
        assert other == first
    return first


def run(*arguments: str) -> str:
    """A command; what it printed."""
    finished = subprocess.run([*ATOLL, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


async def caught_up(cluster: Cluster, region: str) -> None:
    """Wait until every build of every view shows everything: what is verified at the end."""
    await cluster.settle()
    with trio.fail_after(PATIENCE_S):
        while True:
            views = (await cluster.client.get(f"{cluster.urls[region]}/views")).json()["views"]
            if all(
                not build["behind"] and build["state"] == "following"
                for view in views.values()
                for build in view["builds"]
            ):
                return
            await trio.sleep(0.05)
