"""The deployment as it is now, from SQL and Redis, by a number of questions that is fixed.

SQL is asked five times and each Redis server three times, however many tasks there are: lengths,
first ones, and counts of what machines have.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import func, select

from scheduler.domain.group_status import ACTIVE
from scheduler.metrics import table
from scheduler.queue.broken_keys import BrokenKeys
from scheduler.queue.group_measures import measure
from scheduler.store.machine_state import MACHINE_DOWN, SHOWN_STATES, shown_state_column
from scheduler.store.models import GroupRow, MachineRow, TaskRow
from scheduler.store.notification_models import Delivery
from simherd.contract.lifecycle import HELD
from simherd.contract.notifications import DeliveryState
from simherd.contract.queue.keys import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime
    from simherd.runtime.metric_table import Measure

log = logging.getLogger(__name__)

#: Row → label values and value, for each series.
Reading = dict[str, list[tuple[tuple[str, ...], float]]]


def read_state(rt: Runtime) -> Reading:
    """All of it, but for what is on a Redis server that does not answer.
    Raises what the library of SQL raises."""
    now, reading = time.time(), _Found()
    with rt.store.read() as session:
        groups = list(session.scalars(select(GroupRow).where(GroupRow.status.in_(ACTIVE))))
        reading.labels = {group.id: (group.id, group.name) for group in groups}
        _groups(reading, groups, now)
        _machines(reading, session, now)
        _tasks(reading, session, now)
        _deliveries(reading, session, now)
    heads: dict[str, tuple[str, ...]] = {}
    for name, client, its_groups in _servers(rt, groups):
        try:
            _server(reading, name, client)
            for group in its_groups:
                if group.quarantined_at is None:
                    # The sweep sees it too, and sets the group aside.
                    with contextlib.suppress(BrokenKeys):
                        heads[group.id] = _queue(reading, rt, client, group)
            reading.add(table.REDIS_UP, 1, name)
        except redis.RedisError as error:
            log.warning("event=redis_not_read server=%s error=%s", name, error)
            reading.add(table.REDIS_UP, 0, name)
    with rt.store.read() as session:
        _waits(reading, session, heads, now)
    return reading.reading


def _servers(
    rt: Runtime, groups: Sequence[GroupRow]
) -> Iterator[tuple[str, redis.Redis, Sequence[GroupRow]]]:
    """Every Redis server, by its name, with those of the groups that are on it."""
    for name, client in rt.queue.servers.all():
        yield name, client, [group for group in groups if group.redis_server == name]


class _Found:
    def __init__(self) -> None:
        self.reading: Reading = defaultdict(list)
        #: Group → the values of the labels `group` and `name`.
        self.labels: dict[str, tuple[str, str]] = {}

    def add(self, row: Measure, value: float, *labels: str) -> None:
        self.reading[row.name].append((labels, float(value)))

    def of_group(self, row: Measure, group: str, value: float | None, *labels: str) -> None:
        """A group's value; None: it has none."""
        if value is not None and group in self.labels:
            self.add(row, value, *self.labels[group], *labels)


def _groups(found: _Found, groups: Sequence[GroupRow], now: float) -> None:
    for group in groups:
        found.of_group(table.REFUSALS, group.id, group.refusals)
        found.of_group(table.QUARANTINED, group.id, group.quarantined_at is not None)
        if group.auto_terminate_at is not None:
            found.of_group(table.GROUP_LEFT, group.id, group.auto_terminate_at - now)


def _machines(found: _Found, session: Session, now: float) -> None:
    state = shown_state_column(now)
    rows = session.execute(
        select(MachineRow.group_id, state, func.count(), func.sum(MachineRow.price_hour))
        .where(MachineRow.group_id.in_(found.labels), MachineRow.status != MACHINE_DOWN)
        .group_by(MachineRow.group_id, state)
    ).all()
    numbers = {(group, shown): number for group, shown, number, _ in rows}
    for group in found.labels:
        found.of_group(table.COST, group, sum(cost for g, _, _, cost in rows if g == group))
        for shown in SHOWN_STATES:
            found.of_group(table.MACHINES, group, numbers.get((group, shown), 0), shown)


