"""A disk that is really full: writes are refused, reads go on, and nobody has to restart anything once there is room."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from node.bench.processes import HOST
from node.commands.application import run
from tests.end_to_end.cluster import ATOLL, PATIENCE_S, ROOT

MEBIBYTE = 1 << 20
VIEWS_REFUSED = "the views cannot follow the log: database or disk is full"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * MEBIBYTE}", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root only")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> None:
    """Take all the room there is."""
    with (disk / "filling").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextmanager
def serving(disk: Path, log: Path) -> Iterator[httpx.Client]:
    command = [*ATOLL, "serve", "--region", "eu", "--data", str(disk / "eu"), "--listen", f"{HOST}:0"]
    with log.open("a") as errors, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT
    ) as node:  # fmt: skip
        assert node.stdout is not None
        started = node.stdout.readline().split()
        assert started[:2] == ["eu", "serves"], log.read_text()
        try:
            with httpx.Client(base_url=started[2], timeout=PATIENCE_S, trust_env=False) as client:
                yield client
                assert node.poll() is None, log.read_text()
        finally:
            node.terminate()
    assert node.returncode == 0, log.read_text()


def write(client: httpx.Client, number: int) -> httpx.Response:
    return client.post(f"/streams/users/{number}", json={"set": {"userName": f"u{number}", "note": "x" * 1000}})


def until(come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def builds(client: httpx.Client) -> dict[str, int]:
    """The build of each view, once all have caught up."""
    until(lambda: all(not view["behind"] for view in client.get("/status").json()["views"].values()))
    return {name: view["build"] for name, view in client.get("/status").json()["views"].items()}


def outrun_the_views(client: httpx.Client, disk: Path, log: Path, written: int) -> int:
    """Give a full disk's room back a page at a time, until a write took the last one and the views found none.

    Returns: how many are written then.
    """

    def refused() -> bool:
        return VIEWS_REFUSED in log.read_text()

    def followed() -> bool:
        return not any(view["behind"] for view in client.get("/status").json()["views"].values())

    filling = disk / "filling"
    until(lambda: refused() or followed())
    while not refused():
        if write(client, written).status_code == 201:
            written += 1
            until(lambda: refused() or followed())
        else:
            os.truncate(filling, filling.stat().st_size - 4096)
    return written


def test_writes_go_on_once_there_is_room(disk: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(disk, log) as client:
        built = builds(client)
        (disk / "filling").write_bytes(bytes(MEBIBYTE))  # to be given back
        written = 0
        while (answer := write(client, written)).status_code == 201:
            written += 1
        assert (answer.status_code, answer.json()["type"]) == (507, "urn:atoll:problem:store-full")
        assert "the disk is full" in answer.json()["detail"]
        fill(disk)
        for _ in range(20):
            assert write(client, written).status_code == 507
        assert client.get("/readyz").status_code == 200
        for path in (
            "/changes",
            f"/streams/users/{written - 1}",
            "/events/users/?limit=1000",
            "/scim/v2/Users?count=5",
        ):
            assert client.get(path).status_code == 200
        written = outrun_the_views(client, disk, log, written)
        time.sleep(2.5)  # in which they try again
        (disk / "filling").unlink()
        subprocess.run(["mount", "-o", f"remount,size={12 * MEBIBYTE}", disk], check=True)
        assert write(client, written).status_code == 201
        assert builds(client) == built
        assert client.get(f"/views/users-by-name?key=u{written}").json()["rows"]
        fill(disk)
    fill(disk)
    with serving(disk, log) as client:
        assert client.get(f"/streams/users/{written}").status_code == 200
        (disk / "filling").unlink()
        assert write(client, written + 1).status_code == 201
        assert builds(client) == built, "what could not be opened is not thrown away"
    told = log.read_text()
    assert "Traceback" not in told
    assert 1 <= told.count(VIEWS_REFUSED) <= 3
    assert "the views follow the log again" in told
    assert run(["verify", str(disk / "eu")]) == 0
    assert os.statvfs(disk).f_bavail > 0


def test_a_start_that_finds_no_room_is_told(disk: Path) -> None:
    (disk / "eu").mkdir()
    (disk / "eu" / "lock").touch()
    fill(disk)
    command = [*ATOLL, "serve", "--region", "eu", "--data", str(disk / "eu"), "--listen", f"{HOST}:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("No space left on device\n")
    assert done.stderr.count("\n") == 1
