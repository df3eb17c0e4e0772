"""A client of a simulated cluster: does one operation at a time, roams, and carries tokens from region to region.

It behaves as a careful client of a real cluster would: a request that got no answer is sent again only where an
idempotency key or a source makes that safe, elsewhere it cannot know; it waits and tries again when told to; it drops
the token of a stream that nobody can bring any more.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import trio

from simulations.draws import uniform
from simulations.plans.plan import Operation
from simulations.world.fidelity import Asked, Told
from simulations.world.network import ConnectionLost

LINK_S = 0.002
"""The mean time between a client and the region it asks."""
PATIENCE_S = 40.0
"""How long a client waits for an answer: longer than any wait it may ask for."""
TRIES = 3
AGAIN_S, AGAIN_LATE_S, AGAIN_LATE = 3.0, 15.0, 0.3
"""When an answered request is sent again: soon, or, for some share, so late that its node may have restarted."""
SOURCE_TRY_S = 600.0
RETRIED = (409, 429, 500, 502, 503, 504, 507)
LEARNED = (200, 201, 204, 404, 412)
HOST = "node"
"""What a client calls a node: locations are told from it, and are the same whatever carries the request."""

Asking = Callable[[str, Asked], Awaitable[Told]]
"""Asks a region's machine. Raises: ConnectionLost."""
Recorded = Callable[[float, "Client", Operation, str, Asked, Told | None], None]
"""Told of every request: when it was asked, of which region, and what was answered, or None."""


