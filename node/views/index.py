"""The views' database: which keys lead to which streams, build by build, and how far each build has come.

SQLite, from the standard library, because one transaction then holds an index, the text index beside it and the
watermark that says what they show. A commit survives the death of the process; a power loss may undo the last ones
(write-ahead log, synced at checkpoints only), which loses nothing, since all of it is derived: what is missing is
projected again, and what cannot be read is thrown away and built anew.
"""

import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from crdt.version_vector import VersionVector
from node.limits import SEARCH_CHARACTERS_MIN
from node.views.view import View
from replication.errors import StoreRefused
from replication.event import FEATURE_LEVEL
from replication.packing import DECODE_ERRORS

INDEX_FORMAT = 2
WANTED_FORMAT = INDEX_FORMAT << 8 | FEATURE_LEVEL
DIRECTORY, FILE = "views", "index.sqlite"
LAST_KEY = "\U0010ffff" * 2
"""Above every key that there is."""


class Build(msgspec.Struct, kw_only=True):
    """One version of a view, as it is being built, or follows the log.

    Shape: `scanning` is the place (stream, build, member) that the first scan has reached; None once it is through.
    `vector` and `position` are the watermark: everything up to it shows. `streams` counts those that were scanned.
    """

    number: int
    view: str
    version: int
    searched: bool = False
    serving: bool = False
    switch: bool = False
    scanning: tuple[str, int, str] | None = ("", 0, "")
    position: int = 0
    vector: VersionVector = {}
    streams: int = 0
    failures: int = 0


Entries = list[tuple[str, str]]
"""(key, stream)."""
Keys = dict[int, list[str]]
"""The keys that lead to one stream, in order, by the number of the build; one that has none is left out."""

_encode_keys = msgspec.msgpack.encode
_decode_keys = msgspec.msgpack.Decoder(dict[int, list[str]]).decode


