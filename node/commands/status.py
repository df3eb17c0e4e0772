"""`atoll status`: regions, vectors and lag."""

import json
from typing import Annotated, Any

import trio
from cyclopts import Parameter

from node.commands.asking import NODE, asking
from node.commands.tables import print_table
from node.errors import CommandFailed

TIMEOUT_S = 5.0
KEYS = ("region", "origin", "events", "heads", "ready", "writing", "forks", "left_out", "peers")


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
    answers = await fetch_all(urls or (NODE,))
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
            async with asking(url, TIMEOUT_S) as asked:
                answers[url] = await asked.get("/status", *KEYS)
        except CommandFailed as error:
            answers[url] = {"problem": str(error)}

    async with trio.open_nursery() as nursery:
        for url in urls:
            nursery.start_soon(fetch, url)
    return {url: answers[url] for url in urls}


def _print(answers: dict[str, dict[str, Any]]) -> None:
    nodes: list[tuple[str, ...]] = []
    links: list[tuple[str, ...]] = []
    for url, answer in answers.items():
        if "problem" in answer:
            nodes.append((url, "-", "-", "-", f"no: {answer['problem']}", "-", "-"))
            continue
        ready = "yes" if answer["ready"] and answer["writing"] else "no"
        counts = (str(answer["events"]), ready, str(len(answer["forks"])), str(len(answer["left_out"])))
        nodes.append((url, answer["region"], answer["origin"], *counts))
        links += [_link(answer["region"], peer) for peer in answer["peers"]]
    print_table(("node", "region", "origin", "events", "ready", "forks", "left out"), nodes)
    if links:
        print_table(("from", "to", "reachable", "it lacks", "it has more", "answered", "error"), links)
    answered = [answer for answer in answers.values() if "heads" in answer]
    vectors = _vectors(answered)
    if vectors:
        print_table(("origin", *(f"at {answer['region']}" for answer in answered)), vectors)
    if len(answered) > 1:
        same = all(answer["heads"] == answered[0]["heads"] for answer in answered)
        print("heads are equal" if same else "heads differ: gossip is under way, or a link is down")


def _vectors(answered: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What each node holds: the newest seq of every origin."""
    origins = sorted({origin for answer in answered for origin in answer["heads"]})
    return [(origin, *(str(answer["heads"].get(origin, [0])[0]) for answer in answered)) for origin in origins]


def _link(region: str, peer: dict[str, Any]) -> tuple[str, ...]:
    ago = peer["answered_ms_ago"]
    return (
        region,
        peer["region"] or peer["url"],
        "yes" if peer["reachable"] else "no",
        "-" if peer["behind"] is None else str(peer["behind"]),
        "-" if peer["ahead"] is None else str(peer["ahead"]),
        "never" if ago is None else f"{ago / 1000:.1f} s ago",
        peer["error"] or "",
    )
