"""The numbers of a group's queue, leases and reports, for the metrics."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scheduler.queue.broken_keys import reading
from simherd.contract.attempt_spec import parse_attempt
from simherd.contract.queue.keys import PRIORITY_BAND, GroupKeys

if TYPE_CHECKING:
    import redis

    from scheduler.queue.group_reader import GroupReader


@dataclass(frozen=True)
class GroupMeasures:
    """What Redis holds of a group at one moment."""

    waiting: int
    leases: int
    leases_overdue: int
    #: Seconds since the last heartbeat of the machine that has been silent for longest.
    silent_s: float | None
    reports: int
    #: Seconds since the first report that is not recorded yet; 0 when all are.
    lag_s: float
    #: Tasks that may have waited for longest: the next one, and the first of the lowest priority.
    first_tasks: tuple[str, ...]


def measure(reader: GroupReader, client: redis.Redis, group: str, cursor: str) -> GroupMeasures:
    """Measure a group, with a number of commands that does not grow with its tasks.

    `cursor`: the last entry of its stream that is recorded.

    Raises BrokenKeys: its keys cannot be read.
    """
    now, keys = time.time(), GroupKeys(group)
    pipe = client.pipeline(transaction=False)
    pipe.zcard(keys.queue)
    pipe.zrange(keys.queue, 0, 0)
    pipe.zrange(keys.queue, -1, -1, withscores=True)
    pipe.zcard(keys.leases)
    pipe.zcount(keys.leases, "-inf", 1000 * now)
    pipe.xlen(keys.events)
    pipe.xrange(keys.events, f"({cursor}", "+", count=1)
    with reading(group, "queue, leases or events"):
        length, first, last, leases, overdue, reports, unread = pipe.execute()
        heads = [*first, *_lowest(client, keys, last)]
    beats = reader.heartbeats(group).values()
    lag = now - float(unread[0][0].partition("-")[0]) / 1000 if unread else 0.0
    return GroupMeasures(
        waiting=length,
        leases=leases,
        leases_overdue=overdue,
        silent_s=now - min(beats) if beats else None,
        # What is recorded is cut off a hundred at a time.
        reports=reports if unread else 0,
        lag_s=max(0.0, lag),
        first_tasks=tuple(task for task in map(_task, heads) if task),
    )


def _lowest(client: redis.Redis, keys: GroupKeys, last: list[tuple[str, float]]) -> list[str]:
    """Return the first attempt of the lowest waiting priority: it may starve."""
    if not last or not math.isfinite(last[0][1]):
        return []
    band = last[0][1] // PRIORITY_BAND * PRIORITY_BAND
    attempts: Any = client.zrange(keys.queue, band, "+inf", byscore=True, offset=0, num=1)
    return list(attempts)


def _task(attempt: str) -> str | None:
    """Return the task of a queued attempt; None where its name is invalid."""
    try:
        return parse_attempt(attempt)[0]
    except ValueError:
        return None
