"""`atoll bench`: figures, each with its floor from the same run, and peers beside it."""

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from node.bench import directory as identity
from node.bench import embedded, exchange, followers, http, idle, memory, streams
from node.bench.figure import Figure, dump, show
from node.bench.peers import measure, rates_beside
from node.bench.peers.rates import Rates
from node.bench.plot import series_of, svg
from node.commands.writable import check_writable
from node.errors import BadArguments

BENCHMARKS: dict[str, tuple[Callable[[Path], Iterator[Figure]], str]] = {
    "append": (embedded.append, "events appended in this process, 64 and 1,000 a commit (1 minute)"),
    "write": (http.writes, "single durable writes over HTTP (1 minute)"),
    "read": (http.reads, "reads over HTTP (1 minute)"),
    "requests": (http.others, "unchanged, forced, many at once, changes (1 minute)"),
    "ingest": (streams.ingest, "streams of writes (1 minute)"),
    "catch-up": (exchange.catch_up, "a new region takes in a million events (5 minutes)"),
    "lag": (exchange.lag, "how far a region lags while clients write (1 minute)"),
    "idle": (idle.idle, "what an exchange costs where there is nothing to say (20 seconds)"),
    "followers": (followers.followers, "writes beside clients that follow the log (1 minute)"),
    "directory": (identity.directory, "100,000 users, 2,000 groups: views, look-ups, SCIM (1 minute)"),
    "sets": (embedded.sets, "a set at 1,000 and at 1,000,000 members (2 minutes)"),
    "growth": (embedded.growth, "cost and memory from 100,000 to 5,000,000 events (6 minutes)"),
}


def bench(
    *names: str, peers: bool = False, json: bool = False, plot: Path | None = None, data: Path | None = None
) -> int:
    """Measure, and print a table: append, write, read, requests, ingest, catch-up, lag, idle, followers,
    directory, sets, growth.

    Each figure stands beside its floor, measured in the same run: what nothing that does the same on this machine and
    these libraries could beat. What counts is the ratio; absolute figures are the machine's.

    Parameters
    ----------
    names
        Which to run; all of them, but `growth`, where none is named.
    peers
        Measure PostgreSQL, NATS, PouchDB Server, Redis and eventsourcing beside it, where they are installed.
    json
        Print JSON: {name: {value, unit, floor, ratio, peers}}.
    plot
        A file for what was measured at several sizes, as an SVG (`growth`).
    data
        Directory on the disk to measure; a temporary one below it is made and removed [this one].
    """
    if plot is not None and "growth" not in names:
        raise BadArguments("--plot goes with growth, which measures at several sizes")
    check_writable(plot)
    if data is not None and not data.is_dir():
        raise BadArguments(f"--data {data} is not a directory")
    for name in names:
        if name not in BENCHMARKS:
            raise BadArguments(f"benchmark {name!r} is not known; known are {', '.join(BENCHMARKS)}")
    chosen = names or tuple(name for name in BENCHMARKS if name != "growth")
    figures: list[Figure] = []
    compiler = platform.python_compiler()
    print(f"Python {platform.python_version()} ({compiler}), {os.cpu_count()} processors", file=sys.stderr)
    for size in memory.SIZES:
        print(f"a step at random through {size >> 10:,} KiB: {memory.step_ns(size):.0f} ns", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-", dir=data or Path.cwd()) as directory:
        beside = _measure_peers(Path(directory)) if peers else {}
        for name in chosen:
            run, summary = BENCHMARKS[name]
            print(f"{name}: {summary}", file=sys.stderr)
            home = Path(directory) / name
            home.mkdir()
            for figure in run(home):
                figures.append(replace(figure, peers=figure.peers | rates_beside(figure.name, beside)))
                print(f"  {figure.name}: {figure.value:,.4g} {figure.unit}", file=sys.stderr)
    series = series_of(figures)
    if plot is not None and series:
        plot.write_text(svg(series), encoding="utf-8")
    if json:
        print(dump(figures))
    else:
        show(figures)
    return 0


def _measure_peers(directory: Path) -> dict[str, Rates]:
    print("peers: those that are installed (3 minutes)", file=sys.stderr)
    home = directory / "peers"
    home.mkdir()
    return measure(home)
