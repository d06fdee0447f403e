"""The backstop of deadlines and cost limits: it ends the tasks that their executors do not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.domain.ending import AttemptEnd
from scheduler.services.attempts.end import end_attempt
from scheduler.services.billing.costs import is_over_max_cost
from scheduler.services.control.quarantine import isolated
from scheduler.store.models import GroupRow, TaskRow
from simherd.contract import limits
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from scheduler.wiring import Runtime

#: Seconds past its deadline after which the scheduler itself ends a task that still computes:
#: its executor had the grace period, and some more for its report.
DEADLINE_BACKSTOP_S = limits.STOP_GRACE_S + 60

#: The statuses in which a cost limit ends a task; after them its outputs are worth storing.
_SPENDING = (Status.STARTED.value, Status.COMPUTATION_STARTED.value)

log = logging.getLogger(__name__)


def expire_deadlines(rt: Runtime, server: str, now: float) -> None:
    """End the tasks that go on although their deadline, or the end of their money, is long past.

    Money, unlike time, is also spent while inputs and image are fetched. The executors of these
    tasks are frozen or cut off; revoking their leases has all their later reports refused.

    `server`: the Redis server of the tasks' groups; `now`: seconds since the epoch.
    """
    long_past = now - DEADLINE_BACKSTOP_S
    tasks = select(TaskRow).join(GroupRow).where(GroupRow.redis_server == server)
    with rt.store.read() as session:
        late = session.scalars(
            tasks.where(
                TaskRow.status == Status.COMPUTATION_STARTED.value, TaskRow.deadline_at < long_past
            )
        ).all()
        over_limit = session.scalars(
            tasks.where(TaskRow.status.in_(_SPENDING), is_over_max_cost(long_past))
        ).all()
    due = {t.id: (t, Cause.COST_LIMIT) for t in over_limit}
    due |= {t.id: (t, Cause.TASK_TIME_LIMIT) for t in late}
    for task, cause in due.values():
        with rt.store.write() as session:
            ended = end_attempt(
                session, task.id, task.attempt, AttemptEnd(cause, now, task.machine_id)
            )
        if ended is None:
            continue
        key = attempt_key(task.id, task.attempt)
        log.warning("event=deadline_backstop attempt=%s machine=%s", key, task.machine_id)
        with isolated(rt, task.group_id):
            holder = rt.queue.revoke(task.group_id, key)
            if holder:
                rt.queue.stop(task.group_id, holder, key, Cause.LEASE_LOST)
