"""The last questions, once all is well: does every region take a write, has every other, do all answer the same?

Where a node was rolled back and could not know, the question is another one: do both sides of the fork name it (I7)?
"""

import json
from collections import Counter
from typing import Any
from urllib.parse import quote

import trio

from simulations.checkers.directory import VIEWS
from simulations.checkers.judge import Judge
from simulations.world.client import HOST, Asking
from simulations.world.fidelity import Asked, Told
from simulations.world.machine import Machine
from simulations.world.network import ConnectionLost

FORK_S = 15.0
"""How long neighbours may take to meet a fork: a back-off, and a few exchanges."""
FORK_PULLS = 30
"""How many pulls more, where chance has not brought them together: each is from one of a node's neighbours."""
AGAIN_S = 0.5
RESOLVE_STREAMS_MAX = 500
STREAM = "end"
JSON = {"content-type": "application/json"}


class Ending:
    """The end of one run."""

    def __init__(
        self,
        machines: dict[str, Machine],
        judge: Judge,
        sometimes: Counter[str],
        ask: Asking,
        interval_s: float,
        *,
        directory: bool,
    ) -> None:
        """`interval_s` is the mean time between two pulls of a node."""
        self._interval_s = interval_s
        self._directory = directory
        self._machines = machines
        self._judge = judge
        self._sometimes = sometimes
        self._ask = ask

    async def run(self) -> dict[str, dict[str, Any]]:
        """Ask, and check; what the last region answers for every stream."""
        documents: dict[str, dict[str, Any]] = {}
        if self._judge.forked:
            await trio.sleep(FORK_S)
            with trio.move_on_after(FORK_PULLS * self._interval_s):
                while self._judge.unnamed_forks(self._named_forks()):  # noqa: ASYNC110  # to look is cheap in virtual time
                    await trio.sleep(AGAIN_S)
            self._judge.check_forks(self._named_forks())
        else:
            await self._write_and_read_everywhere()
            self._judge.check_end()
        bodies: dict[str, bytes] = {}
        for region in self._machines:
            documents, bodies[region] = await self._all_streams(region)
            self._judge.check_streams(region, documents, bodies)
        if self._directory and not self._judge.forked:
            for region in self._machines:
                await self._ask_directory(region)
        self._check_nothing_left()
        return documents

    def _named_forks(self) -> dict[str, list[tuple[str, int]]]:
        return {region: list(one.process.node.gossip.forks) for region, one in self._machines.items() if one.process}

    async def _ask_directory(self, region: str) -> None:
        """What a region's directory shows: whole views, whose every name is, and which are contested."""
        directory = self._judge.directories.of(self._judge.holdings[region])
        rows: dict[str, list[tuple[str, str]]] = {}
        for view in VIEWS:
            shown = await self._document(region, f"/views/{view}?limit=1000")
            folded = view == "users-by-name"
            rows[view] = [(row["key"].lower() if folded else row["key"], row["stream"]) for row in shown["rows"]]
        named: dict[str, list[str]] = {}
        for name in directory.names():
            asked = quote(f'userName eq "{name}"')
            found = (await self._document(region, f"/scim/v2/Users?filter={asked}")).get("Resources", [])
            named[name] = ["users/" + user["id"] for user in found]
        contested: dict[str, list[str]] = {}
        for item in (await self._document(region, "/conflicts?prefix=claims/&limit=1000"))["conflicts"]:
            claim = item["claim"]
            contested[claim["value"].lower()] = [one["stream"] for one in (claim["holds"], *claim["waits"])]
        self._judge.directories.check_end(region, self._judge.holdings[region], rows, named, contested)

    async def _document(self, region: str, target: str) -> dict[str, Any]:
        told = await self._ask(region, Asked("GET", target, {"host": HOST}, b""))
        if told.status != 200:
            self._judge.say("liveness", region, f"{target} was answered {told.status} though all was well")
            return {"rows": [], "conflicts": []}
        document: dict[str, Any] = json.loads(told.body)
        return document

    async def _write_and_read_everywhere(self) -> None:
        """All is well: every region takes a write, and every other has it in no time."""
        tokens: list[str] = []
        for region in self._machines:
            asked = Asked("POST", f"/streams/{STREAM}", JSON, json.dumps({"add": {"regions": [region]}}).encode())
            told = await self._ask_at_the_end(region, asked)
            while told is not None and b"clock-ahead" in told.body:  # somebody's clock was ahead: that is waited for
                await trio.sleep(AGAIN_S)
                told = await self._ask_at_the_end(region, asked)
            if told is not None and told.status == 201:
                tokens.append(json.loads(told.body)["token"])
            else:
                self._judge.say("liveness", region, f"took no write though all was well: {told}")
        for region in self._machines:
            headers = {"causal-after": ", ".join(tokens), "prefer": "wait=20"}
            told = await self._ask_at_the_end(region, Asked("GET", f"/streams/{STREAM}", headers, b""))
            if told is None or told.status != 200:
                self._judge.say("liveness", region, f"could not read what the others had acknowledged: {told}")

    async def _ask_at_the_end(self, region: str, asked: Asked) -> Told | None:
        try:
            return await self._ask(region, asked)
        except ConnectionLost:
            return None

    async def _all_streams(self, region: str) -> tuple[dict[str, dict[str, Any]], bytes]:
        names = self._judge.streams()
        documents: dict[str, dict[str, Any]] = {}
        body = b""
        for start in range(0, len(names), RESOLVE_STREAMS_MAX):
            some = names[start : start + RESOLVE_STREAMS_MAX]
            asked = Asked("POST", "/resolve", JSON, json.dumps({"streams": some}).encode())
            told = await self._ask(region, asked)
            body += told.body
            if told.status == 200:
                documents |= dict(zip(some, json.loads(told.body)["streams"], strict=True))
                for document in documents.values():
                    await self._put_together(region, document)
            else:
                self._judge.say("internal", region, f"/resolve was answered {told.status}: {told.body.decode()}")
        return documents, body

    async def _put_together(self, region: str, document: dict[str, Any]) -> None:
        """Read the sets that are too large for one answer, page by page."""
        for name, shown in document.pop("large_sets", {}).items():
            target, members = f"{shown['href']}&limit=1000", []
            while target:
                told = await self._ask(region, Asked("GET", target, {}, b""))
                members += json.loads(told.body)["members"]
                target = told.link.partition("<")[2].partition(">")[0]
            document["sets"] = dict(sorted({**document["sets"], name: members}.items()))

    def _check_nothing_left(self) -> None:
        """Every client is done: no node still answers one. And what it refused meanwhile, for the record."""
        for region, machine in self._machines.items():
            if machine.process is not None and machine.process.node.requests_in_flight:
                left = machine.process.node.requests_in_flight
                self._judge.say("bounded", region, f"still answers {sorted(left)}, of which nobody waits any more")
        self._note_refusals()

    def _note_refusals(self) -> None:
        situations = {
            "held-back": "an event was held back: its stamp was too far ahead",
            "missing": "an event came before what its writer had seen",
        }
        for machine in self._machines.values():
            if machine.process is not None:
                for reason, count in machine.process.node.gossip.refusals.items():
                    if reason in situations:
                        self._sometimes[situations[reason]] += count