def _tasks(found: _Found, session: Session, now: float) -> None:
    rows = session.execute(
        select(TaskRow.group_id, TaskRow.status, func.count(), func.min(TaskRow.deadline_at))
        .where(TaskRow.group_id.in_(found.labels), TaskRow.status.in_([s.value for s in HELD]))
        .group_by(TaskRow.group_id, TaskRow.status)
    ).all()
    numbers = {(group, status): number for group, status, number, _ in rows}
    for group in found.labels:
        for status in HELD:
            value = status.value
            found.of_group(table.TASKS, group, numbers.get((group, value), 0), value)
        deadlines = [at for g, _, _, at in rows if g == group and at is not None]
        if deadlines:
            found.of_group(table.DEADLINE_LEFT, group, min(deadlines) - now)


def _deliveries(found: _Found, session: Session, now: float) -> None:
    waiting = Delivery.state == DeliveryState.WAITING.value
    number = session.scalar(select(func.count()).select_from(Delivery).where(waiting))
    # One that is due at once has 0 here: since when it waits is another column.
    due, at = Delivery.next_at, Delivery.at
    first = session.execute(
        select(due, at).where(waiting, due <= now).order_by(due).limit(1)
    ).one_or_none()
    found.add(table.DELIVERIES, number or 0)
    found.add(table.DELIVERY_OVERDUE, now - max(first) if first is not None else 0)


def _server(found: _Found, name: str, client: redis.Redis) -> None:
    before = time.time()
    pipe = client.pipeline(transaction=False)
    pipe.time()
    pipe.get(EPOCH)
    pipe.info("memory")
    pipe.info("persistence")
    answers: Any = pipe.execute()
    (seconds, micros), epoch, memory, disk = answers
    # Its clock was read about halfway between the request and its reply.
    ahead = seconds + micros / 1e6 - (before + time.time()) / 2
    kept = disk["aof_enabled"] and disk["aof_last_write_status"] == "ok"
    found.add(table.REDIS_CLOCK, ahead, name)
    found.add(table.REDIS_MEMORY, memory["used_memory"], name)
    found.add(table.REDIS_MEMORY_LIMIT, memory.get("maxmemory", 0), name)
    found.add(table.REDIS_AOF, bool(kept), name)
    if epoch is not None:
        found.add(table.REDIS_DATA_AGE, time.time() - float(epoch), name)


def _queue(found: _Found, rt: Runtime, client: redis.Redis, group: GroupRow) -> tuple[str, ...]:
    """What Redis says of a group; returns the tasks that may have waited for longest."""
    numbers = measure(rt.queue.reader, client, group.id, group.event_cursor)
    found.of_group(table.QUEUE_LENGTH, group.id, numbers.waiting)
    found.of_group(table.LEASES, group.id, numbers.leases)
    found.of_group(table.LEASES_OVERDUE, group.id, numbers.leases_overdue)
    found.of_group(table.SILENT_MACHINE, group.id, numbers.silent_s)
    found.of_group(table.RECORDER_LAG, group.id, numbers.lag_s)
    found.of_group(table.REPORTS_WAITING, group.id, numbers.reports)
    return numbers.first_tasks


def _waits(found: _Found, session: Session, heads: dict[str, tuple[str, ...]], now: float) -> None:
    task_ids = {task for tasks in heads.values() for task in tasks if "\0" not in task}
    rows = session.execute(select(TaskRow.id, TaskRow.queued_at).where(TaskRow.id.in_(task_ids)))
    queued_at = {task: at for task, at in rows if at is not None}
    for group, tasks in heads.items():
        since = [queued_at.get(task, now) for task in tasks]
        found.of_group(table.OLDEST_WAIT, group, now - min(since, default=now))
