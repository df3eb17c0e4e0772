"""Clients behind nginx, where it is installed, as the documents say to set it up."""

import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from node.bench.processes import HOST, atoll, free_port, server
from node.limits import BODY_BYTES_MAX
from tests.end_to_end.cluster import ROOT

CONFIGURATION = """
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;
    server { listen %s; %s }
}
"""


DOCUMENTED = (ROOT / "docs" / "configuration.md").read_text().partition("```nginx\n")[2].partition("```")[0]
LEAST = "location / { proxy_pass http://127.0.0.1:8080; }"

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@contextmanager
def behind_nginx(directory: Path, location: str = DOCUMENTED) -> Iterator[str]:
    """While this lasts, a node serves through nginx; its URL there."""
    port, inner = free_port(), free_port()
    location, count = re.subn(r"127\.0\.0\.1:8080", f"{HOST}:{inner}", location)
    assert count == 1
    (directory / "nginx.conf").write_text(CONFIGURATION % (f"{HOST}:{port}", location))
    command = ["nginx", "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"]
    with atoll(directory, "eu", inner), server(command, port, directory):
        yield f"http://{HOST}:{port}"


def test_writes_pass_nginx_and_what_is_refused_says_why(workplace: Path) -> None:
    with behind_nginx(workplace) as url, httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        written = client.post("/streams/users/4", json={"set": {"name": "Lisa"}}, headers={"atoll-actor": "mallory"})
        assert written.status_code == 201, written.text
        [event] = client.get("/events/users/4").json()["events"]
        assert event["actor"] == "anonymous", "nobody was authenticated, and nobody may claim to have been"

        with (
            socket.create_connection((HOST, httpx.URL(url).port or 0), timeout=5) as sent,
            sent.makefile("rb") as heard,
        ):
            sent.sendall(
                b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for name in (b"users/5", b"users/6"):
                line = b'{"stream": "%b", "set": {"name": "Omar"}}\n' % name
                sent.sendall(b"%x\r\n%b\r\n" % (len(line), line))
                assert any(name in one for one in heard), "acknowledged while more is to come"
            sent.sendall(b"0\r\n\r\n")
            assert any(b'"written":2' in one for one in heard)

        refused = client.post("/streams/users/4", content=b"x" * (4 * BODY_BYTES_MAX))
        assert refused.status_code == 413, refused.text
        assert str(BODY_BYTES_MAX) in refused.json()["detail"]


@pytest.mark.parametrize("location", [DOCUMENTED, LEAST])
def test_changes_pass_nginx_as_they_come(location: str, workplace: Path) -> None:
    with behind_nginx(workplace, location) as url, httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        following = client.stream("GET", "/changes", params={"after": "now"}, headers={"accept": "text/event-stream"})
        with following as changes:
            told = changes.iter_lines()
            assert next(told) == "event: caught-up"
            client.post("/streams/users/4", json={"set": {"name": "Lisa Anna"}})
            assert any("Lisa Anna" in line for line in told)
