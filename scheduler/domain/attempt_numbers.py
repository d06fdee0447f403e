"""The numbers of attempts, which stay unique even when a backup of SQL is restored.

A backup does not contain the attempts that were made after it. So, after a restore, a task that had
not ended continues with a number that none of them can have had: the second of the restore.
Attempts are more than a second apart, so restoring the same backup again leads to new numbers.
"""

from __future__ import annotations

#: 1 January 2026, seconds since the epoch: numbers stay within 32 bits until 2094.
_BEGIN = 1_767_225_600


def floor_at(now: float, highest: int) -> int:
    """Return the first number of attempts after a restore.

    Args:
        now: the moment of the restore, seconds since the epoch.
        highest: the highest number in the backup, in case the clock is behind.
    """
    return max(int(now) - _BEGIN, highest + 1)


def retries(attempt: int, floor: int, before: int) -> int:
    """Return how many attempts of its task came before it; arguments as for `ordinal`."""
    return max(0, ordinal(attempt, floor, before) - 1)


def next_number(attempt: int, floor: int) -> int:
    """Return the number of the next attempt; `floor`: the task's `attempt_floor`."""
    return max(attempt + 1, floor)


def ordinal(attempt: int, floor: int, before: int) -> int:
    """Return which attempt of its task it is, counted from 1; 0 before the first.

    Args:
        attempt: its number.
        floor: the task's `attempt_floor`.
        before: its `attempts_before`.
    """
    return before + 1 + attempt - floor if floor and attempt >= floor else attempt
