"""The commands: what is typed, read from a file or answered by somebody else, and cannot be used, is one clear line."""

import errno
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from node.commands.application import run
from node.commands.event_file import FileEvent, read_event_file
from node.commands.history import describe_event
from node.commands.tables import print_table
from node.commands.tcp_proxy import parse_delay
from node.configuration import configure
from node.errors import BadArguments, CommandFailed

Fails = Callable[..., str]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Runs a command that cannot do what it was asked; its one line."""

    def fail(*arguments: str) -> str:
        status = run(list(arguments))
        said = capsys.readouterr()
        assert (status, said.out) == (1, ""), said
        assert said.err.startswith("atoll: "), said
        assert said.err.count("\n") == 1, said
        return said.err

    return fail


LONG_NAME = "http://" + "a" * 64
SERVE = ("--region", "eu", "--data", "x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "x"), "region"),
        (("--region", "EU", "--data", "x"), "must be of a-z"),
        ((*SERVE, "--cluster", "A"), "must be of a-z"),
        ((*SERVE, "--listen", "8080"), "HOST:PORT"),
        ((*SERVE, "--listen", ":8080"), "HOST:PORT"),
        ((*SERVE, "--listen", "127.0.0.1:65536"), "HOST:PORT"),
        *(
            ((*SERVE, "--peer", url), f"peers: {url!r} is not an http or https URL")
            for url in ("10.0.0.1:80", "http://[::1", "http://a:99999", "http://a:0", "http://a b", "http://a?b",
                        "http://a#b", "http://a/\x7f", LONG_NAME)
        ),
        ((*SERVE, "--peer", "http://me:secret@a"), "is not an http or https URL"),
        ((*SERVE, "--peer", "http://a", "--peer", "http://a"), "peers: a URL comes twice"),
        ((*SERVE, "--public-url", "dir.example"), "public_url: 'dir.example' is not an http or https URL"),
        ((*SERVE, "--actor-header", "who is it"), "is not a header's name"),
        ((*SERVE, "--actor-header", ""), "is not a header's name"),
        ((*SERVE, "--lost", "eu"), "is not a dot"),
        ((*SERVE, "--lost", "eu.00000000.1", "--lost", "eu.00000000.2"), "lost: an origin comes twice"),
        ((*SERVE, "--home", "claims/a=eu"), "is not PREFIX=REGION"),
        ((*SERVE, "--home", "users/=eu"), "is not PREFIX=REGION"),
        ((*SERVE, "--home", "claims/a/=EU"), "is not PREFIX=REGION"),
        ((*SERVE, "--home", "claims/a/=eu", "--home", "claims/a/=us"), "homes: a prefix comes twice"),
        ((*SERVE, "--gossip-interval-ms", "1"), "gossip_interval_ms"),
    ],
)  # fmt: skip
def test_what_serve_cannot_use_is_named(fails: Fails, arguments: tuple[str, ...], said: str) -> None:
    assert said in fails("serve", *arguments)


def test_a_host_in_brackets_is_an_address() -> None:
    assert configure({"region": "eu", "data": "x", "listen": "[::1]:0"}).address == ("::1", 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('region = "eu"\ndatum = "x"\n', "datum"),
        ("region = \n", "node.toml"),
        ('region = "eu"\ndata = "a\\u0000b"\n', "data: 'a\\x00b' is not a directory's name"),
        ('region = "eu"\ndata = ""\n', "data: '' is not a directory's name"),
        ("# für eu\n", "node.toml: 'utf-8' codec can't decode"),
        ("a = " + "[" * 5_000, "node.toml: maximum recursion depth"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(fails: Fails, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(text.encode("latin-1"))
    assert said in fails("serve", "--config", str(file))
    assert "No such file" in fails("serve", "--config", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not an event: the body is not JSON"),
        (b"[]", "not an event"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"region": "eu"}', "'stream'"),
        (b'{"region": "eu", "stream": 5}', "stream: must be a string"),
        (b'{"region": "eu", "stream": "a//b"}', "empty segment"),
        (b'{"region": "eu", "stream": "a\\ud800"}', "lone surrogate"),
        (b'{"region": "eu", "stream": "s", "set": {"n": "\\ud800"}}', "surrogates not allowed"),
        (b'{"region": "eu", "stream": "s", "set": {"n": NaN}}', "NaN is not JSON"),
        (b'{"region": "eu", "stream": "s", "set": {"n": 1e999}}', "not an event"),
        (b'{"region": "eu", "stream": "s", "set": {"n": 1, "n": 2}}', "the same key twice"),
        (b'{"region": "us", "stream": "s"}', "region 'us' has no --node"),
        (b'{"region": [], "stream": "s"}', "region must be a string"),
    ],
)
def test_a_line_that_cannot_be_loaded_is_named(fails: Fails, tmp_path: Path, line: bytes, said: str) -> None:
    file = tmp_path / "f.ndjson"
    file.write_bytes(b'{"region": "eu", "stream": "s"}\n\n' + line + b"\n")
    told = fails("load", str(file), f"--node=eu={NOWHERE}")
    assert "line 3: " in told
    assert said in told


def test_a_line_says_when_it_happened(tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text('\n{"region": "eu", "stream": "s", "set": {"n": 1}, "at": "2020-01-01T00:00:00Z", "note": "x"}\n')
    body = {"set": {"n": 1}, "occurred_at": "2020-01-01T00:00:00Z"}
    assert read_event_file(file) == [FileEvent(2, "eu", "s", body)]


def test_what_load_cannot_do_is_named(fails: Fails, tmp_path: Path) -> None:
    file = tmp_path / "f.ndjson"
    node = f"--node=eu={NOWHERE}"
    assert "No such file" in fails("load", str(file), node)
    file.write_text('{"region": "eu", "stream": "s", "set": {"n": 1}}\n')
    for url in ("eu", "eu=", "eu=http://", "eu=ftp://a", "eu=http://[::1", f"eu={LONG_NAME}"):
        assert "REGION=URL" in fails("load", str(file), f"--node={url}")
    assert "twice" in fails("load", str(file), node, node)
    assert "max-in-flight" in fails("load", str(file), node, "--max-in-flight=0")
    assert "gave up" in fails("load", str(file), node.replace("http://", "http://me:secret@"), "--timeout=0.5")
    assert "line 1: gave up after 1 s" in fails("load", str(file), node, "--timeout=0.5")


def test_a_demo_needs_three_ports(fails: Fails) -> None:
    for port in ("0", "-1", "65534", "70000"):
        assert "--port must be from 1 to 65533" in fails("demo", f"--port={port}")


def test_delays_are_read_with_their_unit() -> None:
    assert [parse_delay(text) for text in ("80ms", "1s", "0.5s")] == [0.08, 1.0, 0.5]
    for text in ("80", "ms", "-1s", "nans", "61s", "1m"):
        with pytest.raises(ValueError, match=text):
            parse_delay(text)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers everything alike; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


ASKING = (
    ("history", "a"),
    ("conflicts",),
    ("views",),
    ("views", "rebuild", "v"),
    ("views", "switch", "v", "1"),
    ("views", "drop", "v", "1"),
    ("streams", "split", "a", "--fields=x", "--to=a/b"),
    ("streams", "join", "a/b", "--into=a"),
)
STRANGE = (
    b"<html>",
    b"",
    b"[]",
    b"{}",
    b"null",
    b'"\xff"',
    b"[" * 100_000,
    b'{"token":' + b"[" * 100_000,
    b'{"a":' * 9_999,
)


@pytest.mark.parametrize("body", STRANGE, ids=range(len(STRANGE)))
def test_what_is_no_node_is_told(
    fails: Fails, capsys: pytest.CaptureFixture[str], tmp_path: Path, body: bytes
) -> None:
    file = tmp_path / "f.ndjson"
    file.write_text('{"region": "eu", "stream": "s", "set": {"n": 1}}\n')
    with answering(200, body) as url:
        for command in ASKING:
            assert f"{url}: what answers there is no node of Atoll's" in fails(*command, f"--node={url}")
        assert run(["status", url, "--json"]) == 1
        assert "no node" in json.loads(capsys.readouterr().out)[url]["problem"]
        assert run(["status", url]) == 1
        assert "no node" in capsys.readouterr().out
    with answering(201, body) as url:
        assert "is no node of Atoll's" in fails("load", str(file), f"--node=eu={url}")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"oops", "status 500"),
        (404, b"[1]", "status 404"),
        (301, b"", "status 301"),
        (400, b'{"detail": "not\\nso\\u001b[31m"}', "not\\nso\\u001b[31m"),
    ],
)
def test_why_a_node_refuses_is_told(fails: Fails, status: int, body: bytes, said: str) -> None:
    with answering(status, body) as url:
        for command in ASKING:
            assert f"{url}: {said}" in fails(*command, f"--node={url}")


@pytest.mark.parametrize("url", ["", "nowhere", "http://[::1", "http://a:99999", LONG_NAME, "\udcff"])
def test_what_is_no_url_is_told(fails: Fails, capsys: pytest.CaptureFixture[str], url: str) -> None:
    for command in ASKING:
        fails(*command, f"--node={url}")
    assert run(["status", url or "x", "--json"]) == 1
    capsys.readouterr()


def test_names_that_are_none_are_told(fails: Fails) -> None:
    assert "stream: holds a lone surrogate" in fails("history", "\udcff")
    assert "prefix: holds a lone surrogate" in fails("conflicts", "\udcff")


def test_what_is_stored_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Values that look like markup, or would steer the terminal of whoever reads the audit trail."""
    event = {
        "set": {"flags": [True], "note": "[/x] [red]"},
        "add": {"tags": ["\x1b[31mred", "\x9b", "a\nb", "\u202e"]},
    }
    print_table(("what", "[red]"), [(describe_event(event), "x")])
    shown = capsys.readouterr().out
    assert 'flags = [true]; note = "[/x] [red]"' in shown
    assert r"tags + \u001b[31mred; tags + \u009b; tags + a\nb; tags + \u202e" in shown
    assert "[red]" in shown.splitlines()[1]


