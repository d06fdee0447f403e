"""The numbers of attempts. One is never given twice, also after SQL went back in time. Pure.

A backup knows nothing of the attempts that were made after it. So a task that was not over in it
goes on, after a restore, with a number that none of them can have had: the second of the restore.
Attempts are apart by more than a second, so that restoring the same backup again leads to other
numbers still.
"""

from __future__ import annotations

#: 1 January 2026, seconds since the epoch: numbers stay within 32 bits until 2094.
_BEGIN = 1_767_225_600


def floor_at(now: float, highest: int) -> int:
    """The first number that attempts get after a restore.

    Args:
        now: the moment of the restore, seconds since the epoch.
        highest: of all numbers in the backup, for a clock that is behind.
    """
    return max(int(now) - _BEGIN, highest + 1)


def retries(attempt: int, floor: int, before: int) -> int:
    """How many attempts of its task came before it; arguments as of `ordinal`."""
    return max(0, ordinal(attempt, floor, before) - 1)


def next_number(attempt: int, floor: int) -> int:
    """The number of the attempt after this one; `floor`: the task's `attempt_floor`."""
    return max(attempt + 1, floor)


def ordinal(attempt: int, floor: int, before: int) -> int:
    """Which attempt of its task it is, counted from 1; 0 before the first.

    Args:
        attempt: its number.
        floor: the task's `attempt_floor`.
        before: its `attempts_before`.
    """
    return before + 1 + attempt - floor if floor and attempt >= floor else attempt
