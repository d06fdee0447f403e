"""Who is lost, and why somebody is not: the rule of the sweep, of MPI groups and of the brake."""

from __future__ import annotations

import pytest

from scheduler.domain.losses import (
    MASS_LOSS_MINIMUM,
    NOT_A_SWEEP,
    UNKNOWN_MACHINE,
    GracePeriod,
    Losses,
    MachineEvidence,
    Suspect,
    find_losses,
    grace_period,
    is_common_failure,
    is_left_out,
    is_mass_loss,
)
from simherd.contract import limits
from simherd.contract.cause import Cause

NOW = 1_800_000_000.0
WINDOW_S = 600.0
GRACE = GracePeriod(NOW + 10, "a test says so")
ALIVE = MachineEvidence(seen_at=NOW - 1)
SILENT = MachineEvidence(seen_at=NOW - WINDOW_S - 1)
DOWN = MachineEvidence(seen_at=NOW - 1, is_down=True)
MISSING = MachineEvidence(seen_at=NOW - 1, is_missing=True)


def suspect(machine: MachineEvidence, name: str = "m", *, left_out: bool = False) -> Suspect:
    return Suspect(f"{name}:1", name, machine, left_out)


def find(*suspects: Suspect, total: int | None = None, grace: GracePeriod | None = None) -> Losses:
    count = len(suspects) if total is None else total
    return find_losses(suspects, count, now=NOW, silent_s=WINDOW_S, grace=grace)


@pytest.mark.parametrize("grace", [None, GRACE, NOT_A_SWEEP])
@pytest.mark.parametrize("left_out", [False, True])
@pytest.mark.parametrize("machine", [DOWN, MISSING, UNKNOWN_MACHINE])
def test_a_machine_that_is_gone_is_lost_at_once(
    machine: MachineEvidence, left_out: bool, grace: GracePeriod | None
) -> None:
    gone = suspect(machine, left_out=left_out)
    assert find(gone, grace=grace) == ([gone], [])


@pytest.mark.parametrize(
    ("silent_s", "is_lost"), [(-5.0, False), (0.0, False), (WINDOW_S, False), (WINDOW_S + 1, True)]
)
def test_a_silent_machine_has_its_window(silent_s: float, is_lost: bool) -> None:
    silent = suspect(MachineEvidence(seen_at=NOW - silent_s))
    assert find(silent) == ([silent] if is_lost else [], [])


@pytest.mark.parametrize("left_out", [False, True])
def test_in_a_grace_period_silence_proves_nothing(left_out: bool) -> None:
    assert find(suspect(SILENT, left_out=left_out), grace=GRACE) == ([], [])


def test_an_attempt_that_its_living_machine_does_not_know_is_lost_without_a_window() -> None:
    left_out = suspect(ALIVE, left_out=True)
    assert find(left_out).lost == [left_out]
    assert left_out.cause is Cause.AGENT_STOPPED


@pytest.mark.parametrize(
    ("is_spot", "is_down", "is_missing", "is_reclaimed", "cause"),
    [
        (False, False, True, False, Cause.MACHINE_LOST),
        (False, True, False, False, Cause.MACHINE_LOST),
        (False, False, False, False, Cause.MACHINE_LOST),
        (True, False, True, False, Cause.SPOT_RECLAIMED),
        # The scheduler terminated it itself: nobody reclaimed it, and the loss counts.
        (True, True, False, False, Cause.MACHINE_LOST),
        # Silent, and its provider does not know: nothing says that it was reclaimed.
        (True, False, False, False, Cause.MACHINE_LOST),
        # Its reclaim was announced, or recorded when it was found gone.
        (True, False, False, True, Cause.SPOT_RECLAIMED),
        (True, True, False, True, Cause.SPOT_RECLAIMED),
        (True, False, True, True, Cause.SPOT_RECLAIMED),
    ],
)
def test_only_what_a_provider_took_was_reclaimed(
    is_spot: bool, is_down: bool, is_missing: bool, is_reclaimed: bool, cause: Cause
) -> None:
    machine = MachineEvidence(NOW, is_down, is_missing, is_spot, is_reclaimed)
    assert machine.loss_cause is cause
    assert suspect(machine).cause is cause


@pytest.mark.parametrize("machine", [DOWN, MISSING])
def test_a_machine_that_is_gone_says_more_than_heartbeats_that_leave_an_attempt_out(
    machine: MachineEvidence,
) -> None:
    assert suspect(machine, left_out=True).cause is Cause.MACHINE_LOST


def test_an_unknown_machine_is_gone_and_was_not_reclaimed() -> None:
    assert UNKNOWN_MACHINE.is_gone
    assert UNKNOWN_MACHINE.loss_cause is Cause.MACHINE_LOST