def test_status_shows_each_link_and_what_both_ends_lack(capsys: pytest.CaptureFixture[str]) -> None:
    silent = {"url": "http://ap", "region": None, "reachable": False, "behind": None, "ahead": None}
    heard = {"url": "http://us", "region": "us", "reachable": True, "behind": 3, "ahead": 0}
    status = {
        "region": "eu", "origin": "eu.00000001", "events": 7, "heads": {"eu.00000001": [7, "ab"]},
        "ready": True, "writing": True, "forks": [], "left_out": [],
        "peers": [
            {**silent, "answered_ms_ago": None, "error": "connection refused"},
            {**heard, "answered_ms_ago": 1234, "error": None},
        ],
    }  # fmt: skip
    with answering(200, json.dumps(status).encode()) as url:
        assert run(["status", url]) == 0
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
        assert [url, "eu", "eu.00000001", "7", "yes", "0", "0"] in rows
        assert ["eu", "http://ap", "no", "-", "-", "never", "connection refused"] in rows
        assert ["eu", "us", "yes", "3", "0", "1.2 s ago", ""] in rows
    for change in ({"ready": False}, {"writing": False}):
        with answering(200, json.dumps(status | change).encode()) as url:
            assert run(["status", url]) == 0
            assert f"│ {url} │ eu     │ eu.00000001 │ 7      │ no" in capsys.readouterr().out
    with answering(200, json.dumps(status | {"forks": [{}], "left_out": [{}, {}]}).encode()) as url:
        assert run(["status", url]) == 1
        assert "heads" not in (shown := capsys.readouterr().out), "of one node there is nothing to compare"
        assert "│ yes   │ 1     │ 2        │" in shown
    with answering(200, json.dumps(status).encode()) as url:
        assert run(["status", url, f"{url}/"]) == 0
        assert capsys.readouterr().out.endswith("heads are equal\n")


