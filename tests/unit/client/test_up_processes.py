"""Child processes of `simherd up`: when they are started again, and which are stopped."""

from __future__ import annotations

import io
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from simherd.local import processes
from simherd.local.processes import Child, stop_left_over

if TYPE_CHECKING:
    from pathlib import Path


class Process:
    """A process that is dead when a test says so."""

    pid = 4_000_000

    def __init__(self, *_: object, **__: object) -> None:
        self.stdin = io.BytesIO()
        self.is_dead = False
        self.waits = [0]
        self.signals: list[str] = []

    def poll(self) -> int | None:
        return 1 if self.is_dead else None

    def terminate(self) -> None:
        self.signals.append("TERM")

    def kill(self) -> None:
        self.signals.append("KILL")
        self.waits = [0]

    def wait(self, _seconds: float | None = None) -> int:
        if not self.waits:
            raise subprocess.TimeoutExpired("x", 1)
        return 0


class Clock:
    """A time that tests move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("simherd.local.processes.time.monotonic", clock)
    monkeypatch.setattr("simherd.local.processes.subprocess.Popen", Process)
    monkeypatch.setattr(processes, "kill_group", lambda _pid: None)
    return clock


@pytest.fixture
def child(tmp_path: Path, clock: Clock) -> Child:
    del clock
    child = Child("api", ["api"], {}, tmp_path / "log", tmp_path / "pid", tmp_path)
    child.start()
    return child


def dies(child: Child) -> None:
    assert isinstance(child.process, Process)
    child.process.is_dead = True


def waits(child: Child, clock: Clock) -> float:
    """Seconds until the child is started again."""
    dies(child)
    start = clock.now
    while not child.restart_if_dead():
        clock.now += 0.1
    return round(clock.now - start, 1)


def test_a_process_that_lives_is_left_alone(child: Child) -> None:
    assert not child.restart_if_dead()
    assert child.pid_file.read_text() == f"{Process.pid}\n"


def test_one_that_keeps_dying_waits_longer_each_time(child: Child, clock: Clock) -> None:
    assert [waits(child, clock) for _ in range(8)] == pytest.approx(
        [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10], abs=0.11
    )


def test_one_that_lived_long_begins_its_waits_again(child: Child, clock: Clock) -> None:
    for _ in range(5):
        waits(child, clock)
    clock.now += 31
    assert waits(child, clock) == pytest.approx(0.2, abs=0.11)


def test_one_that_was_never_started_is_not_started(tmp_path: Path) -> None:
    assert not Child("a", ["a"], {}, tmp_path / "l", tmp_path / "p", tmp_path).restart_if_dead()


@pytest.mark.parametrize(("obeys", "signals"), [(True, ["TERM"]), (False, ["TERM", "KILL"])])
def test_stop_asks_first(child: Child, obeys: bool, signals: list[str]) -> None:
    assert isinstance(child.process, Process)
    if not obeys:
        child.process.waits = []
    child.stop(1)
    assert child.process.signals == signals
    assert not child.pid_file.exists()


@pytest.mark.parametrize("content", ["", "x", "4000000", "1"])
def test_a_pid_file_of_another_process_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr("os.kill", lambda *_: pytest.fail("a signal was sent"))
    file = tmp_path / "pid"
    file.write_text(content)
    assert not stop_left_over(file, "no-such-word-in-any-command", 1)


def test_a_missing_pid_file_stops_nothing(tmp_path: Path) -> None:
    assert not stop_left_over(tmp_path / "none", "x", 1)


def test_a_process_that_outlives_its_grace_period_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(processes, "_is", lambda _pid, _word: signal.SIGKILL not in sent)
    monkeypatch.setattr("os.kill", lambda _pid, number: sent.append(number))
    monkeypatch.setattr(
        "simherd.local.processes.time.sleep", lambda s: setattr(clock, "now", clock.now + s)
    )
    file = tmp_path / "pid"
    file.write_text("4000000")
    assert stop_left_over(file, "api", 5, signal.SIGINT)
    assert sent == [signal.SIGINT, signal.SIGKILL]
    assert not file.exists()