MANY = MASS_LOSS_MINIMUM


@pytest.mark.parametrize(
    ("silent", "total", "is_held"),
    [
        (1, 1, False),
        (MANY - 1, MANY - 1, False),
        (MANY, MANY, True),
        (MANY, 2 * MANY, False),
        (MANY + 1, 2 * MANY, True),
        (MANY, 2 * MANY - 1, True),
        (50, 100, False),
        (51, 100, True),
        (0, 0, False),
    ],
)
def test_when_many_fall_silent_at_once_none_is_lost(silent: int, total: int, is_held: bool) -> None:
    assert is_mass_loss(silent, total) is is_held
    suspects = [suspect(SILENT, f"m{i}") for i in range(silent)]
    losses = find(*suspects, total=total)
    assert losses == (([], suspects) if is_held else (suspects, []))


def test_the_brake_holds_no_machine_that_is_gone() -> None:
    gone = [suspect(MISSING, f"gone{i}") for i in range(MANY)]
    silent = [suspect(SILENT, f"silent{i}") for i in range(2 * MANY)]
    assert find(*silent, *gone) == (gone, silent)


def test_machines_that_are_gone_do_not_pull_the_brake() -> None:
    gone = [suspect(MISSING, f"gone{i}") for i in range(3 * MANY)]
    silent = suspect(SILENT)
    assert find(silent, *gone) == ([*gone, silent], [])


def test_attempts_that_are_left_out_pull_the_brake_as_silence_does() -> None:
    left_out = [suspect(ALIVE, f"m{i}", left_out=True) for i in range(MANY)]
    assert find(*left_out) == ([], left_out)


def test_those_that_still_have_time_do_not_pull_the_brake() -> None:
    alive = [suspect(ALIVE, f"m{i}") for i in range(3 * MANY)]
    assert find(*alive, suspect(SILENT)) == ([suspect(SILENT)], [])


@pytest.mark.parametrize(
    ("seen_ago", "lease_left", "is_unknown"),
    [
        # Heartbeats came long after the lease had run out: they did not renew it.
        (0.0, -limits.LEASE_S - 1, True),
        (0.0, -limits.LEASE_S + 1, False),
        (limits.LEASE_S, -limits.LEASE_S - 1, False),
        (0.0, 15.0, False),
        # No lease at all, while its machine sends heartbeats.
        (0.0, None, True),
        (limits.LEASE_S - 1, None, True),
        (limits.LEASE_S + 1, None, False),
        (NOW, None, False),
        (NOW, -limits.LEASE_S - 1, False),
    ],
)
def test_a_machine_that_beats_and_leaves_an_attempt_out_does_not_know_it(
    seen_ago: float, lease_left: float | None, is_unknown: bool
) -> None:
    lease_ended_at = None if lease_left is None else NOW + lease_left
    assert is_left_out(NOW - seen_ago, lease_ended_at, NOW) is is_unknown


@pytest.mark.parametrize(
    ("scheduler_ago", "redis_ago", "until", "word"),
    [
        (5.0, 500.0, 25.0, "scheduler"),
        (500.0, 5.0, 25.0, "Redis"),
        (10.0, 5.0, 25.0, "Redis"),
        (5.0, 10.0, 25.0, "scheduler"),
        (29.9, 500.0, 0.1, "scheduler"),
        (30.0, 500.0, None, ""),
        (500.0, 30.0, None, ""),
        # A clock that is behind.
        (-60.0, 500.0, 90.0, "scheduler"),
    ],
)
def test_a_grace_period_follows_each_start_and_says_why(
    scheduler_ago: float, redis_ago: float, until: float | None, word: str
) -> None:
    grace = grace_period(
        NOW, 30.0, scheduler_started_at=NOW - scheduler_ago, redis_started_at=NOW - redis_ago
    )
    if until is None:
        assert grace is None
    else:
        assert grace is not None
        assert grace.until - NOW == pytest.approx(until, abs=1e-3)
        assert word in grace.why


def test_without_a_length_there_is_no_grace_period() -> None:
    assert grace_period(NOW, 0.0, scheduler_started_at=NOW, redis_started_at=NOW) is None


@pytest.mark.parametrize(
    ("others", "healthy", "is_common"),
    [(0, 0, False), (1, 0, True), (1, 1, False), (9, 1, False), (9, 0, True)],
)
def test_where_every_other_machine_fails_no_machine_is_to_blame(
    others: int, healthy: int, is_common: bool
) -> None:
    assert is_common_failure(others, healthy) is is_common