def test_history_says_what_each_event_did(capsys: pytest.CaptureFixture[str]) -> None:
    common = {"timestamp": "T", "region": "eu", "stream": "users/4"}
    events = [
        {**common, "actor": "lisa", "set": {"name": "Lisa", "age": 7}, "lost": ["name", "age"]},
        {**common, "actor": "omar", "add": {"m": ["a", "b"]}, "remove": {"m": ["c"]}},
        {**common, "actor": "ravi", "delete": True},
        {**common, "unknown": True},
    ]
    said = ['name = "Lisa"; age = 7', "m + a; m + b; m - c", "delete", "(of a newer version)"]
    with answering(200, json.dumps({"events": events}).encode()) as url:
        for name, before in (("users/4", ""), ("users/", "users/4: ")):
            assert run(["history", name, f"--node={url}"]) == 0
            rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
            actors, lost = ("lisa", "omar", "ravi", "?"), ("name, age", "", "", "")
            assert rows[3:-1] == [
                ["T", "eu", actor, before + what, one] for actor, what, one in zip(actors, said, lost, strict=True)
            ]
        assert run(["history", "users/4", f"--node={url}", "--json"]) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == events


def test_what_waits_to_be_mended_is_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    lost = {"value": "Lisa", "region": "us", "author": "lisa"}
    claim = {
        "attribute": "userName", "value": "anna",
        "holds": {"stream": "users/1", "region": "us"}, "waits": [{"stream": "users/2", "region": "eu"}],
    }  # fmt: skip
    items = [
        {"stream": "users/4", "fields": {"name": {"value": "Lisa Anna", "lost": [lost]}}},
        {"stream": "claims/userName/anna", "claim": claim},
        {"stream": "users/5", "strays": {"registers": ["theme"], "sets": ["tags"]}},
    ]
    with answering(200, json.dumps({"conflicts": items}).encode()) as url:
        assert run(["conflicts", f"--node={url}"]) == 0
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
        assert rows[3:-1] == [
            ["users/4", "name", '"Lisa Anna"', '"Lisa" (us, lisa)', "writing the field"],
            ["claims/userName/anna", "userName anna", "users/1", "users/2 (eu)", "renaming one of them"],
            ["users/5", "written after a split", "-", "theme, tags", "splitting again"],
        ]
        assert run(["conflicts", f"--node={url}", "--json"]) == 0
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == items
    with answering(200, b'{"conflicts": []}') as url:
        assert run(["conflicts", f"--node={url}"]) == 0
        assert capsys.readouterr().out == "nothing waits to be mended\n"


@pytest.mark.parametrize(
    "mistake", [ZeroDivisionError(), PermissionError(errno.EACCES, "no"), ExceptionGroup("", [BadArguments(), ZeroDivisionError()])]
)  # fmt: skip
def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch, mistake: Exception) -> None:
    def verify_store(*_: object) -> None:
        raise mistake

    monkeypatch.setattr("node.commands.verify.verify_store", verify_store)
    with pytest.raises(type(mistake)):
        run(["verify", "x"])


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (CommandFailed("so"), 1),
        (BadArguments("so"), 2),
        (ExceptionGroup("", [ExceptionGroup("", [CommandFailed("so")])]), 1),
        (KeyboardInterrupt(), 130),
        (BaseExceptionGroup("", [KeyboardInterrupt(), CommandFailed("so")]), 130),
    ],
)
def test_how_a_command_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: BaseException, status: int
) -> None:
    def verify_store(*_: object) -> None:
        raise failure

    monkeypatch.setattr("node.commands.verify.verify_store", verify_store)
    assert run(["verify", "x"]) == status
    assert capsys.readouterr().err == ("" if status == 130 else "atoll: so\n")
