"""The pages that every process serves, and the command that asks for one of them."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from simherd.contract import limits
from simherd.runtime import health, health_check
from simherd.runtime.health import (
    SECURITY_HEADERS,
    Dependencies,
    Dependency,
    HealthTarget,
    Pages,
    Pulse,
    Served,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Process:
    """A process with one loop, and two things that it depends on."""

    def __init__(self, folder: Path) -> None:
        self.pulse = Pulse("The loop")
        self.down = ""
        self.hangs = threading.Event()
        self.target = HealthTarget(folder / "metrics.json", "executor")
        known = {
            "store": Dependency("The store does not answer", self._store),
            "disk": Dependency("The disk does not answer", self._disk),
        }
        pages = Pages(self.pulse.trouble, Dependencies(known), lambda: b"simherd_x 1\n")
        self.served = Served("127.0.0.1", 0, pages, self.target)

    def _store(self) -> str | None:
        if self.down == "store":
            raise ConnectionError("10.0.0.7:5432 refused us")
        return None

    def _disk(self) -> str | None:
        if self.down == "hangs":
            self.hangs.wait()
        return "The disk is full." if self.down == "disk" else None

    def get(self, path: str) -> httpx.Response:
        host, port = self.target.read()
        return httpx.get(f"http://{host}:{port}{path}", trust_env=False, timeout=60)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    monkeypatch.setattr(health, "DEPENDENCY_S", 60)
    monkeypatch.setattr(health, "DEPENDENCY_KEPT_S", 0.0)
    made = Process(tmp_path)
    yield made
    made.hangs.set()
    made.served.close()
    assert not made.target.file.exists()


def test_each_page_says_what_it_is_for(process: Process) -> None:
    assert process.get(health.LIVE).json() == {"status": "ok"}
    assert process.get(health.READY).json() == {
        "status": "ok",
        "checks": {"store": "ok", "disk": "ok"},
    }
    assert process.get(health.METRICS).text == "simherd_x 1\n"
    assert process.get("/else").status_code == 404
    assert health.METRICS in process.get("/else").json()["detail"]


def test_every_page_has_security_headers_errors_too(process: Process) -> None:
    for path in ("/livez", "/metrics", "/none"):
        headers = process.get(path).headers
        assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize(
    ("down", "name", "said"),
    [
        # An address inside the deployment is nobody's business.
        ("store", "store", "The store does not answer: ConnectionError."),
        ("disk", "disk", "The disk is full."),
        ("hangs", "disk", "The disk does not answer within 0 s."),
    ],
)
def test_an_unavailable_dependency_is_named_with_a_sentence(
    process: Process, monkeypatch: pytest.MonkeyPatch, down: str, name: str, said: str
) -> None:
    process.down = down
    if down == "hangs":
        monkeypatch.setattr(health, "DEPENDENCY_S", 0.2)
    answer = process.get(health.READY)
    assert answer.status_code == 503
    assert {k: v for k, v in answer.json()["checks"].items() if v != "ok"} == {name: said}
    # It waits for it; that it lives is another question.
    assert process.get(health.LIVE).status_code == 200
    process.down = ""
    process.hangs.set()
    monkeypatch.setattr(health, "DEPENDENCY_S", 60)
    assert process.get(health.READY).status_code == 200


def test_a_stalled_loop_is_not_live(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SILENT_PROCESS_S", 0.0)
    answer = process.get(health.LIVE)
    assert answer.status_code == 503
    assert re.fullmatch(r"The loop has not gone on for \d+ s\.", answer.json()["detail"])


def test_a_thread_that_died_is_not_live(process: Process) -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    process.pulse.kept_by(thread)
    assert process.get(health.LIVE).json()["detail"] == "The loop has ended: its thread died."


def test_the_health_check_of_an_executor(
    process: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIMHERD_STATE_DIR", str(process.target.file.parent))
    monkeypatch.setenv("SIMHERD_METRICS_PORT", "0")
    assert health_check.of_executor() == 0
    monkeypatch.setattr(limits, "SILENT_PROCESS_S", 0.0)
    assert health_check.of_executor() == 1
    assert "The loop has not gone on" in capsys.readouterr().err


def test_the_health_check_where_nothing_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIMHERD_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SIMHERD_METRICS_PORT", "0")
    assert health_check.of_executor() == 1
    assert str(tmp_path) in capsys.readouterr().err
    for port, said in (("1", "Nothing responds at 127.0.0.1 port 1"), ("x", "'x'"), ("0", "'0'")):
        monkeypatch.setenv("SIMHERD_METRICS_PORT", port)
        assert health_check.of_scheduler() == 1
        assert said in capsys.readouterr().err
    monkeypatch.delenv("SIMHERD_METRICS_PORT")
    assert health_check.of_executor() == 1
    assert "SIMHERD_METRICS_PORT is not set" in capsys.readouterr().err
