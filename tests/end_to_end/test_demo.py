"""The demo as a user meets it: the README's tour and the commands that it prints itself, each one run."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.bench.processes import HOST, free_ports
from tests.end_to_end.cluster import ATOLL, ROOT

README = (ROOT / "README.md").read_text()
TOUR = README.partition("<!-- tour -->")[2].partition("<!-- end of tour -->")[0]
READY_S, STOP_S = 10.0, 2.0


class Demo:
    """A running demo, what it printed, and commands against it."""

    def __init__(self, temporary: Path) -> None:
        self.port = free_ports(3)[0]
        self.environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [*ATOLL, "demo", "--port", str(self.port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=self.environment,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if line.startswith("Ctrl-C"):
                break
        self.ready_after = time.monotonic() - self.began

    def run(self, command: str) -> str:
        """What a printed command prints, typed at a shell."""
        for place in range(3):
            command = command.replace(f":808{place + 1}", f":{self.port + place}")
        command = re.sub(r"^(uv run )?atoll\b", " ".join(ATOLL), command)
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, env=self.environment, timeout=20
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def eventually(self, command: str, expected: str) -> str:
        """What the command prints once gossip has come to where it prints what is expected."""
        deadline = time.monotonic() + 20
        while (printed := self.run(command)) and plain(printed) != plain(expected):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return printed

    def stop(self) -> None:
        assert self.process.stdout is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        rest = self.process.stdout.read()
        assert self.process.wait(10) == 0
        assert time.monotonic() - began < STOP_S
        assert rest.strip() == "stopped"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    one = Demo(tmp_path)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


def plain(text: str) -> str:
    """A text without what differs from run to run: incarnations and times. Which region wrote which stays."""
    text = re.sub(r"(?<![a-z])(us|eu|ap)\.[0-9a-f]{8}\.", r"\1.I.", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text).strip()


def steps(tour: str) -> list[tuple[str, str]]:
    """The commands of console blocks, each with what it is said to print."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", tour, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def test_the_readmes_tour_prints_what_the_readme_says(demo: Demo) -> None:
    tour = steps(TOUR)
    assert len(tour) > 15
    for command, expected in tour:
        reads = " -d " not in command and "atoll" not in command
        printed = demo.eventually(command, expected) if reads else demo.run(command)
        assert plain(printed) == plain(expected), command
    demo.stop()


def test_what_the_demo_prints_can_be_typed(demo: Demo) -> None:
    assert demo.ready_after < READY_S
    commands = [line.strip() for line in demo.printed.splitlines() if line.startswith("  ") and "#" not in line]
    assert len(commands) > 18
    for command in commands:
        if "-sN" in command:
            continue  # it goes on until it is stopped
        demo.run(command)
        time.sleep(0.3 if " -d " in command or "atoll" in command else 0)
    read = next(command for command in commands if command.endswith("conflicts=true'"))
    assert '"value":"Lisa Anna"' in demo.run(read)
    status = demo.run("atoll status " + " ".join(f"http://{HOST}:808{place}" for place in (1, 2, 3)))
    assert "heads are equal" in status
    assert re.search(r"│ us\.[0-9a-f]{8} │ +\d+ +│ +\d+ +│", status), "each node's vector"
    demo.stop()


def test_links_of_no_demo_or_no_region_are_told(demo: Demo, tmp_path: Path) -> None:
    def refused(*arguments: str, environment: dict[str, str]) -> str:
        done = subprocess.run([*ATOLL, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment)
        assert done.returncode == 1
        assert done.stdout == ""
        return done.stderr

    here = demo.environment
    assert refused("cut", "us", "mars", environment=here) == "atoll: name two different regions of us, eu, ap\n"
    assert refused("cut", "us", "us", environment=here).startswith("atoll: name two different regions")
    assert "80ms" in refused("delay", "us", "eu", "soon", environment=here)
    assert "already" in refused("demo", "--port", str(free_ports(3)[0]), environment=here)
    (tmp_path / "empty").mkdir()
    elsewhere = {**here, "TMPDIR": str(tmp_path / "empty")}
    assert "no demo runs" in refused("heal", "us", "eu", environment=elsewhere)
    assert "cannot listen" in refused("demo", "--port", str(demo.port), environment=elsewhere)
    for request in (
        b"",
        b"cut us eu",
        b'["stop","us","eu",0]',
        b'["delay","us","eu","soon"]',
        b'["delay","us","eu",-1]',
    ):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(tmp_path / f"atoll-demo-{os.getuid()}.sock"))
            asking.sendall(request)
            asking.shutdown(socket.SHUT_WR)
            taken, message = json.loads(asking.recv(65_536))
        assert (taken, message.partition(":")[0]) == (False, "the demo was not asked to cut, heal or delay a link")
    demo.stop()


def test_the_readmes_first_screen_answers_what_must_be_known() -> None:
    first_screen = "\n".join(README.splitlines()[:45])
    for text in (
        "pip install uv && uv run atoll demo",
        "uv run pytest -n auto",
        "Conditions hold per region",
        "lost after a 201",
    ):
        assert text in first_screen
    assert sys.version_info >= (3, 11)