class _Connection(sqlite3.Connection):
    """A connection for which all damage is SQLite's error.

    SQLite quotes a schema that it cannot read, and Python's module fails over the quote where that is no UTF-8.
    """

    def ask(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Execute a statement; its rows. Raises: sqlite3.Error."""
        try:
            return self.execute(statement, parameters).fetchall()
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError(f"damaged: {error}") from None

    def do_each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute a statement once with each of these. Raises: sqlite3.Error."""
        try:
            self.executemany(statement, rows)
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError(f"damaged: {error}") from None


class Index:
    """The open database. Everything is done in trio's thread.

    Each build has its entries in a table of its own, by key. What leads to a stream stands the other way round in one
    row for all builds, so that most events, which change no entry, cost a look at that row. The members of a set are
    too many for it: their builds have an index instead.
    """

    def __init__(self, directory: Path) -> None:
        """Open it, making it anew where it is absent, of another format, or damaged.

        Raises: StoreRefused, where it can be neither used nor made, as on a full disk.
        """
        self._directory = directory / DIRECTORY
        try:
            self._connection = self._open_or_make_anew()
        except (sqlite3.Error, OSError) as error:
            raise StoreRefused(f"{self._directory} cannot be used: {error}") from None

    def _open_or_make_anew(self) -> _Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._discard()
            return self._open()

    def _open(self) -> _Connection:
        self._directory.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._directory / FILE, isolation_level=None, cached_statements=512, factory=_Connection
        )
        try:
            connection.ask("PRAGMA journal_mode = WAL")
            connection.ask("PRAGMA synchronous = NORMAL")
            connection.ask("PRAGMA cache_size = -32000")
            connection.ask("PRAGMA wal_autocheckpoint = 4000")
            [[tables]] = connection.ask("SELECT count(*) FROM sqlite_master")
            if tables and _format_of(connection) != WANTED_FORMAT:
                raise sqlite3.DatabaseError("of another format")
            if not tables:
                connection.ask(f"PRAGMA user_version = {WANTED_FORMAT}")
            connection.ask(
                "CREATE TABLE IF NOT EXISTS build (number INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL)"
            )
            connection.ask(
                "CREATE TABLE IF NOT EXISTS leading (stream TEXT PRIMARY KEY, keys BLOB NOT NULL) WITHOUT ROWID"
            )
            _check_sound(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @classmethod
    def to_read(cls, directory: Path) -> "Index | None":
        """The database of a node that may be running, to look at; None where there is none of this format.

        Raises: sqlite3.DatabaseError.
        """
        file = directory / DIRECTORY / FILE
        if not file.exists():
            return None
        index = cls.__new__(cls)
        index._directory = directory / DIRECTORY
        index._connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, factory=_Connection)
        try:
            index._connection.ask("BEGIN")
            if _format_of(index._connection) == WANTED_FORMAT:
                _check_sound(index._connection)
                index.builds()
                return index
        except BaseException:
            index.close()
            raise
        index.close()
        return None

    def _discard(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def start_anew(self) -> None:
        """Throw everything away."""
        self._connection.close()
        self._discard()
        self._connection = self._open()

    def close(self) -> None:
        """Close; what was not committed is gone."""
        self._connection.close()

    def begin(self) -> None:
        """Write from here on, until `commit` or `roll_back`.

        Reads see it at once: they are this connection's. A commit costs as much as hundreds of entries, so several
        pieces of work share one.
        """
        if not self._connection.in_transaction:
            self._connection.ask("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Have what was written outlive this process."""
        if self._connection.in_transaction:
            self._connection.ask("COMMIT")

    def roll_back(self) -> None:
        """Forget what was not committed."""
        if self._connection.in_transaction:
            self._connection.ask("ROLLBACK")

    # --- builds

    def builds(self) -> list[Build]:
        """All builds, oldest first. Raises: sqlite3.DatabaseError."""
        rows = self._connection.ask("SELECT state FROM build ORDER BY number")
        try:
            return [msgspec.json.decode(state, type=Build) for (state,) in rows]
        except (*DECODE_ERRORS, TypeError) as error:
            raise sqlite3.DatabaseError(f"what a build is at is damaged: {error}") from None

    def add(self, view: View, *, switch: bool) -> Build:
        """A new, empty build. After `begin`."""
        self._connection.ask("INSERT INTO build (state) VALUES ('')")
        [[number]] = self._connection.ask("SELECT last_insert_rowid()")
        build = Build(number=number, view=view.name, version=view.version, searched=view.searched, switch=switch)
        name = _table(build)
        if view.searched:
            self._connection.ask(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, key TEXT, stream TEXT)")
            self._connection.ask(
                f"CREATE VIRTUAL TABLE {name}_text USING fts5"
                f"(key, content='{name}', content_rowid='id', columnsize=0, tokenize='trigram case_sensitive 1')"
            )
        else:
            self._connection.ask(
                f"CREATE TABLE {name} (key TEXT, stream TEXT, PRIMARY KEY (key, stream)) WITHOUT ROWID"
            )
        if view.searched or view.members:
            self._connection.ask(f"CREATE INDEX {name}_stream ON {name} (stream)")
        return build

    def save(self, builds: Iterable[Build]) -> None:
        """Note how far builds have come. After `begin`."""
        states = [(msgspec.json.encode(build).decode(), build.number) for build in builds]
        self._connection.do_each("UPDATE build SET state = ? WHERE number = ?", states)

    def drop(self, build: Build) -> None:
        """Forget a build and its entries. After `begin`."""
        self._connection.ask(f"DROP TABLE IF EXISTS {_table(build)}_text")
        self._connection.ask(f"DROP TABLE {_table(build)}")
        self._connection.ask("DELETE FROM build WHERE number = ?", (build.number,))

    # --- entries

    def lead(self, builds: Sequence[Build], keys: Mapping[str, Keys]) -> None:
        """Have exactly these keys lead to each of these streams in these builds. After `begin`."""
        held = self._leading(keys)
        changed = [stream for stream, now in keys.items() if now != held.get(stream, {})]
        if not changed:
            return
        numbers = {build.number for build in builds}
        others = {number for (number,) in self._connection.ask("SELECT number FROM build")} - numbers
        for build in builds:
            self._move(build, [(stream, held.get(stream, {}), keys[stream]) for stream in changed])
        kept = {
            stream: keys[stream] | {number: old for number, old in held.get(stream, {}).items() if number in others}
            for stream in changed
        }
        rows = [(stream, _encode_keys(every)) for stream, every in kept.items() if every]
        self._connection.do_each("REPLACE INTO leading (stream, keys) VALUES (?, ?)", rows)
        bare = [(stream,) for stream, every in kept.items() if not every]
        self._connection.do_each("DELETE FROM leading WHERE stream = ?", bare)

    def _leading(self, streams: Iterable[str]) -> dict[str, Keys]:
        """What leads to each of these streams; those that nothing leads to are left out."""
        asked = "SELECT stream, keys FROM leading WHERE stream IN (SELECT value FROM json_each(?))"
        return _read_keys(self._connection.ask(asked, (msgspec.json.encode(list(streams)).decode(),)))

    def _move(self, build: Build, changed: Iterable[tuple[str, Keys, Keys]]) -> None:
        """Change a build's own entries from the keys that led to some streams to those that do now."""
        gone: Entries = []
        new: Entries = []
        for stream, held, keys in changed:
            before, now = held.get(build.number, ()), keys.get(build.number, ())
            if before != now:
                gone += [(key, stream) for key in before if key not in now]
                new += [(key, stream) for key in now if key not in before]
        self.remove(build, gone)
        self.put(build, new)

    def led_to(self, build: Build, stream: str) -> set[str]:
        """The members of a set that a build of members holds."""
        rows = self._connection.ask(f"SELECT key FROM {_table(build)} WHERE stream = ?", (stream,))
        return {key for (key,) in rows}

    def put(self, build: Build, entries: Entries) -> None:
        """Add (key, stream) pairs. After `begin`."""
        if not entries:
            return
        name = _table(build)
        if not build.searched:
            self._connection.do_each(f"INSERT OR IGNORE INTO {name} (key, stream) VALUES (?, ?)", entries)
            return
        [[last]] = self._connection.ask(f"SELECT coalesce(max(id), 0) FROM {name}")
        numbered = [(number, key, stream) for number, (key, stream) in enumerate(entries, last + 1)]
        self._connection.do_each(f"INSERT INTO {name} (id, key, stream) VALUES (?, ?, ?)", numbered)
        texts = [(number, key) for number, key, _ in numbered]
        self._connection.do_each(f"INSERT INTO {name}_text (rowid, key) VALUES (?, ?)", texts)

    def remove(self, build: Build, entries: Entries) -> None:
        """Remove (key, stream) pairs. After `begin`."""
        name = _table(build)
        if not build.searched:
            self._connection.do_each(f"DELETE FROM {name} WHERE key = ? AND stream = ?", entries)
            return
        for key, stream in entries:
            found = f"SELECT id FROM {name} WHERE stream = ? AND key = ?"
            for (number,) in self._connection.ask(found, (stream, key)):
                self._connection.ask(
                    f"INSERT INTO {name}_text ({name}_text, rowid, key) VALUES ('delete', ?, ?)", (number, key)
                )
                self._connection.ask(f"DELETE FROM {name} WHERE id = ?", (number,))

    def count(self, build: Build) -> int:
        """How many entries a build has."""
        [[count]] = self._connection.ask(f"SELECT count(*) FROM {_table(build)}")
        return int(count)

    def entries(self, build: Build) -> list[tuple[str, str]]:
        """Every entry, in order: to compare a build with another, in tests and checks."""
        return self._connection.ask(f"SELECT key, stream FROM {_table(build)} ORDER BY key, stream")

    def entries_leading(self, build: Build) -> list[tuple[str, str]]:
        """The same entries as the rows by stream have them; none for a build of members."""
        held = _read_keys(self._connection.ask("SELECT stream, keys FROM leading"))
        return sorted((key, stream) for stream, keys in held.items() for key in keys.get(build.number, ()))

    def streams_at(self, build: Build, key: str, limit: int) -> list[str]:
        """The streams that a key leads to, by name."""
        found = f"SELECT stream FROM {_table(build)} WHERE key = ? ORDER BY stream LIMIT ?"
        return [stream for (stream,) in self._connection.ask(found, (key, limit))]

    def between(
        self,
        build: Build,
        first: str,
        last: str,
        after: tuple[str, str],
        limit: int,
        *,
        skip: int = 0,
        down: bool = False,
    ) -> list[tuple[str, str]]:
        """Entries with first <= key <= last, in order or backwards, beyond `after`; `skip` of them left out."""
        beyond = "(key, stream) < (?, ?)" if down else "(key, stream) > (?, ?)"
        order = "DESC" if down else "ASC"
        place = after if after != ("", "") else (LAST_KEY, "") if down else ("", "")
        return self._connection.ask(
            f"SELECT key, stream FROM {_table(build)} WHERE key >= ? AND key <= ? AND {beyond}"
            f" ORDER BY key {order}, stream {order} LIMIT ? OFFSET ?",
            (first, last, *place, limit, skip),
        )

    def count_between(self, build: Build, first: str, last: str) -> int:
        """How many entries `between` would give of all."""
        [[count]] = self._connection.ask(
            f"SELECT count(*) FROM {_table(build)} WHERE key >= ? AND key <= ?", (first, last)
        )
        return int(count)

    def search(self, build: Build, text: str, limit: int) -> list[tuple[str, str]]:
        """Up to `limit` entries whose key holds a text of at least three characters, in no order."""
        assert len(text) >= SEARCH_CHARACTERS_MIN
        if "\0" in text:  # ends a phrase, wherever it stands; no key that could be found so is worth the trouble
            return []
        name, phrase = _table(build), '"' + text.replace('"', '""') + '"'
        return self._connection.ask(
            f"SELECT {name}.key, {name}.stream FROM {name}_text JOIN {name} ON {name}.id = {name}_text.rowid"
            f" WHERE {name}_text MATCH ? LIMIT ?",
            (phrase, limit),
        )


def _read_keys(rows: Iterable[tuple[str, bytes]]) -> dict[str, Keys]:
    """Raises: sqlite3.DatabaseError, where what stands there is not what was written."""
    try:
        return {stream: _decode_keys(data) for stream, data in rows}
    except DECODE_ERRORS as error:
        raise sqlite3.DatabaseError(f"what leads to a stream is damaged: {error}") from None


DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""The last says that a statement cannot be: ours all can, in tables as we made them."""


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is not what was written, rather than that the disk is full or busy."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in DAMAGE


def _format_of(connection: _Connection) -> int:
    [[found]] = connection.ask("PRAGMA user_version")
    return int(found)


def _check_sound(connection: _Connection) -> None:
    """Raises: sqlite3.DatabaseError."""
    [[found]] = connection.ask("PRAGMA quick_check(1)")
    if found != "ok":
        raise sqlite3.DatabaseError(f"damaged: {found}")


def _table(build: Build) -> str:
    return f"entry_{build.number}"


def last_with(prefix: str) -> str:
    """The last key that begins with a prefix."""
    return prefix + "\U0010ffff"
