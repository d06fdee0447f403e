"""Giving attempts up before the scheduler gives them to other machines."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from executor.agent import partition_guard
from executor.agent.partition_guard import GIVE_UP_SHARE, PartitionGuard
from executor.attempt.stop import StopSwitch
from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from pathlib import Path

WINDOW_S = 100.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(partition_guard, "_now", clock)
    return clock


def attempt() -> Any:
    return SimpleNamespace(switch=StopSwitch(), spec=SimpleNamespace(key="task:1"))


@pytest.mark.parametrize(
    ("silent_s", "stops"), [(0, False), (79, False), (80, True), (81, True), (100, True)]
)
def test_attempts_stop_after_a_share_of_the_window(
    clock: Clock, tmp_path: Path, silent_s: float, stops: bool
) -> None:
    guard, here = PartitionGuard(tmp_path / "contact", WINDOW_S), attempt()
    guard.record_contact()
    clock.now += silent_s
    guard.check([here])
    assert guard.silent_s == silent_s
    assert guard.remaining_s == GIVE_UP_SHARE * WINDOW_S - silent_s
    assert here.switch.cause is (Cause.CONTACT_LOST if stops else None)


def test_contact_starts_the_time_again(clock: Clock, tmp_path: Path) -> None:
    guard, here = PartitionGuard(tmp_path / "contact", WINDOW_S), attempt()
    for _ in range(5):
        clock.now += 79
        guard.check([here])
        guard.record_contact()
    assert here.switch.cause is None


def test_a_restarted_agent_knows_the_last_contact(clock: Clock, tmp_path: Path) -> None:
    PartitionGuard(tmp_path / "contact", WINDOW_S).record_contact()
    clock.now += 50
    assert PartitionGuard(tmp_path / "contact", WINDOW_S).silent_s == 50


@pytest.mark.parametrize("kept", ["", "soon", "5000"])
def test_a_time_of_an_earlier_boot_is_ignored(clock: Clock, tmp_path: Path, kept: str) -> None:
    (tmp_path / "contact").write_text(kept)
    assert PartitionGuard(tmp_path / "contact", WINDOW_S).silent_s == 0


def test_the_thread_checks_until_the_agent_stops(clock: Clock, tmp_path: Path) -> None:
    guard, here = PartitionGuard(tmp_path / "contact", 0.0), attempt()
    clock.now += 1
    stopping = threading.Event()

    def attempts() -> list[Any]:
        stopping.set()
        return [here]

    guard.watch(stopping, attempts)
    assert here.switch.cause is Cause.CONTACT_LOST
