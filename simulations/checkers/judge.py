"""The checkers, put together: they watch every commit and every answer, and look at everything once it has healed.

What a region holds is known from its commits alone. So what a process finds on its disk when it starts is checked
too: everything that was committed, unless an older disk was put in its place. What nobody else holds then is lost,
and no promise covers it.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import takewhile
from typing import Any

from crdt.dot import Dot
from node.limits import WAITING_MAX
from node.service import Node
from replication.limits import MESSAGE_BYTES_MAX
from replication.snapshot import Snapshot
from replication.tables import Head
from simulations.checkers.answers import Answers
from simulations.checkers.arrivals import Arrivals
from simulations.checkers.directory import Directories
from simulations.checkers.holdings import Holding, Resolutions
from simulations.checkers.model import Happened, read
from simulations.checkers.violation import Violation
from simulations.history import History
from simulations.world.fidelity import Asked, Told
from simulations.world.virtual_time import VirtualTime

VIOLATIONS_MAX = 20


class Judge:
    """Watches one run. Shape: `violations` in the order found; `sometimes` counts rare situations."""

    def __init__(
        self,
        regions: Collection[str],
        linked: Collection[frozenset[str]],
        time: VirtualTime,
        history: History,
        sometimes: Counter[str],
        home: str,
    ) -> None:
        self.violations: list[Violation] = []
        self.sometimes = sometimes
        self.holdings = {region: Holding() for region in regions}
        self.lost: set[bytes] = set()
        self._linked = linked
        self._time = time
        self._history = history
        self._arrivals = Arrivals(self.say, self._note)
        self._resolutions = Resolutions()
        self.directories = Directories(self._resolutions, self.say, self._note, home)
        self._arrivals.written.append(self.directories.written)
        self._answers = Answers(self._arrivals, self._resolutions, self.directories, self.say, self._note)
        self._known: dict[bytes, Happened] = {}
        self._rolled_back: set[str] = set()
        self._unaware: set[str] = set()
        self._origins: dict[str, str] = {}
        self._lives: Counter[str] = Counter()

    def say(self, checker: str, region: str, detail: str, *events: Happened) -> None:
        """A promise was broken; these events show it."""
        if len(self.violations) < VIOLATIONS_MAX:
            shown = "; ".join(map(str, events[-3:]))
            text = f"{detail} [{shown}]" if shown else detail
            dots = tuple(event.dot for event in events)
            self.violations.append(Violation(checker, self._time.now, region, text, dots))

    def _note(self, situation: str) -> None:
        self.sometimes[situation] += 1

    @property
    def forked(self) -> bool:
        """Whether a dot means two events, because nobody could tell its node that it was rolled back."""
        return self._resolutions.forked

    # --- what is committed

    def started(self, region: str, node: Node, heads: dict[str, Head], snapshot: Snapshot, *, regress: str) -> None:
        """A process opened its store."""
        self._history.started(self._time.now, region, node.replica.origin)
        if self._origins.get(region) != node.replica.origin:
            self._rolled_back.discard(region)
        self._origins[region] = node.replica.origin
        self._lives[region] += 1
        if region in self._rolled_back:
            self._unaware.add(region)  # what the life before heard died with it, unless it took a new name
        holding = self.holdings[region]
        found = {origin: head.seq for origin, head in heads.items()}
        short = {
            origin: len(log)
            for origin, log in holding.logs.items()
            if found.get(origin, 0) < len(log) or (found[origin] == len(log) and heads[origin].chain != log[-1].chain)
        }
        if regress:
            self._regress(region, heads, snapshot, in_place=regress == "rollback")
        elif short:
            self.say("durability", region, f"was committed and is gone after a restart: {short}, found {found}")
            holding.cut(found)
        # What the last life committed and told nobody of: by which clock, nobody knows any more.
        self.committed(region, node, heads, snapshot, None)

    def _regress(self, region: str, heads: dict[str, Head], snapshot: Snapshot, *, in_place: bool) -> None:
        """Another disk is in place: what is on it is what is held; what nobody else holds is lost."""
        before, holding = self.holdings[region], Holding()
        self.holdings[region] = holding
        self._answers.regressed(self._origins[region])
        self.directories.regressed(region)
        found = self._read_new(region, holding, heads, snapshot)
        # A commit that no life told of may be on it, too, as its last: it is told of next, as on any other disk.
        for event in takewhile(lambda event: event.chain in self._arrivals.births, found):
            holding.add(event)
        kept = {event.chain for held in self.holdings.values() for event in held.all()}
        for event in before.all():
            if event.chain not in kept:
                self.lost.add(event.chain)
                self._note("events were lost with their disk")
        if in_place:
            self._rolled_back.add(region)  # a copy is known by its file; this only by what others hold
            self._unaware.add(region)

    def heard(self, region: str, said: Mapping[str, int]) -> None:
        """A region took in what a peer held: from here on it knows whether it was rolled back."""
        origin = self._origins.get(region, "")
        if region in self._unaware and said.get(origin, 0) > self.holdings[region].seq(origin):
            self._unaware.discard(region)

    def committed(
        self, region: str, node: Node, heads: dict[str, Head], snapshot: Snapshot, clock_ms: int | None
    ) -> None:
        """A turn was committed.

        Shape: `clock_ms` is the most that the wall clock showed when it was worked out; None where nobody knows.
        """
        origin = node.replica.origin
        if self._origins.get(region) not in (None, origin):
            self._note("a node took a new incarnation while it ran")
            self._unaware.discard(region)
            self._rolled_back.discard(region)
        self._origins[region] = origin
        holding = self.holdings[region]
        events = self._read_new(region, holding, heads, snapshot)
        if events:
            self._history.commit(self._time.now, region, events)
            self._note_relays(region, events)
            for event in self._arrivals.commit(region, holding, events, self._time.now, clock_ms):
                self._dot_reused(region, event)
        if node.writes_waiting > WAITING_MAX:
            self.say("bounded", region, f"{node.writes_waiting} writes wait")

    def _note_relays(self, region: str, events: tuple[Happened, ...]) -> None:
        for event in events:
            of = event.origin.rpartition(".")[0]
            if of != region and frozenset((of, region)) not in self._linked:
                self._note("an event reached a region through a third one")

    def _dot_reused(self, region: str, event: Happened) -> None:
        self._resolutions.forked = True
        if region not in self._unaware:
            self.say("dots", region, "its dot was used before, for another event", event)

    def _read_new(
        self, region: str, holding: Holding, heads: dict[str, Head], snapshot: Snapshot
    ) -> tuple[Happened, ...]:
        placed: list[tuple[int, Happened]] = []
        for origin, head in heads.items():
            for seq in range(holding.seq(origin) + 1, head.seq + 1):
                row = snapshot.event(Dot(origin, seq))
                if row is None:
                    self.say("gaps", region, f"{origin}.{seq} is not in the log, of which the head is {head.seq}")
                    continue
                event = self._known.get(row.encoded.header)
                if event is None:
                    event = self._known[row.encoded.header] = read(row.encoded.header, row.encoded.body or b"")
                placed.append((row.position, event))
        return tuple(event for _, event in sorted(placed, key=lambda one: one[0]))

    # --- what is said

    def answered(self, region: str, asked: Asked, told: Told) -> None:
        """A node answered, in this instant."""
        origin, life = self._origins[region], self._lives[region]
        self._answers.answered(region, origin, life, self.holdings[region], asked, told, self._time.now)

    def unanswered(self, region: str, asked: Asked) -> None:
        """A client was told nothing."""
        name = ("key", asked.headers.get("atoll-actor"), asked.headers.get("idempotency-key"))
        if name[2] is not None:
            made = name in self.holdings[region].requests
            self._note(f"a client got no answer to a write that was {'' if made else 'not '}made")

    def message(self, region: str, size: int) -> Mapping[str, int]:
        """A node sends a message; what it holds."""
        if size > MESSAGE_BYTES_MAX:
            self.say("bounded", region, f"a message has {size} bytes")
        return self.holdings[region].vector() if self._unaware else {}

    # --- once it has healed

    def converged(self) -> bool:
        """Whether all regions hold the same."""
        first, *rest = (holding.vector() for holding in self.holdings.values())
        return all(vector == first for vector in rest)

    def check_forks(self, named: Mapping[str, Collection[tuple[str, int]]]) -> None:
        """Two neighbours who hold different events under one dot must both say so (I7)."""
        for region, what in self.unnamed_forks(named):
            self.say("forks", region, f"does not name the fork of {what}")

    def unnamed_forks(self, named: Mapping[str, Collection[tuple[str, int]]]) -> list[tuple[str, str]]:
        """The regions that share a fork with a neighbour and do not name it, and which fork that is."""
        unnamed: list[tuple[str, str]] = []
        for left, right in sorted(map(sorted, self._linked)):
            ours, theirs = self.holdings[left].logs, self.holdings[right].logs
            for origin in ours.keys() & theirs.keys():
                if any(one.chain != other.chain for one, other in zip(ours[origin], theirs[origin], strict=False)):
                    self._note("a fork was refused")
                    unnamed += [
                        (region, f"{origin} between {left} and {right}")
                        for region in (left, right)
                        if origin not in {forked for forked, _ in named[region]}
                    ]
        return unnamed

    def check_end(self) -> None:
        """Everything has healed, and everybody had time: all hold the same, and all that was acknowledged."""
        heads = {
            region: {origin: log[-1].chain for origin, log in holding.logs.items()}
            for region, holding in self.holdings.items()
        }
        first, *rest = heads
        for region in rest:
            if heads[region] != heads[first]:
                there, here = self.holdings[first].vector(), self.holdings[region].vector()
                self.say("convergence", region, f"holds {here}; {first} holds {there}")
        for at, acknowledger, event in self._answers.acknowledged:
            for region, holding in self.holdings.items():
                held = holding.event(event.origin, event.seq)
                if (held is None or held.chain != event.chain) and event.chain not in self.lost:
                    detail = f"does not hold what {acknowledger} acknowledged at {at:.3f} s"
                    self.say("durability", region, detail, event)

    def streams(self) -> list[str]:
        """Every stream that any region knows."""
        return sorted({name for holding in self.holdings.values() for name in holding.streams})

    def check_streams(self, region: str, documents: dict[str, dict[str, Any]], bodies: dict[str, bytes]) -> None:
        """What a region answers for every stream, in one instant, and the same as bytes from another region."""
        for stream, document in documents.items():
            exists = "registers" in document
            self._answers.check_stream(region, self.holdings[region], stream, document, exists=exists)
        for other, body in bodies.items():
            if not self.forked and body != bodies[region]:
                self.say("convergence", region, f"answers other bytes than {other} for the same streams")
                return

    def dots_lost(self, origin: str, seq: int) -> bool:
        """Whether no region holds this any more."""
        return all(holding.seq(origin) < seq for holding in self.holdings.values())
