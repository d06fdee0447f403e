"""The recorder: event streams to SQL, in order, in batches."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from threading import Thread
from typing import TYPE_CHECKING

import redis
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from scheduler.domain.group_status import ACTIVE
from scheduler.metrics import table
from scheduler.queue.broken_keys import broken_keys
from scheduler.queue.group_queue import announce, connect
from scheduler.queue.report_stream import ReportStreams
from scheduler.services.attempts.record_report import Recording, Verdict
from scheduler.services.control.leadership import announce_presence, new_holder, withdraw_presence
from scheduler.services.control.quarantine import quarantine
from scheduler.services.control.redis_usage import bound_usage
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.models import GroupRow
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.cause import Cause
from simherd.runtime.health import Pulse
from simherd.runtime.logs import about

if TYPE_CHECKING:
    from threading import Event as Flag

    from sqlalchemy.orm import Session

    from scheduler.queue.group_reader import StreamEntry
    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from simherd.contract.reports import Report

log = logging.getLogger(__name__)

#: Seconds a read waits for reports before the list of groups is read again.
_WAIT_S = 5.0
#: Seconds after which a recorder of which nothing was heard is none any more.
_GONE_AFTER_S = 15.0
_KIND = "recorder"
#: Seconds between two tries while Redis or SQL is out of reach.
_RETRY_S = 1.0


class Recorder:
    """Applies reports until told to stop.

    Several processes share the groups. Each group is one's own as long as all of them see the same
    processes; in between it may be nobody's for some seconds, or two's, which does no harm.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._readers = [
            _Reader(rt, name, client) for name, client in rt.redis_servers(_connect).all()
        ]

    def run(self, stop: Flag) -> None:
        """Read and apply until `stop` is set. What breaks one reader ends all, and is raised."""
        broken: list[Exception] = []

        def read(reader: _Reader) -> None:
            try:
                reader.run(stop)
            except Exception as error:
                broken.append(error)
                stop.set()
                self.wake()

        threads = [Thread(target=read, args=(one,), name=one.server) for one in self._readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for reader in self._readers:
            reader.share.leave()
        if broken:
            raise broken[0]

    def trouble(self) -> str | None:
        """Why it is not live, as a sentence."""
        return next(filter(None, (one.pulse.trouble() for one in self._readers)), None)

    def wake(self) -> None:
        """End the wait for reports, so that `stop` is seen; may come from a signal."""
        for reader in self._readers:
            reader.wake()


def _connect(url: str) -> redis.Redis:
    return connect(url, blocking_s=_WAIT_S)


class Share:
    """The part of a Redis server's groups that this process records."""

    def __init__(self, store: Store, server: str) -> None:
        self._store = store
        self._kind = f"{_KIND}:{server}"
        self._holder = new_holder()
        self._there: list[str] = []

    def is_mine(self, group: str) -> bool:
        """Whether this process records a group. The more there are, the fewer each."""
        return bool(self._there) and max(self._there, key=lambda one: _rank(one, group)) == (
            self._holder
        )

    def look(self) -> None:
        """Say that this process is there, and see which others are."""
        self._there = announce_presence(
            self._store, self._kind, self._holder, time.time(), _GONE_AFTER_S
        )

    def leave(self) -> None:
        """Have the others take over."""
        try:
            withdraw_presence(self._store, self._kind, self._holder, time.time())
        except OperationalError as error:
            log.warning("event=recorder_leaves_silently error=%s", error)


def _rank(holder: str, group: str) -> bytes:
    # Highest random weight (Thaler and Ravishankar 1998): who comes or goes moves few groups.
    return hashlib.sha256(f"{holder} {group}".encode()).digest()


class _Reader:
    """Applies the reports of one Redis server's groups."""

    def __init__(self, rt: Runtime, server: str, client: redis.Redis) -> None:
        self.server = server
        self.share = Share(rt.store, server)
        self._rt = rt
        self._client = client
        self._streams = ReportStreams(client, rt.queue.reader)
        self._cursors: dict[str, str] = {}
        self._loaded_at = 0.0
        self.pulse = Pulse(f"The recorder's loop for Redis {server}")

    def run(self, stop: Flag) -> None:
        """Read and apply until `stop` is set."""
        while not stop.is_set():
            self.pulse.beat()
            try:
                self._turn()
            except (redis.RedisError, OperationalError) as error:
                log.warning("event=recorder_waits server=%s error=%s", self.server, error)
                stop.wait(_RETRY_S)
                self._cursors.clear()

    def wake(self) -> None:
        """End the wait for reports."""
        with contextlib.suppress(redis.RedisError):
            announce(self._rt.queue.servers.named(self.server))

    def _turn(self) -> None:
        if not self._cursors:
            self._load_groups()
        news = self._streams.read(self._cursors, _WAIT_S)
        for group, reason in news.broken.items():
            self._set_aside(group, reason)
        for group, entries in news.reports.items():
            self._apply(group, entries)
        is_idle = not news.reports and not news.broken
        if news.is_changed or is_idle or time.monotonic() - self._loaded_at > _WAIT_S:
            self._load_groups()

    def _set_aside(self, group: str, reason: str) -> None:
        """Record this group no more: its keys are broken, and the others are not to wait."""
        quarantine(self._rt, group, reason)
        self._cursors.pop(group, None)

    def _load_groups(self) -> None:
        # Who does not reach the server leaves its groups to those who do.
        self._client.ping()
        bound_usage(self._rt, self.server, only_pressed=True)
        self.share.look()
        with self._rt.store.read() as session:
            rows = session.execute(
                select(GroupRow.id, GroupRow.event_cursor).where(
                    GroupRow.status.in_(ACTIVE),
                    GroupRow.redis_server == self.server,
                    GroupRow.quarantined_at.is_(None),
                )
            ).all()
        self._cursors = {group: cursor for group, cursor in rows if self.share.is_mine(group)}
        self._loaded_at = time.monotonic()

    def _apply(self, group: str, entries: list[StreamEntry]) -> None:
        """Apply one group's reports. One that cannot be applied holds up no other, and no group
        holds up another."""
        try:
            self._apply_all(group, entries)
        except OperationalError:
            raise
        except redis.RedisError as error:
            reason = broken_keys(error)
            if reason is None:
                raise
            self._set_aside(group, reason)
        except Exception:
            if len(entries) > 1:
                for entry in entries:
                    self._apply(group, [entry])
                return
            log.exception("event=report_broken group=%s report=%s", group, entries[0])
            with self._rt.store.write() as session:
                _note_cursor(session, group, entries[0].id)
            self._cursors[group] = entries[0].id

    def _apply_all(self, group: str, entries: list[StreamEntry]) -> None:
        """Apply reports in one transaction, then answer their senders."""
        recorded: dict[str, int] = {}
        requeue: list[str] = []
        fenced: dict[str, str] = {}
        kills: dict[str, tuple[str, bool]] = {}
        deadlines: dict[tuple[str, Cause], tuple[str, float]] = {}
        drained: set[str] = set()
        foreign: list[Report] = []
        last = entries[-1].id
        reports = [entry.report for entry in entries if entry.report is not None]
        machines = self._rt.owned.machines(group, {report.executor for report in reports})
        begun = [report.attempt_key for report in reports if report.number == 1]
        holders = self._rt.queue.reader.holders(group, begun)
        with self._rt.store.write() as session, session.no_autoflush:
            recording = Recording(session, group, machines, holders)
            for event in reports:
                with about(task=event.task_id, attempt=event.attempt):
                    result = recording.record(event)
                session.inc_on_commit(table.REPORTS, result.verdict.value)
                if result.verdict is Verdict.FOREIGN:
                    # Not answered: the answer would reach the machine that does hold it.
                    foreign.append(event)
                    continue
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
            _note_cursor(session, group, last)
        self._cursors[group] = last
        for event in foreign:
            detail = f"{event.attempt_key} from {event.executor}"
            self._rt.queue.reader.dropped.count(group, "foreign_report", detail)
            if event.executor in machines:
                # It works on what another machine holds: Redis forgot that, and gave it away again.
                key = event.attempt_key
                self._rt.queue.stop(group, event.executor, key, Cause.LEASE_LOST)
        self._streams.acknowledge(group, recorded, last)
        self._answer(group, fenced, kills)
        for (key, cause), (executor, at) in deadlines.items():
            self._rt.queue.set_deadline(group, executor, key, at, cause)
        for executor in drained:
            self._rt.queue.drain(group, executor)
        for task_id in requeue:
            enqueue_task(self._rt, task_id)

    def _answer(
        self, group: str, fenced: dict[str, str], kills: dict[str, tuple[str, bool]]
    ) -> None:
        queue = self._rt.queue
        for key, executor in fenced.items():
            log.warning("event=fenced attempt=%s executor=%s", key, executor)
            queue.revoke(group, key)
            queue.stop(group, executor, key, Cause.LEASE_LOST)
        for key, (executor, discard) in kills.items():
            queue.stop(group, executor, key, Cause.KILLED_BY_USER, discard=discard)


def _note_cursor(session: Session, group: str, entry: str) -> None:
    session.execute(update(GroupRow).where(GroupRow.id == group).values(event_cursor=entry))
