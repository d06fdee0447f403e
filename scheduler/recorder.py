"""The recorder: event streams to SQL, in order, in batches."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import redis
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from scheduler.queue.group_queue import connect
from scheduler.queue.stream import EventStreams
from scheduler.services.group_states import ACTIVE
from scheduler.services.queue_task import enqueue
from scheduler.services.record_event import Recording, Verdict
from scheduler.store.models import MachineGroup
from simherd.contract.events import Event
from simherd.contract.logs import about
from simherd.contract.outcome import Cause
from simherd.contract.spec import attempt_key

if TYPE_CHECKING:
    from threading import Event as Flag

    from scheduler.wiring import Parts

log = logging.getLogger(__name__)

#: Seconds a read waits for reports before the list of groups is read again.
_WAIT_S = 5.0
#: Seconds between two tries while Redis or SQL is out of reach.
_RETRY_S = 1.0


class Recorder:
    """Applies reports until told to stop. One at a time is enough; two do no harm."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._client = connect(parts.settings.redis_url.get_secret_value(), blocking_s=_WAIT_S)
        self._streams = EventStreams(self._client)
        self._cursors: dict[str, str] = {}

    def run(self, stop: Flag) -> None:
        """Read and apply until `stop` is set."""
        self._load_groups()
        while not stop.is_set():
            try:
                self._turn()
            except (redis.RedisError, OperationalError) as error:
                log.warning("event=recorder_waits error=%s", error)
                stop.wait(_RETRY_S)
                self._cursors.clear()
            except Exception:
                # The interruption of `interrupt` may surface as anything, anywhere.
                if not stop.is_set():
                    raise
                log.info("event=recorder_interrupted")

    def interrupt(self) -> None:
        """Cut the wait for reports short, so that `stop` is seen; may come from a signal."""
        self._client.connection_pool.disconnect()

    def _turn(self) -> None:
        if not self._cursors:
            self._load_groups()
        reports, changed = self._streams.read(self._cursors, _WAIT_S)
        for group, entries in reports.items():
            self._apply(group, entries)
        if changed or not reports:
            self._load_groups()

    def _load_groups(self) -> None:
        with self._parts.store.read() as session:
            rows = session.execute(
                select(MachineGroup.id, MachineGroup.event_cursor).where(
                    MachineGroup.status.in_(ACTIVE)
                )
            ).all()
        self._cursors = {group: cursor for group, cursor in rows}

    def _apply(self, group: str, entries: list[tuple[str, str]]) -> None:
        """Apply one group's reports. One that cannot be applied holds up no other."""
        try:
            self._apply_all(group, entries)
        except (redis.RedisError, OperationalError):
            raise
        except Exception:
            if len(entries) > 1:
                for entry in entries:
                    self._apply(group, [entry])
                return
            log.exception("event=report_broken group=%s report=%s", group, entries[0])
            self._cursors[group] = entries[0][0]

    def _apply_all(self, group: str, entries: list[tuple[str, str]]) -> None:
        """Apply reports in one transaction, then answer their senders."""
        recorded: dict[str, int] = {}
        requeue: list[str] = []
        fenced: dict[str, str] = {}
        kills: dict[str, tuple[str, bool]] = {}
        deadlines: dict[tuple[str, Cause], tuple[str, float]] = {}
        drained: set[str] = set()
        last = entries[-1][0]
        with self._parts.store.write() as session, session.no_autoflush:
            recording = Recording(session, group)
            for entry, text in entries:
                try:
                    event = Event.decode(text)
                except ValueError as error:
                    log.error("event=report_unreadable group=%s entry=%s %s", group, entry, error)
                    continue
                with about(task=event.task_id, attempt=event.attempt):
                    result = recording.record(event)
                key = attempt_key(event.task_id, event.attempt)
                recorded[key] = max(result.last, recorded.get(key, 0))
                requeue += result.requeue
                if result.drain is not None:
                    drained.add(result.drain)
                if result.deadline_at is not None:
                    moved = (event.executor, result.deadline_at)
                    deadlines[key, Cause.TASK_TIME_LIMIT] = moved
                if result.money_until is not None:
                    deadlines[key, Cause.COST_LIMIT] = (event.executor, result.money_until)
                if result.verdict is Verdict.FENCED:
                    fenced[key] = event.executor
                elif result.verdict is Verdict.KILL:
                    kills[key] = (event.executor, result.discard)
            recording.finish()
            session.execute(
                update(MachineGroup).where(MachineGroup.id == group).values(event_cursor=last)
            )
        self._cursors[group] = last
        self._streams.acknowledge(group, recorded, last)
        self._answer(group, fenced, kills)
        for (key, cause), (executor, at) in deadlines.items():
            self._parts.queue.set_deadline(group, executor, key, at, cause)
        for executor in drained:
            self._parts.queue.drain(group, executor)
        for task_id in requeue:
            enqueue(self._parts, task_id)

    def _answer(
        self, group: str, fenced: dict[str, str], kills: dict[str, tuple[str, bool]]
    ) -> None:
        queue = self._parts.queue
        for key, executor in fenced.items():
            log.warning("event=fenced attempt=%s executor=%s", key, executor)
            queue.revoke(group, key)
            queue.stop(group, executor, key, Cause.LEASE_LOST)
        for key, (executor, discard) in kills.items():
            queue.stop(group, executor, key, Cause.KILLED_BY_USER, discard=discard)
