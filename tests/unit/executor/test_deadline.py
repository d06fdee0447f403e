"""What a deadline asks for, and when."""

from __future__ import annotations

import time

import pytest

from executor.attempt.deadline import Deadline, DeadlineCheck
from simherd.contract.cause import Cause


def made(warn_before_s: float = 60) -> tuple[Deadline, list[int]]:
    moves: list[int] = []
    return Deadline(warn_before_s, lambda: moves.append(1)), moves


def test_without_one_nothing_is_ever_due() -> None:
    deadline, _ = made()
    assert deadline.left(0) is None
    assert deadline.due(1e12) is DeadlineCheck.NOTHING


def test_it_warns_once_and_then_stops() -> None:
    deadline, moves = made(60)
    deadline.set(time.time() + 600)
    assert (moves, deadline.moves) == ([1], 1)
    now = time.monotonic()
    assert deadline.left(now) == pytest.approx(540, abs=1)
    assert deadline.due(now + 530) is DeadlineCheck.NOTHING
    assert deadline.due(now + 545) is DeadlineCheck.WARN
    assert deadline.due(now + 546) is DeadlineCheck.NOTHING
    assert deadline.left(now + 546) == pytest.approx(54, abs=1)
    assert deadline.due(now + 601) is DeadlineCheck.STOP
    assert deadline.left(now + 700) == 0


def test_moving_the_deadline_warns_again() -> None:
    deadline, moves = made(60)
    deadline.set(time.time() + 600)
    now = time.monotonic()
    assert deadline.due(now + 590) is DeadlineCheck.WARN
    deadline.set(time.time() + 6000)
    assert len(moves) == 2
    assert deadline.due(now + 601) is DeadlineCheck.NOTHING
    assert deadline.due(now + 5990) is DeadlineCheck.WARN


def test_a_short_time_is_halved_before_the_warning() -> None:
    deadline, _ = made(60)
    deadline.set(time.time() + 10)
    now = time.monotonic()
    assert deadline.due(now + 4) is DeadlineCheck.NOTHING
    assert deadline.due(now + 6) is DeadlineCheck.WARN


def test_zero_means_no_warning() -> None:
    deadline, _ = made(0)
    now = time.monotonic()
    deadline.set(time.time() + 10)
    assert deadline.due(now + 9.9) is DeadlineCheck.NOTHING
    assert deadline.due(time.monotonic() + 10.1) is DeadlineCheck.STOP


def test_one_that_has_passed_is_due_at_once() -> None:
    deadline, _ = made()
    deadline.set(time.time() - 100)
    assert deadline.left(time.monotonic()) == 0
    assert deadline.due(time.monotonic()) is DeadlineCheck.STOP


def test_the_earlier_of_time_and_money_counts() -> None:
    deadline, _ = made(60)
    deadline.set(time.time() + 6000)
    deadline.set(time.time() + 600, Cause.COST_LIMIT)
    now = time.monotonic()
    assert (deadline.cause, deadline.due(now + 601)) == (Cause.COST_LIMIT, DeadlineCheck.STOP)
    # More time buys no more money.
    deadline.set(time.time() + 60000)
    assert (deadline.cause, deadline.due(now + 601)) == (Cause.COST_LIMIT, DeadlineCheck.STOP)
    deadline.set(time.time() + 300)
    assert deadline.cause is Cause.TASK_TIME_LIMIT
    assert deadline.left(now + 200) == pytest.approx(40, abs=1)


def test_a_change_after_the_first_limit_does_not_warn_again() -> None:
    deadline, _ = made(60)
    deadline.set(time.time() + 600)
    now = time.monotonic()
    assert deadline.due(now + 550) is DeadlineCheck.WARN
    deadline.set(time.time() + 6000, Cause.COST_LIMIT)
    assert deadline.due(now + 551) is DeadlineCheck.NOTHING
