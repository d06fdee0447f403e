"""Sending observers to the executors of running tasks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import redis
from sqlalchemy import select, update

from scheduler.services.attempts.spec import observers_of
from scheduler.services.tasks.enqueue import push_attempts
from scheduler.store.models import TaskRow
from scheduler.store.notification_models import Registration
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import HELD, Status

if TYPE_CHECKING:
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)


def notify_observers(rt: Runtime, task_id: str | None = None) -> None:
    """Send executors the observers that they may lack, of one task or of all.
    A task that has not been queued is skipped: its specification will name them."""
    with rt.store.read() as session:
        untold = select(Registration.task_id).where(Registration.untold.is_(True)).distinct()
        if task_id is not None:
            untold = untold.where(Registration.task_id == task_id)
        ids = session.scalars(untold).all()
    for unsent_id in filter(None, ids):
        try:
            _send(rt, unsent_id)
        except redis.RedisError as error:
            # The next run of the job repeats it.
            log.warning("event=observers_wait task=%s error=%s", unsent_id, error)


def _send(rt: Runtime, task_id: str) -> None:
    with rt.store.read() as session:
        task = session.scalars(select(TaskRow).where(TaskRow.id == task_id)).one()
        observers = observers_of(session, task_id)
    key = attempt_key(task.id, task.attempt)
    if task.status == Status.SUBMITTED:
        push_attempts(rt, [task])
        if rt.queue.reader.holder(task.group_id, key) is not None:
            # Claimed just now, perhaps with the specification before: it is sent at its start.
            return
    else:
        holder = rt.queue.reader.holder(task.group_id, key)
        if task.status not in HELD or holder is None:
            return
        rt.queue.observe(task.group_id, holder, key, observers)
    with rt.store.write() as session:
        session.execute(
            update(Registration)
            .where(Registration.id.in_([observer.id for observer in observers]))
            .values(untold=False)
        )
