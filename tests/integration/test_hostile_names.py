"""Names that others chose, printed by the command line on a real terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: As a server older than its names' rules, or a broken one, could answer.
NAME = "a\x1b]0;title\x07\x9b2J\u202eb\nforged"
SHOWN = r"a\x1b]0;title\x07\x9b2J\u202eb\nforged"
PROJECT = {
    "id": "1",
    "name": NAME,
    "num_tasks": 0,
    "project_type": "default",
    "estimated_computation_cost": 0.0,
    "total_orchestration_fee": 0.0,
    "task_status_overview": {},
    "created_at": "2026-01-01T00:00:00+00:00",
}


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """All projects; any single one is missing, with a hostile sentence."""
        found = self.path.startswith("/projects?") or self.path == "/projects"
        body = json.dumps([PROJECT] if found else {"detail": f"There is no {NAME}."}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that has ended closes its connection as it likes."""


@pytest.fixture
def connection() -> Iterator[dict[str, str]]:
    server = _Quiet(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {
        "SIMHERD_API_URL": f"http://127.0.0.1:{server.server_port}",
        "SIMHERD_API_KEY": "key",
        "PATH": "/usr/bin:/bin",
    }
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.fault("B16")
def test_a_hostile_name_is_visible_in_a_table(connection: dict[str, str], tmp_path: Path) -> None:
    told = {**connection, "HOME": str(tmp_path)}
    code, shown = Terminal(["projects", "list"], tmp_path, told, columns=120).ends()
    assert code == 0, shown
    assert SHOWN in shown
    # Simherd's own sequences make the headings bold, and that is all there is.
    plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert plain.isascii()
    assert "\x1b" not in plain
    code, shown = Terminal(["projects", "info", "x"], tmp_path, told).ends()
    assert code == 1
    assert SHOWN in shown
    assert "\x1b" not in shown
    argv = [sys.executable, "-m", "simherd.cli.main", "projects", "list"]
    plain = subprocess.run(argv, env=told, capture_output=True, text=True, check=True).stdout
    assert SHOWN in plain
    data = subprocess.run([*argv, "--json"], env=told, capture_output=True, text=True, check=True)
    assert data.stdout.isascii()
    assert json.loads(data.stdout)[0]["name"] == NAME
