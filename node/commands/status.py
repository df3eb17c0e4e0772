"""`atoll status`: regions, vectors and lag."""

import json
from typing import Annotated, Any

import httpx
import trio
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

TIMEOUT_S = 5.0


async def status(*urls: str, json_output: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Ask nodes for their status, and say whether they agree.

    Exit status 1 where a node does not answer, or has a fork.

    Parameters
    ----------
    urls
        Nodes to ask.
    json_output
        Print one JSON object, url to status, instead of tables.
    """
    answers = await fetch_all(urls or ("http://127.0.0.1:8080",))
    if json_output:
        print(json.dumps(answers, sort_keys=True))
    else:
        _print(answers)
    return 1 if any("problem" in answer or answer.get("forks") for answer in answers.values()) else 0


async def fetch_all(urls: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Each node's status document, or `{"problem": …}` where it does not answer."""
    answers: dict[str, dict[str, Any]] = {}

    async def fetch(url: str) -> None:
        try:
            response = await client.get(f"{url.rstrip('/')}/status")
            response.raise_for_status()
            answers[url] = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            answers[url] = {"problem": str(error) or type(error).__name__}

    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client, trio.open_nursery() as nursery:
        for url in urls:
            nursery.start_soon(fetch, url)
    return {url: answers[url] for url in urls}


def _print(answers: dict[str, dict[str, Any]]) -> None:
    console = Console()
    nodes = Table("node", "region", "origin", "events", "ready", "forks", "left out")
    links = Table("from", "to", "reachable", "it lacks", "it has more", "answered", "error")
    for url, answer in answers.items():
        if "problem" in answer:
            nodes.add_row(url, "-", "-", "-", f"no: {answer['problem']}", "-", "-")
            continue
        ready = "yes" if answer["ready"] and answer["writing"] else "no"
        counts = [str(answer["events"]), ready, str(len(answer["forks"])), str(len(answer["left_out"]))]
        nodes.add_row(url, answer["region"], answer["origin"], *counts)
        for peer in answer["peers"]:
            links.add_row(*_link(answer["region"], peer))
    console.print(nodes)
    if links.row_count:
        console.print(links)
    answered = [answer for answer in answers.values() if "heads" in answer]
    vectors = _vectors(answered)
    if vectors.row_count:
        console.print(vectors)
    if len(answered) > 1:
        same = all(answer["heads"] == answered[0]["heads"] for answer in answered)
        console.print("heads are equal" if same else "heads differ: gossip is under way, or a link is down")


def _vectors(answered: list[dict[str, Any]]) -> Table:
    """What each node holds: the newest seq of every origin."""
    table = Table("origin", *(f"at {answer['region']}" for answer in answered))
    for origin in sorted({origin for answer in answered for origin in answer["heads"]}):
        seqs = (answer["heads"].get(origin, [0])[0] for answer in answered)
        table.add_row(origin, *(str(seq) for seq in seqs))
    return table


def _link(region: str, peer: dict[str, Any]) -> list[str]:
    ago = peer["answered_ms_ago"]
    return [
        region,
        peer["region"] or peer["url"],
        "yes" if peer["reachable"] else "no",
        "-" if peer["behind"] is None else str(peer["behind"]),
        "-" if peer["ahead"] is None else str(peer["ahead"]),
        "never" if ago is None else f"{ago / 1000:.1f} s ago",
        peer["error"] or "",
    ]
