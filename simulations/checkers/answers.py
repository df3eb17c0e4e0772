"""Checked at every answer, in the instant in which a node gives it: it tells what the node holds, and nothing else.

Reads equal the model, at a token that is exactly the stream's state. What was asked for first is there (session
guarantees: Terry et al. 1994). A condition that was accepted held when the event was written. What was acknowledged
is committed.
"""

import json
import re
from typing import Any
from urllib.parse import unquote

from simulations.checkers.arrivals import Arrivals, Note, Say
from simulations.checkers.directory import Directories
from simulations.checkers.holdings import Birth, Holding, Resolutions
from simulations.checkers.model import Happened, includes, joined, resolve, vector_of
from simulations.world.fidelity import Asked, Told

DONE = (200, 201, 204, 304, 404, 412)
TAG = re.compile(r'"([^"]*)"')


class Answers:
    """Shape: `acknowledged` are the events that clients were told of, in order, with the time."""

    def __init__(
        self, arrivals: Arrivals, resolutions: Resolutions, directory: Directories, say: Say, note: Note
    ) -> None:
        self.acknowledged: list[tuple[float, str, Happened]] = []
        self._arrivals = arrivals
        self._resolutions = resolutions
        self._directory = directory
        self._say = say
        self._note = note
        self._told: dict[bytes, int] = {}
        self._conditions: dict[tuple[str, str, str], Happened] = {}

    def answered(
        self, region: str, origin: str, life: int, holding: Holding, asked: Asked, told: Told, at: float
    ) -> None:
        """One answer of one node, of this incarnation, in this life of its process."""
        document: dict[str, Any] = json.loads(told.body) if told.body else {}
        if told.status == 500 or told.status == 501:
            self._say("internal", region, f"{asked.method} {asked.target} was answered {told.status}: {document}")
        wanted = _causes(asked)
        if wanted and told.status in DONE and not holding.holds(wanted):
            self._say("session", region, f"{asked.method} {asked.target} was answered without all of {wanted}")
        if asked.target.startswith(("/scim/", "/views/", "/conflicts")):
            self._directory.answered(region, holding, asked, told, document, wanted)
        elif told.status == 201:
            self._check_written(region, origin, life, holding, asked, document, at)
        elif asked.method == "GET" and told.status in (200, 404):
            self._check_read(region, holding, asked, told, document)
        self._note_refusals(region, holding, asked, told, document)

    def regressed(self, origin: str) -> None:
        """An older disk is in place: what was accepted under this incarnation since then is gone from it."""
        self._conditions = {key: event for key, event in self._conditions.items() if key[0] != origin}

    # --- reads

    def _check_read(self, region: str, holding: Holding, asked: Asked, told: Told, document: dict[str, Any]) -> None:
        path, _, query = asked.target.partition("?")
        stream = unquote(path.removeprefix("/streams/"))
        if query.startswith("set="):
            return  # a page of a set; the pages are checked once they are put together
        self.check_stream(region, holding, stream, document, exists=told.status == 200)
        if "conflicts" in document:
            losers = self._resolutions.of(holding, stream).losers
            shown = {
                name: [(one["value"], one["dot"]) for one in ones] for name, ones in document["conflicts"].items()
            }
            if shown != losers:
                self._say("conflicts", region, f"{stream} shows {shown}; lost, and live, are {losers}")
        if self._resolutions.of(holding, stream).losers:
            self._note("a register had two live writes")

    def check_stream(
        self, region: str, holding: Holding, stream: str, document: dict[str, Any], *, exists: bool
    ) -> None:
        """A stream as it was answered, against the model of what the region holds."""
        expected = self._resolutions.of(holding, stream)
        shown = (document.get("registers", {}), document.get("sets", {})) if exists else ({}, {})
        large = {field: one["count"] for field, one in document.get("large_sets", {}).items()}
        small = {field: members for field, members in expected.sets.items() if field not in large}
        counts = {field: len(expected.sets.get(field, ())) for field in large}
        if shown != (expected.registers, small) or large != counts:
            detail = f"{stream} is answered {shown} {large}; the model says {(expected.registers, small)} {counts}"
            self._say("reference", region, detail, *holding.streams.get(stream, ()))
        token = document.get("token")
        if (token or stream in holding.streams) and token != holding.token(stream):
            self._say("token", region, f"{stream} is answered at {token}; it is at {holding.token(stream)}")

    # --- writes

    def _check_written(
        self,
        region: str,
        origin: str,
        life: int,
        holding: Holding,
        asked: Asked,
        document: dict[str, Any],
        at: float,
    ) -> None:
        for shown in document.get("events") or [document]:
            event = _held(holding, shown["dot"])
            birth = None if event is None else self._arrivals.births.get(event.chain)
            if event is None or birth is None:
                self._say("durability", region, f"{shown['dot']} was acknowledged and is not committed here")
                continue
            self.acknowledged.append((at, region, event))
            if event.chain in self._told or birth.region != region:
                self._note("a request was asked again and answered as before")
                if self._told.get(event.chain, life) != life:
                    self._note("a request was asked again after its node had restarted")
                continue
            self._told[event.chain] = life
            self._check_state(region, birth, shown)
            if "idempotency-fingerprint" not in asked.headers:  # asked again for a client, it may name another state
                self._check_conditions(region, origin, holding, birth, asked)

    def _check_state(self, region: str, birth: Birth, shown: dict[str, Any]) -> None:
        event = birth.event
        after = {**birth.before, event.origin: event.seq}
        if vector_of(shown["token"]) != after:
            self._say("token", region, f"the write was answered {shown['token']}; the stream was at {after}", event)
        context = shown.get("context")
        exact = birth.before.get(event.origin, 0) == event.context.get(event.origin, 0)
        seen = {**event.context, event.origin: event.seq}
        if (context is not None) != exact or (context is not None and vector_of(context) != seen):
            self._say("token", region, f"the writer was told it has seen {context}; it has seen {seen}", event)

    def _check_conditions(self, region: str, origin: str, holding: Holding, birth: Birth, asked: Asked) -> None:
        event, context = birth.event, asked.headers.get("causal-context")
        expected = [vector_of(tag) for tag in TAG.findall(asked.headers.get("if-match", ""))]
        if asked.target == "/transactions":
            expect = json.loads(asked.body).get("expect", {})
            expected = [vector_of(expect[event.stream])] if event.stream in expect else []
        if expected:
            self._note("a conditional write was accepted")
            if birth.before != expected[0]:
                detail = f"was accepted at {expected[0]}; its stream was at {birth.before}"
                self._say("conditions", region, detail, event)
            first = self._conditions.setdefault((origin, event.stream, str(sorted(expected[0].items()))), event)
            if first is not event:
                self._say("conditions", region, "two writes were accepted at one token", first, event)
        if asked.headers.get("if-none-match") == "*" and _existed(holding, birth):
            self._say("conditions", region, "was accepted though its stream existed", event)
        seen = vector_of(context) if context else expected[0] if expected else birth.before
        # What a token names beyond the stream's own events is cut away: under a fork, one dot is on two streams.
        seen = {of: min(seq, birth.before[of]) for of, seq in seen.items() if of in birth.before}
        if dict(event.context) != seen:
            detail = f"its context is {dict(event.context)}; its writer had seen {seen}"
            self._say("context", region, detail, event)

    # --- refusals

    def _note_refusals(
        self, region: str, holding: Holding, asked: Asked, told: Told, document: dict[str, Any]
    ) -> None:
        kind = str(document.get("type", "")).rpartition(":")[2]
        if kind == "not-caught-up":
            self._note("a forced read timed out")
            others = (
                "if-match" in asked.headers or "causal-context" in asked.headers or asked.target == "/transactions"
            )
            if not others and holding.holds(_causes(asked)):
                self._say("liveness", region, "an answer was refused for what had arrived")
        situation = {
            "condition-failed": "a condition was refused",
            "clock-ahead": "a write was refused: the clock was too far behind",
            "store-full": "a write was refused: the disk was full",
            "store-failed": "a write was refused: the disk failed",
        }.get(kind)
        if situation:
            self._note(situation)


def _causes(asked: Asked) -> dict[str, int]:
    header = asked.headers.get("causal-after")
    return joined(vector_of(text.strip()) for text in header.split(",")) if header else {}


def _held(holding: Holding, dot: str) -> Happened | None:
    origin, _, seq = dot.rpartition(".")
    return holding.event(origin, int(seq))


def _existed(holding: Holding, birth: Birth) -> bool:
    """Whether the stream of an event that a region wrote existed there before it."""
    answer = resolve(
        event for event in holding.streams[birth.event.stream] if includes(birth.before, {event.origin: event.seq})
    )
    return bool(answer.registers or answer.sets)
