"""Reconciliation of a group's queue and leases in Redis with SQL.

A queue may be long, so each sweep compares a page of it and continues where the last one stopped.
After Redis has lost its data, and with it that cursor, the first pass uses all the time of a sweep.
Every sweep looks for tasks that were never handed to Redis, so a process that crashes between SQL
and Redis delays a task by seconds only.
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

#: Seconds after which the reconciler renews the URLs of an attempt that still waits.
SPEC_REFRESH_S = 86400

log = logging.getLogger(__name__)

#: Waiting attempts that are compared at a time; a shorter queue is compared as a whole.
PAGE = 1000
#: Seconds for which an executor that lost contact can still read what was recorded of an attempt
#: that has ended; after that, the attempt counts as another machine's.
_ANSWERS_KEPT_S = 3600


def reconcile_queue(rt: Runtime, group: GroupRow, filling_s: float = 0.0) -> None:
    """Compare a page of the group's queue, its leases, and the tasks that were never handed over.
    `filling_s`: seconds that it may take for more than a page, after Redis has lost its data."""
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
    """Queue the tasks that wait by SQL and are missing in Redis."""
    until = time.monotonic() + filling_s
    while waiting := _page(rt, group.id, TaskRow.queued_at.is_(None)):
        done = enqueue_tasks(rt, [task.task_id for task in waiting])
        if not done or len(waiting) < PAGE or time.monotonic() > until:
            break
    cursor = rt.queue.reconcile_cursor(group.id)
    while True:
        waiting = _page(rt, group.id, TaskRow.seq > cursor.after)
        _compare(rt, group.id, waiting)
        if len(waiting) < PAGE:
            rt.queue.save_reconcile_cursor(group.id, ReconcileCursor(0, cursor.passes + 1))
            return
        cursor = ReconcileCursor(waiting[-1].seq, cursor.passes)
        rt.queue.save_reconcile_cursor(group.id, cursor)
        if cursor.passes or time.monotonic() > until:
            return


class _Waiting(NamedTuple):
    """The columns of a queued task that are compared; pages are read all the time."""

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
        if waits and now - (w.handed_over_at or 0) > SPEC_REFRESH_S
    ]
    if stale:
        enqueue_tasks(rt, stale)


def _revoke_unknown(rt: Runtime, group: GroupRow) -> None:
    """Remove attempts from Redis that SQL does not know, or that have ended."""
    queue, now = rt.queue, time.time()
    reader = queue.reader
    first = queue.next_page(group.id, reader.queue_length(group.id), PAGE)
    foreign = set(reader.foreign_leases(group.id))
    present = foreign | {lease.attempt for lease in reader.leases(group.id).all}
    present |= set(reader.waiting(group.id, first, PAGE))
    # SQL is read after Redis. The holder of an attempt that has just ended releases it with its
    # next heartbeat.
    unknown = present - _current(rt, group.id, present, now - limits.LEASE_S)
    for key in sorted(unknown)[:PAGE]:
        log.warning("event=attempt_revoked attempt=%s", ascii(key))
        queue.withdraw(group.id, key)
        if key in foreign and reader.holder(group.id, key) is None:
            # A machine invented it, so no tombstone is needed against presenting it again.
            queue.drop_lease(group.id, key)
            continue
        holder = queue.revoke(group.id, key)
        if holder:
            queue.stop(group.id, holder, key, Cause.LEASE_LOST)


def _forget_answers(rt: Runtime, group: GroupRow) -> None:
    """Drop replies that no executor fetched; normally its next heartbeat removes them."""
    answered = set(rt.queue.reader.recorded(group.id))
    unfetched = answered - _current(rt, group.id, answered, time.time() - _ANSWERS_KEPT_S)
    if unfetched:
        rt.queue.forget_answers(group.id, sorted(unfetched))


def _current(rt: Runtime, group_id: str, keys: Collection[str], ended_after: float) -> set[str]:
    """Return the keys that are the current attempt of a task of the group, unless it ended before
    `ended_after`. Keys may be any text, because machines write them."""
    current: set[str] = set()
    with rt.store.read() as session:
        for page in _pages(keys):
            rows = session.execute(
                select(TaskRow.id, TaskRow.attempt, TaskRow.end_time).where(
                    TaskRow.group_id == group_id,
                    TaskRow.id.in_({key.partition(":")[0] for key in page if "\0" not in key}),
                )
            )
            current |= {
                attempt_key(task_id, attempt)
                for task_id, attempt, ended_at in rows
                if ended_at is None or ended_at > ended_after
            }
    return current


def _pages(keys: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), PAGE):
        yield ordered[start : start + PAGE]
