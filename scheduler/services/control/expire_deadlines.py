"""The backstop of deadlines and of money: what an executor does not end is ended here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

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

#: In these a task spends money for computing, or for what comes before it; what it has computed
#: is worth being stored.
_SPENDING = (Status.STARTED.value, Status.COMPUTATION_STARTED.value)

log = logging.getLogger(__name__)


def expire_deadlines(rt: Runtime, server: str, now: float) -> None:
    """End the tasks that go on although their deadline, or the end of their money, is long past.

    Money, unlike time, is also spent while inputs and image are fetched. Their executors are
    frozen or cut off; their leases are revoked, so that whatever they still say is refused.

    `server`: the Redis server of their groups.
    """
    long_past = now - limits.DEADLINE_BACKSTOP_S
    there = select(TaskRow).join(GroupRow).where(GroupRow.redis_server == server)
    with rt.store.read() as session:
        late = session.scalars(
            there.where(
                TaskRow.status == Status.COMPUTATION_STARTED.value, TaskRow.deadline_at < long_past
            )
        ).all()
        dear = session.scalars(
            there.where(TaskRow.status.in_(_SPENDING), is_over_max_cost(long_past))
        ).all()
    causes = {t.id: Cause.COST_LIMIT for t in dear} | {t.id: Cause.TASK_TIME_LIMIT for t in late}
    for task in {t.id: t for t in (*dear, *late)}.values():
        with rt.store.write() as session:
            ended = end_attempt(
                session,
                task.id,
                task.attempt,
                Status(task.status),
                False,
                causes[task.id],
                now,
                machine_id=task.machine_id,
            )
        if ended is None:
            continue
        key = attempt_key(task.id, task.attempt)
        log.warning("event=deadline_backstop attempt=%s machine=%s", key, task.machine_id)
        with isolated(rt, task.group_id):
            holder = rt.queue.revoke(task.group_id, key)
            if holder:
                rt.queue.stop(task.group_id, holder, key, Cause.LEASE_LOST)
