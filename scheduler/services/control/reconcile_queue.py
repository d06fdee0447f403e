"""Making a group's queue and leases say what SQL says.

A queue may be long: it is gone through page by page, a little at each sweep, and from where the
last sweep left off. Where Redis has lost what it knew, and with it how far that was, the first pass
takes what time a sweep has. What was never handed to Redis is looked for each time: whoever breaks
down between SQL and Redis costs seconds.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from scheduler.queue.group_queue import ReconcileCursor
from scheduler.services.tasks.enqueue import enqueue_tasks
from scheduler.services.tasks.kill import settle_kill
from scheduler.store.models import TaskRow
from simherd.contract import limits
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from sqlalchemy import ColumnElement

    from scheduler.store.models import GroupRow
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Waiting attempts that are compared at a time; a queue that is no longer is compared whole.
PAGE = 1000
#: Seconds for which an executor that lost contact can still ask what was recorded of an
#: attempt that has ended; after that it is told that the attempt is not its own.
_ANSWERS_KEPT_S = 3600


def reconcile_queue(rt: Runtime, group: GroupRow, filling_s: float = 0.0) -> None:
    """Look at a page of the group's queue, at its leases, and at what was never handed over.

    `filling_s`: seconds for more than a page, where Redis has lost what it knew.
    """
    _settle_kills(rt, group)
    _queue_missing(rt, group, filling_s)
    _revoke_unknown(rt, group)
    _forget_answers(rt, group)


def _settle_kills(rt: Runtime, group: GroupRow) -> None:
    with rt.store.read() as session:
        killed = session.scalars(
            select(TaskRow).where(
                TaskRow.group_id == group.id, TaskRow.status == Status.PENDING_KILL.value
            )
        ).all()
    for task in killed:
        settle_kill(rt, group.id, task.id, task.attempt, discard=task.discard_outputs)


def _queue_missing(rt: Runtime, group: GroupRow, filling_s: float) -> None:
    """Queue what SQL says is queued and Redis does not know."""
    until = time.monotonic() + filling_s
    while waiting := _page(rt, group.id, TaskRow.queued_at.is_(None)):
        done = enqueue_tasks(rt, [one.task_id for one in waiting])
        if not done or len(waiting) < PAGE or time.monotonic() > until:
            break
    place = rt.queue.reconcile_cursor(group.id)
    while True:
        waiting = _page(rt, group.id, TaskRow.seq > place.after)
        _compare(rt, group.id, waiting)
        if len(waiting) < PAGE:
            rt.queue.save_reconcile_cursor(group.id, ReconcileCursor(0, place.passes + 1))
            return
        place = ReconcileCursor(waiting[-1].seq, place.passes)
        rt.queue.save_reconcile_cursor(group.id, place)
        if place.passes or time.monotonic() > until:
            return


class _Waiting(NamedTuple):
    """A queued task, no more of it than is compared: pages are gone through all the time."""

    seq: int
    task_id: str
    attempt: int
    handed_over_at: float | None


def _page(rt: Runtime, group_id: str, which: ColumnElement[bool]) -> list[_Waiting]:
    with rt.store.read() as session:
        rows = session.execute(
            select(TaskRow.seq, TaskRow.id, TaskRow.attempt, TaskRow.handed_over_at)
            .where(TaskRow.group_id == group_id, TaskRow.status == Status.SUBMITTED.value, which)
            .order_by(TaskRow.seq)
            .limit(PAGE)
        )
        return [_Waiting(*row) for row in rows]


def _compare(rt: Runtime, group_id: str, waiting: list[_Waiting]) -> None:
    now = time.time()
    known = rt.queue.reader.known(group_id, [attempt_key(w.task_id, w.attempt) for w in waiting])
    both = list(zip(waiting, known, strict=True))
    missing = [w.task_id for w, (waits, held) in both if not waits | held]
    if missing:
        log.warning("event=requeued_missing group=%s tasks=%s", group_id, len(missing))
        enqueue_tasks(rt, missing)
    stale = [
        w.task_id
        for w, (waits, _) in both
        if waits and now - (w.handed_over_at or 0) > limits.SPEC_REFRESH_S
    ]
    if stale:
        enqueue_tasks(rt, stale)


def _revoke_unknown(rt: Runtime, group: GroupRow) -> None:
    """Take out of Redis what SQL does not know, or knows to be of the past."""
    queue, now = rt.queue, time.time()
    reader = queue.reader
    first = queue.next_page(group.id, reader.queue_length(group.id), PAGE)
    foreign = set(reader.foreign_leases(group.id))
    present = foreign | {lease.attempt for lease in reader.leases(group.id).all}
    present |= set(reader.waiting(group.id, first, PAGE))
    # SQL is read after Redis. Who held one that has just ended lets go with the next heartbeat.
    unknown = present - _current(rt, group.id, present, now - limits.LEASE_S)
    for key in sorted(unknown)[:PAGE]:
        log.warning("event=attempt_revoked attempt=%s", ascii(key))
        queue.withdraw(group.id, key)
        if key in foreign and reader.holder(group.id, key) is None:
            # Made up by a machine: nobody has to be kept from presenting it again.
            queue.drop_lease(group.id, key)
            continue
        holder = queue.revoke(group.id, key)
        if holder:
            queue.stop(group.id, holder, key, Cause.LEASE_LOST)


def _forget_answers(rt: Runtime, group: GroupRow) -> None:
    """Drop what nobody fetched: normally the executor does so with its next heartbeat."""
    answered = set(rt.queue.reader.recorded(group.id))
    left = answered - _current(rt, group.id, answered, time.time() - _ANSWERS_KEPT_S)
    if left:
        rt.queue.forget_answers(group.id, sorted(left))


def _current(rt: Runtime, group_id: str, keys: Collection[str], ended_after: float) -> set[str]:
    """Those of some names that are the current attempt of a task of the group, unless that ended
    before a time. Names may be anything: machines write them."""
    found: set[str] = set()
    with rt.store.read() as session:
        for some in _pages(keys):
            rows = session.execute(
                select(TaskRow.id, TaskRow.attempt, TaskRow.end_time).where(
                    TaskRow.group_id == group_id,
                    TaskRow.id.in_({key.partition(":")[0] for key in some if "\0" not in key}),
                )
            )
            found |= {
                attempt_key(task_id, attempt)
                for task_id, attempt, ended_at in rows
                if ended_at is None or ended_at > ended_after
            }
    return found


def _pages(keys: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), PAGE):
        yield ordered[start : start + PAGE]