class Client:
    """One client."""

    def __init__(
        self,
        number: int,
        seed: int,
        regions: tuple[str, ...],
        ask: Asking,
        recorded: Recorded,
        scope_of: Callable[[str], str],
    ) -> None:
        self.number = number
        self.tokens: dict[str, dict[str, int]] = {}
        self._seed = seed
        self._regions = regions
        self._ask = ask
        self._recorded = recorded
        self._scope_of = scope_of

    async def run(self, operations: list[Operation]) -> None:
        """Do the operations, each at its time or as soon as the one before is done."""
        for operation in operations:
            await trio.sleep_until(operation.at)
            await self._perform(operation)

    def _draw(self, *purpose: object) -> float:
        return uniform(self._seed, "client", self.number, *purpose)

    async def _perform(self, operation: Operation) -> None:
        asked = self._build(operation)
        if operation.source:
            await self._insist(operation, asked)
            return
        region = operation.region
        for attempt in range(TRIES if operation.key or operation.do in ("read", "conflicts", "rows") else 1):
            told = await self._request(operation, region, asked)
            if told is not None and told.status not in RETRIED:
                break
            region = self._regions[(self._regions.index(region) + attempt + 1) % len(self._regions)]
            await trio.sleep(0.2 + self._draw("pause", operation.at, attempt))
        if operation.again:
            longest = AGAIN_LATE_S if self._draw("late", operation.at) < AGAIN_LATE else AGAIN_S
            await trio.sleep(self._draw("again", operation.at) * longest)
            await self._request(operation, operation.again, asked)

    async def _insist(self, operation: Operation, asked: Asked) -> None:
        """Until it is written: the event's source makes that safe."""
        pause = 0.1
        with trio.move_on_after(SOURCE_TRY_S):
            while True:
                told = await self._request(operation, operation.region, asked)
                if told is not None and told.status < 500:
                    return
                await trio.sleep(pause)
                pause = min(pause * 2, 2.0)

    # --- one request

    async def _request(self, operation: Operation, region: str, asked: Asked) -> Told | None:
        began, told = trio.current_time(), None
        with trio.move_on_after(PATIENCE_S):
            await self._travel()
            try:
                answered = await self._ask(region, asked)
                await self._travel()
                told = answered
            except ConnectionLost:
                await self._travel()
        self._recorded(began, self, operation, region, asked, told)
        if told is not None:
            self._learn(told)
        return told

    async def _travel(self) -> None:
        await trio.sleep(LINK_S * (0.5 + self._draw("travel", trio.current_time())))

    def _learn(self, told: Told) -> None:
        """Take in the tokens of an answer."""
        if told.status not in LEARNED:
            return
        document = json.loads(told.body) if told.body else {}
        tagged = told.etag.removeprefix("W/").strip('"').partition("+")[0]
        for text in (tagged, *(shown.get("token") for shown in (document, *document.get("events", ())))):
            if isinstance(text, str) and "~" in text:
                held = self.tokens.setdefault(text.partition("~")[0], {})
                for entry in filter(None, text.partition("~")[2].split("_")):
                    origin, _, seq = entry.rpartition(".")
                    held[origin] = max(held.get(origin, 0), int(seq))

    def forget(self, lost: Callable[[str, int], bool]) -> None:
        """Drop every token that names what was lost with its disk: nobody can bring it any more."""
        for scope in [scope for scope, held in self.tokens.items() if any(lost(*dot) for dot in held.items())]:
            del self.tokens[scope]

    # --- building a request

    def _build(self, operation: Operation) -> Asked:
        headers = {"content-type": "application/json", "prefer": f"wait={operation.wait:g}"}
        headers |= {"atoll-actor": f"client-{self.number}"}
        if operation.key:
            # Whoever makes a user makes one, under one name: its id is told from that.
            headers["idempotency-key"] = (
                "hired" if operation.do == "scim" else f"client-{self.number}-at-{operation.at}"
            )
        after = self._after(operation)
        if after:
            headers["causal-after"] = ", ".join(after)
        path = "/streams/" + quote(operation.stream)
        if operation.do == "rows":
            return Asked("GET", operation.path, headers, b"")
        if operation.do == "scim":
            headers |= {"content-type": "application/scim+json", "host": HOST}
            body = json.dumps(operation.body).encode() if operation.body else b""
            return Asked(operation.method, f"/scim/v2{operation.path}", headers, body)
        if operation.do == "read":
            return Asked("GET", path, headers, b"")
        if operation.do == "conflicts":
            return Asked("GET", path + "?conflicts=true", headers, b"")
        if operation.do == "transaction":
            document: dict[str, Any] = {"events": list(operation.events)}
            expect = {event["stream"]: self._token(event["stream"]) for event in operation.events}
            if operation.expect == "token" and all(expect.values()):
                document["expect"] = expect
            return Asked("POST", "/transactions", headers, json.dumps(document).encode())
        self._add_conditions(headers, operation)
        if operation.do == "delete":
            return Asked("DELETE", path, headers, b"")
        document = dict(operation.body)
        if operation.source:
            document["source"] = {"name": "file", "position": operation.source}
        return Asked("POST", path, headers, json.dumps(document).encode())

    def _add_conditions(self, headers: dict[str, str], operation: Operation) -> None:
        token = self._token(operation.stream)
        if operation.expect == "token" and token:
            headers["if-match"] = f'"{token}"'
        elif operation.expect:
            headers["if-none-match"] = "*"
        if operation.context == "nothing":
            headers["causal-context"] = self._scope_of(operation.stream) + "~"
        elif operation.context and token:
            headers["causal-context"] = self._part(operation, token) if operation.context == "part" else token

    def _after(self, operation: Operation) -> list[str]:
        if operation.after == "session":
            return [self._text(scope) for scope in sorted(self.tokens)][:16]
        token = self._token(operation.stream)
        return [token] if operation.after and token else []

    def _token(self, stream: str) -> str:
        scope = self._scope_of(stream)
        return self._text(scope) if self.tokens.get(scope) else ""

    def _text(self, scope: str) -> str:
        return f"{scope}~" + "_".join(f"{origin}.{seq}" for origin, seq in sorted(self.tokens[scope].items()))

    def _part(self, operation: Operation, token: str) -> str:
        """The token without one of its origins: a client may have seen less than it was shown."""
        scope, _, rest = token.partition("~")
        entries = rest.split("_")
        del entries[int(self._draw("part", operation.at) * len(entries))]
        return f"{scope}~" + "_".join(entries)
