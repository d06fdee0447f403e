"""The numbers of attempts: none is used twice, not even after a restored backup.

A backup does not contain the attempts that began after it. So the tasks that had not ended in it
continue, after a restore, with a number that none of those attempts can have: the second of the
restore. A task's attempts are more than a second apart, so restoring the same backup again leads to
different numbers.
"""

from __future__ import annotations

#: 1 January 2026, seconds since the epoch: numbers stay within 32 bits until 2094.
_BEGIN = 1_767_225_600


def floor_at(now: float, highest: int) -> int:
    """Return the first number that attempts get after a restore.

    `now`: the moment of the restore, seconds since the epoch; `highest`: the highest number in the
    backup, for a clock that is behind.
    """
    return max(int(now) - _BEGIN, highest + 1)


def retries(attempt: int, floor: int, before: int) -> int:
    """Return how many attempts of its task came before it; arguments as of `ordinal`."""
    return max(0, ordinal(attempt, floor, before) - 1)


def next_number(attempt: int, floor: int) -> int:
    """Return the number of the attempt after this one; `floor`: the task's `attempt_floor`."""
    return max(attempt + 1, floor)


def ordinal(attempt: int, floor: int, before: int) -> int:
    """Return which attempt of its task it is, counted from 1; 0 before the first.
    `floor`: the task's `attempt_floor`; `before`: its `attempts_before`."""
    return before + 1 + attempt - floor if floor and attempt >= floor else attempt
