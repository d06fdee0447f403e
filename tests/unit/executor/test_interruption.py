"""A notice stops claims first, then hands attempts back, and reaches the scheduler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from executor.agent.interruption import Interruption
from executor.spot.notice import ReclaimNotice


class Identity:
    def __init__(self) -> None:
        self.posted: list[float | None] = []
        self.is_down = False
        self.renewed = 0

    def post(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.is_down:
            raise httpx.ConnectError("down")
        self.posted.append(body["reclaim_at"])
        return {}

    def renew_secret(self) -> None:
        self.renewed += 1

    def close(self) -> None:
        return


class Bench:
    def __init__(self) -> None:
        self.identity = Identity()
        self.events: list[str] = []
        attempt: Any = SimpleNamespace(reclaim=lambda at: self.events.append(f"reclaim {at}"))
        self.attempt = attempt
        self.it: Any = Interruption(
            self.identity,  # type: ignore[arg-type]
            "",
            attempts=lambda: [attempt],
            on_change=lambda: self.events.append(f"may claim {self.it.may_claim}"),
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def notice(at: float) -> Any:
    made = ReclaimNotice.__new__(ReclaimNotice)
    object.__setattr__(made, "reclaim_at", at)
    return made


def test_a_notice_stops_claims_before_it_hands_attempts_back(bench: Bench) -> None:
    bench.it._on_notice(notice(50.0))
    assert bench.events == ["may claim False", "reclaim 50.0"]
    assert bench.it.facts()["reclaim_at"] == 50.0


def test_claims_resume_when_a_notice_is_withdrawn(bench: Bench) -> None:
    bench.it._on_notice(notice(50.0))
    bench.it._on_over()
    assert bench.it.may_claim
    assert bench.events[-1] == "may claim True"


@pytest.mark.parametrize("reclaim_at", [None, 50.0])
def test_an_attempt_that_starts_after_the_notice_is_handed_back(
    bench: Bench, reclaim_at: float | None
) -> None:
    bench.it.reclaim_at = reclaim_at
    bench.it.attempt_started(bench.attempt)
    assert bench.events == ([] if reclaim_at is None else ["reclaim 50.0"])


def test_the_scheduler_is_notified_of_each_change_once(bench: Bench) -> None:
    # At first also of no notice: an earlier agent may have notified it of one.
    for reclaim_at in (None, None, 50.0, 50.0, None):
        bench.it.reclaim_at = reclaim_at
        assert bench.it._notify()
    assert bench.identity.posted == [None, 50.0, None]
    assert bench.identity.renewed == 5


def test_a_notification_that_failed_is_repeated(bench: Bench) -> None:
    bench.identity.is_down, bench.it.reclaim_at = True, 50.0
    assert not bench.it._notify()
    bench.identity.is_down = False
    assert bench.it._notify()
    assert bench.identity.posted == [50.0]


def test_the_last_change_is_sent_before_the_end(bench: Bench) -> None:
    bench.it.start()
    bench.it.reclaim_at = 50.0
    bench.it.close()
    assert bench.identity.posted[-1] == 50.0
