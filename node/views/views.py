"""The views of one node: they follow the log in arrival order, are built anew beside the old, and are switched.

A build begins with a scan: every stream as it is now, a piece at a time, while writes go on. What was held when the
scan began is its watermark; from there it follows the log, and projects again each stream that an event touched.
That is right whatever the scan saw, since a row depends on a stream's state alone, and projecting it twice changes
nothing. Entries and watermark move in one transaction, so a node that is killed goes on where it was.

Builds that stand at the same place move together. Those that serve go first, and every piece is short: queries and
writes come in between.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import trio

from crdt.version_vector import VersionVector, includes
from node.limits import VIEW_PIECES_A_COMMIT, WAIT_DEFAULT_S
from node.views.index import Build, Index, is_damage
from node.views.projection import Projection
from node.views.view import View, ViewsRefused, check_together
from replication.errors import Refused
from replication.replica import Replica

log = logging.getLogger("atoll.views")

Load = Callable[[], Sequence[View]]
"""Gives all definitions there are now; asked again when a view is to be rebuilt. Raises: ViewsRefused."""


class UnknownView(Refused):
    """No view of this name, or no build of this number."""


class ViewBuilding(Refused):
    """The view is being built for the first time."""


class ViewBehind(Refused):
    """A view does not show everything that was asked for yet. Shape: seq wanted, by origin."""

    def __init__(self, name: str, missing: VersionVector, held: VersionVector) -> None:
        super().__init__(f"view {name!r} does not show everything that was asked for yet")
        self.missing = missing
        self.held = held


class ViewsUnusable(Refused):
    """The definitions, loaded again, cannot be used; those from before stay."""


class ViewBusy(Refused):
    """What was asked of a build cannot be done in its state."""


class Views:
    """Every view, and the builds of each."""

    def __init__(self, replica: Replica, index: Index, load: Load) -> None:
        """Begin to build what an open index has not.

        Raises: ViewsRefused, where the definitions cannot be used.
        """
        self._replica = replica
        self._load = load
        self._views: dict[tuple[str, int], View] = {}
        self._take_definitions(load())
        self._index = index
        self._builds: list[Build] = []
        self._progress = trio.Event()
        self._asked = trio.Event()
        self._projection = Projection(index)
        self._pieces = 0
        with self._healing():
            self._open()

    def _take_definitions(self, views: Sequence[View]) -> None:
        check_together(views)
        self._views |= {(view.name, view.version): view for view in views}

    def _open(self) -> None:
        self._builds = self._index.builds()
        if not all(includes(self._replica.vector, build.vector) for build in self._builds):
            log.warning(
                "views show events that the store does not hold: it was restored or replaced; building them anew"
            )
            self._index.start_anew()
            self._builds = []
        for name, version in self._newest().items():
            serving = self._serving(name)
            if serving is None or (name, serving.version) not in self._views:
                self._have_successor(name, version)

    def _have_successor(self, name: str, version: int) -> None:
        """Have the newest version of a view serve as soon as it can: nothing else does, or can follow the log."""
        begun = [build for build in self._builds if build.view == name and build.version == version]
        if not begun:
            self._start(name, version, switch=True)
            return
        with self._writing():
            begun[-1].switch = True
            self._commit()

    def _newest(self) -> dict[str, int]:
        """The highest version of each view that there is a definition of."""
        return dict(sorted(self._views))

    def _serving(self, name: str) -> Build | None:
        return next((build for build in self._builds if build.view == name and build.serving), None)

    def _start(self, name: str, version: int, *, switch: bool) -> Build:
        with self._writing():
            build = self._index.add(self._views[name, version], switch=switch)
            mirror = self._replica.mirror
            build.vector, build.position = mirror.vector, mirror.position
            self._builds.append(build)
            self._commit()
        return build

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write, and move builds; what fails takes everything since the last commit with it, here as on the disk."""
        try:
            self._index.begin()
            yield
        except BaseException:
            self._index.roll_back()
            self._builds = self._index.builds()
            self._pieces = VIEW_PIECES_A_COMMIT  # what is asked meanwhile is to see nothing that goes back again
            raise

    def _commit(self) -> None:
        """Have entries, and how far each build has come, outlive this process. Inside `_writing`."""
        self._index.save(self._builds)
        self._index.commit()
        self._pieces = 0

    @contextmanager
    def _healing(self) -> Iterator[None]:
        """What is damaged is built anew: the log has everything. A full disk, say, is waited for instead."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            log.warning("the views' index cannot be used (%s); building it anew from the log", error)
            self._index.start_anew()
            self._builds = []
            self._open()

    def close(self) -> None:
        """Keep what was written, and close. Raises: sqlite3.Error, where that cannot be kept."""
        try:
            with self._writing():
                self._commit()
        finally:
            self._index.close()

    # --- following the log

    def step(self) -> bool:
        """Do one short piece of work, where there is some; whether there was."""
        worked = True
        with self._healing():
            first, *others = self._groups() or [[]]
            worked = self._advance(first)
            if others:
                worked = self._advance(others[-1]) or worked
            self._pieces += 1
            if not worked or self._pieces >= VIEW_PIECES_A_COMMIT:
                with self._writing():
                    self._commit()
        if worked:
            self._progress.set()
            self._progress = trio.Event()
        return worked

    def are_behind(self, events: int) -> bool:
        """Whether as many events wait to be taken in, or streams to be scanned, or a build to serve."""
        enough = self._replica.mirror.position - events
        return any(
            build.scanning is not None or build.position <= enough or (build.switch and not build.serving)
            for build in self._builds
            if (build.view, build.version) in self._views
        )

    async def stand_back(self, seconds: float) -> bool:
        """Let everything else go first for so long, unless somebody waits for what the views will show.

        Whether they are to go ahead before that.
        """
        if self._progress.statistics().tasks_waiting:
            await trio.lowlevel.checkpoint()
            return True
        self._asked = trio.Event()
        with trio.move_on_after(seconds):
            await self._asked.wait()
        return self._asked.is_set()

    def go_ahead(self) -> None:
        """Stand back no longer."""
        self._asked.set()

    def _groups(self) -> list[list[Build]]:
        """Builds that stand at the same place; what serves first, and what has come least far last."""
        groups: dict[object, list[Build]] = {}
        for build in self._builds:
            if (build.view, build.version) in self._views:
                groups.setdefault((build.scanning, frozenset(build.vector.items())), []).append(build)
        return sorted(
            groups.values(),
            key=lambda group: (not any(build.serving for build in group), group[0].scanning is not None,
                               -group[0].position),
        )  # fmt: skip

    def _advance(self, group: list[Build]) -> bool:
        if not group:
            return False
        if group[0].scanning is None and includes(group[0].vector, self._replica.vector):
            return self._settle(group)
        pairs = [(build, self._views[build.view, build.version]) for build in group]
        with self._replica.read() as snapshot, self._writing():
            work = self._projection.follow if group[0].scanning is None else self._projection.scan
            return work(pairs, snapshot)

    def _settle(self, group: list[Build]) -> bool:
        """Those that were to serve as soon as they show everything, do; whether there were any."""
        due = [build for build in group if build.switch and not build.serving]
        for build in due:
            self.switch(build.view, build.number)
        return bool(due)

    # --- what operators do

    def builds(self) -> Iterable[tuple[View | None, Build]]:
        """Every build, and its definition where there is one."""
        return [(self._views.get((build.view, build.version)), build) for build in self._builds]

    def count(self, build: Build) -> int:
        """How many entries a build has. Raises: ViewBuilding, where it was damaged."""
        with self._healing():
            return self._index.count(build)
        raise _building_anew(build.view)

    def rebuild(self, name: str) -> Build:
        """Load the definitions again, and build the newest version of a view beside the one that serves.

        Raises: UnknownView; ViewBusy, where one is being built; ViewsUnusable.
        """
        try:
            self._take_definitions(self._load())
        except ViewsRefused as error:
            raise ViewsUnusable(str(error)) from None
        version = self._newest().get(name)
        if version is None:
            raise UnknownView(f"there is no view {name!r}")
        if any(build.view == name and build.scanning is not None for build in self._builds):
            raise ViewBusy(f"view {name!r} is being built already")
        with self._healing():
            return self._start(name, version, switch=self._serving(name) is None)
        raise ViewBusy("the views are being built anew")

    def switch(self, name: str, number: int) -> Build:
        """Have another build serve, from one query to the next; the one before goes on following.

        Raises: UnknownView; ViewBusy, where it does not show yet what the serving one shows.
        """
        build = self._build(name, number)
        serving = self._serving(name)
        if (name, build.version) not in self._views:
            raise ViewBusy(f"version {build.version} of view {name!r} is not loaded, so it does not follow the log")
        if build.scanning is not None or (serving is not None and not includes(build.vector, serving.vector)):
            raise ViewBusy(f"build {number} of view {name!r} has not caught up with what serves; ask again soon")
        with self._writing():
            if serving is not None:
                serving.serving = False
            build.serving, build.switch = True, False
            self._commit()
        return build

    def drop(self, name: str, number: int) -> None:
        """Forget a build that does not serve. Raises: UnknownView; ViewBusy."""
        build = self._build(name, number)
        if build.serving:
            raise ViewBusy(f"build {number} of view {name!r} serves; switch to another one first")
        if self._serving(name) is None:
            raise ViewBusy(f"nothing serves view {name!r} yet; build {number} may be what is to")
        with self._writing():
            self._index.drop(build)
            self._builds.remove(build)
            self._commit()

    def _build(self, name: str, number: int) -> Build:
        for build in self._builds:
            if build.view == name and build.number == number:
                return build
        known = [build.number for build in self._builds if build.view == name]
        raise UnknownView(f"view {name!r} has no build {number}; it has {known}" if known else f"no view {name!r}")

    # --- reading

    def serving(self, name: str) -> tuple[View, Build]:
        """What answers for a view.

        Raises: UnknownView; ViewBuilding, where it was never built.
        """
        build = self._serving(name)
        if build is not None:
            view = self._views.get((name, build.version)) or self._views[name, self._newest()[name]]
            return view, build
        if not any(view == name for view, _ in self._views):
            raise UnknownView(f"there is no view {name!r}")
        reached = max((one.streams for one in self._builds if one.view == name), default=0)
        raise ViewBuilding(f"view {name!r} is being built: {reached} streams so far; ask again soon")

    @contextmanager
    def reading(self, name: str) -> Iterator[tuple[View, Build, Index]]:
        """The index, to ask for candidates: what it gives is to be resolved before it is shown.

        Raises: UnknownView; ViewBuilding, where there is nothing to ask yet, or not any more.
        """
        healed = True
        with self._healing():
            yield (*self.serving(name), self._index)
            healed = False
        if healed:
            raise _building_anew(name)

    async def catch_up(self, name: str, wanted: VersionVector | None, seconds: float) -> None:
        """Wait until a view shows what is wanted, and, not for long, whatever the node holds by now.

        Raises: ViewBehind, where it does not show what is wanted; UnknownView; ViewBuilding.
        """
        if wanted:
            await self.wait_for(name, wanted, seconds)
        try:
            await self.wait_for(name, self._replica.vector)
        except ViewBehind:
            return  # what it shows is good enough

    async def wait_for(self, name: str, vector: VersionVector, seconds: float = WAIT_DEFAULT_S) -> None:
        """Wait until a view shows everything in the vector.

        Raises: ViewBehind, when the time is up; UnknownView; ViewBuilding.
        """
        with trio.move_on_after(seconds):
            while True:
                try:
                    shown = includes(self.serving(name)[1].vector, vector)
                except ViewBuilding:
                    shown = False
                if shown:
                    return
                self.go_ahead()
                await self._progress.wait()
        held = self.serving(name)[1].vector
        if not includes(held, vector):
            missed = {origin: seq for origin, seq in vector.items() if seq > held.get(origin, 0)}
            raise ViewBehind(name, missed, {origin: held.get(origin, 0) for origin in missed})


def _building_anew(name: str) -> ViewBuilding:
    return ViewBuilding(f"view {name!r} was damaged and is being built anew; ask again soon")
