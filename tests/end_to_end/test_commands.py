"""The command line: help everywhere, one clear line for what cannot be done, exit statuses that scripts can use."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from node.bench.processes import HOST, free_port
from tests.end_to_end.cluster import ATOLL, ROOT
from tests.helpers import Node


def run(*arguments: str, **options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*ATOLL, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60)


def fails(*arguments: str) -> str:
    """The one line of a command that cannot do what it was asked."""
    done = run(*arguments)
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.startswith("atoll: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def store(workplace: Path) -> Path:
    node = Node(workplace / "eu", "eu", cluster="atoll")
    node.write("s", set={"n": 1}, add={"m": ["x"]})
    node.close()
    return workplace / "eu"


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["cut"], ["heal"], ["delay"], ["serve"], ["status"], ["load"], ["verify"], ["bench"]]
)
def test_help_is_everywhere(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "Usage: atoll" in done.stdout


def test_the_list_of_commands_says_what_each_does() -> None:
    assert "Three regions on this machine" in run("--help").stdout
    assert run("--version").stdout.strip() == "0.1.0"


def test_what_serve_cannot_do_is_one_line(store: Path) -> None:
    serve = ("serve", "--region", "eu", "--data", str(store))
    assert "belongs to region 'eu'" in fails("serve", "--region", "us", "--data", str(store), "--listen", f"{HOST}:0")
    assert "cluster 'atoll'" in fails(*serve, "--cluster", "other", "--listen", f"{HOST}:0")
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        assert "cannot listen" in fails(*serve, "--listen", f"{HOST}:{taken.getsockname()[1]}")


def test_a_store_serves_one_process_and_stops_on_a_signal(store: Path) -> None:
    command = [*ATOLL, "serve", "--region", "eu", "--data", str(store), "--listen", f"{HOST}:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline().startswith(f"eu serves http://{HOST}:")
        assert "in use by another process" in fails(
            "serve", "--region", "eu", "--data", str(store), "--listen", f"{HOST}:0"
        )
        assert run("verify", str(store)).returncode == 0
        serving.send_signal(signal.SIGTERM)
        _, errors = serving.communicate(timeout=5)
        assert (serving.returncode, errors) == (0, "")


def test_a_benchmark_that_is_told_to_end_stops_its_servers_and_leaves_nothing(tmp_path: Path) -> None:
    command = [*ATOLL, "bench", "write", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as measuring:
        deadline = time.monotonic() + 60
        while not (port := listening(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.05)
        measuring.send_signal(signal.SIGTERM)
        measuring.communicate(timeout=20)
    assert port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port))
    assert (measuring.returncode, list(tmp_path.iterdir())) == (130, [])


@pytest.mark.skipif(sys.platform != "linux", reason="which stores are open is read from /proc")
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_search_that_is_interrupted_says_how_far_it_came_and_leaves_nothing(told: signal.Signals) -> None:
    """As a terminal, or `timeout`, sends it: to the processes that the seeds run in, too."""
    heard = ["env", f"--default-signal={told.name.removeprefix('SIG')}"]  # what runs the tests may be deaf to Ctrl-C
    command = [*heard, *ATOLL, "simulate", "--seeds", "0..999", "--jobs", "2", "--regions", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    ) as searching:
        try:
            deadline = time.monotonic() + 60
            while not (stores := stores_below(searching.pid)) and time.monotonic() < deadline:
                time.sleep(0.05)
            os.killpg(searching.pid, told)
            output, errors = searching.communicate(timeout=20)
        finally:
            with suppress(ProcessLookupError):  # as it should be
                os.killpg(searching.pid, signal.SIGKILL)
    assert stores
    assert not any(store.parent.exists() for store in stores)
    assert re.fullmatch(r"stopped after (\d+) of 1000 seeds\n", errors), errors
    assert searching.returncode == 130
    ran = int(errors.split()[2])
    assert output.startswith(f"{ran} seeds, ") or (ran, output) == (0, "")


def stores_below(parent: int) -> list[Path]:
    """The stores that processes which this one has started hold open."""
    stores: list[Path] = []
    with suppress(OSError):
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            opened = [descriptor.readlink() for descriptor in Path(f"/proc/{child}/fd").iterdir()]
            stores += [path for path in opened if path.name == "data.mdb"]
    return stores


def test_a_command_that_is_told_to_end_within_exec_says_so_by_its_status(tmp_path: Path) -> None:
    """The signal may come while a dataclass is made, say."""
    (tmp_path / "told.py").write_text(
        "import os, signal\n"
        "from node import __main__\n"
        "from node.commands import application\n"
        "TELL = 'os.kill(os.getpid(), signal.SIGTERM); [None for _ in range(100_000)]'\n"
        "application.app = lambda *_, **__: exec(TELL)\n"
        "__main__.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    told = subprocess.run([sys.executable, "-m", "told"], env=environment, capture_output=True, text=True, timeout=30)
    assert (told.returncode, told.stderr) == (130, "")


def listening(directory: Path) -> int | None:
    """The port of a server that a benchmark in this directory has started, once it listens."""
    for log in directory.glob("*/*/*.log"):
        with suppress(ConnectionRefusedError):
            socket.create_connection((HOST, int(log.stem))).close()
            return int(log.stem)
    return None


def test_a_client_that_stops_reading_does_not_hold_the_shutdown(tmp_path: Path) -> None:
    node = Node(tmp_path / "eu", "eu", cluster="atoll")
    for number in range(60):
        node.write(f"s/{number}", set={"n": "x" * 200_000})
    node.close()
    command = [*ATOLL, "serve", "--region", "eu", "--data", str(tmp_path / "eu"), "--listen", f"{HOST}:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as serving:
        assert serving.stdout is not None
        port = int(serving.stdout.readline().split(" ")[2].rpartition(":")[2])
        with socket.create_connection((HOST, port)) as stalled:
            stalled.sendall(b"GET /changes HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
            assert stalled.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)  # until the buffers between are full
            began = time.monotonic()
            serving.send_signal(signal.SIGINT)
            _, errors = serving.communicate(timeout=10)
        assert (serving.returncode, errors) == (0, "")
        assert time.monotonic() - began < 3


def test_clients_leave_half_of_the_files_that_may_be_open(tmp_path: Path) -> None:
    """As many as the system lets a process have, which is more than it begins with."""
    command = [*ATOLL, "serve", "--region", "eu", "--data", str(tmp_path), "--listen", f"{HOST}:0"]
    limited = ["sh", "-c", 'ulimit -Sn 32; ulimit -Hn 64; exec "$0" "$@"', *command]
    with subprocess.Popen(limited, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as serving:
        assert serving.stdout is not None
        port = int(serving.stdout.readline().split(" ")[2].rpartition(":")[2])
        with ExitStack() as clients:
            said = [_answer(clients.enter_context(socket.create_connection((HOST, port)))) for _ in range(80)]
            assert [said.count(f"HTTP/1.1 {status}".encode()) for status in (200, 503)] == [32, 48]
        serving.send_signal(signal.SIGTERM)
        _, errors = serving.communicate(timeout=10)
    assert (serving.returncode, errors) == (0, "")


def _answer(client: socket.socket) -> bytes:
    client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    return client.recv(12)


def test_what_cannot_be_said_ends_a_command_and_not_a_node(store: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*ATOLL, "verify", str(store)], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=60
        )
        assert (done.returncode, done.stderr) == (1, "atoll: [Errno 28] No space left on device\n")
        port = free_port()
        command = [*ATOLL, "serve", "--region", "eu", "--data", str(store), "--listen", f"{HOST}:{port}"]
        with subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT) as serving:
            while serving.poll() is None and not answers(f"http://{HOST}:{port}/readyz"):
                time.sleep(0.05)
            serving.send_signal(signal.SIGTERM)
            _, errors = serving.communicate(timeout=10)
    assert (serving.returncode, errors) == (0, "")


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_verify_says_what_it_found(store: Path, tmp_path: Path) -> None:
    done = run("verify", str(store))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{store}: 1 events of 1 origins on 1 streams: clean\n"
    assert "holds no store" in fails("verify", str(tmp_path))
    data = bytearray((store / "data.mdb").read_bytes())
    place = data.rindex(b"anonymous")
    while place >= 0:
        data[place] ^= 1
        place = data.rfind(b"anonymous", 0, place)
    (store / "data.mdb").write_bytes(data)
    spoilt = run("verify", str(store))
    assert spoilt.returncode == 1
    assert "body of another hash" in spoilt.stdout


def test_progress_shows_at_a_terminal(store: Path) -> None:
    terminal, end = pty.openpty()
    done = subprocess.run([*ATOLL, "verify", str(store)], stdout=subprocess.PIPE, stderr=end, cwd=ROOT, timeout=60)
    os.close(end)
    assert done.returncode == 0
    assert os.read(terminal, 65_536)
    os.close(terminal)


def test_status_of_nobody_is_a_failure() -> None:
    done = run("status", f"http://{HOST}:1")
    assert done.returncode == 1
    assert "no:" in done.stdout
    assert '"problem"' in run("status", f"http://{HOST}:1", "--json").stdout
