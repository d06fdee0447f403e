"""The recorder: it applies the groups' streams of reports to SQL, in order and in batches."""

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
from scheduler.services.machines.health import note_end
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

#: Seconds that a read waits for reports before the list of groups is read again.
_WAIT_S = 5.0
#: Seconds after which a silent recorder no longer counts as running.
_GONE_AFTER_S = 15.0
_KIND = "recorder"
#: Seconds between two tries while Redis or SQL is unavailable.
_RETRY_S = 1.0


class Recorder:
    """Applies reports until it is stopped.

    Several processes share the groups. While all of them see the same processes, each group belongs
    to exactly one; in between it may belong to none or to two for some seconds, which does no harm.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._readers = [
            _Reader(rt, name, client) for name, client in rt.redis_servers(_connect).all()
        ]

    def run(self, stop: Flag) -> None:
        """Read and apply until `stop` is set. An error of one reader ends all, and is raised."""
        errors: list[Exception] = []

        def read(reader: _Reader) -> None:
            try:
                reader.run(stop)
            except Exception as error:
                errors.append(error)
                stop.set()
                self.wake()

        threads = [Thread(target=read, args=(r,), name=r.server) for r in self._readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for reader in self._readers:
            reader.share.leave()
        if errors:
            raise errors[0]

    def trouble(self) -> str | None:
        """Return a sentence that says why it is not live, or None."""
        return next(filter(None, (reader.pulse.trouble() for reader in self._readers)), None)

    def wake(self) -> None:
        """End the wait for reports, so that `stop` is seen; may be called from a signal handler."""
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
        self._holders: list[str] = []

    def is_mine(self, group: str) -> bool:
        """Return whether this process records a group."""
        owner = max(self._holders, key=lambda holder: _rank(holder, group), default=None)
        return owner == self._holder

    def refresh(self) -> None:
        """Announce this process, and read which others run."""
        self._holders = announce_presence(
            self._store, self._kind, self._holder, time.time(), _GONE_AFTER_S
        )

    def leave(self) -> None:
        """Withdraw this process, so that the others take its groups over."""
        try:
            withdraw_presence(self._store, self._kind, self._holder, time.time())
        except OperationalError as error:
            log.warning("event=recorder_leaves_silently error=%s", error)


def _rank(holder: str, group: str) -> bytes:
    # Highest random weight (Thaler and Ravishankar 1998): a process that starts or ends moves few
    # groups.
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
            self._quarantine(group, reason)
        for group, entries in news.reports.items():
            self._apply(group, entries)
        is_idle = not news.reports and not news.broken
        if news.is_changed or is_idle or time.monotonic() - self._loaded_at > _WAIT_S:
            self._load_groups()

    def _quarantine(self, group: str, reason: str) -> None:
        """Stop recording a group whose keys are broken, so that the others do not wait."""
        quarantine(self._rt, group, reason)
        self._cursors.pop(group, None)

    def _load_groups(self) -> None:
        # A process that cannot reach the server leaves its groups to those that can.
        self._client.ping()
        bound_usage(self._rt, self.server, only_pressed=True)
        self.share.refresh()
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
        """Apply one group's reports. A report that cannot be applied is skipped, so that it delays
        neither the others nor another group."""
        try:
            self._apply_all(group, entries)
        except OperationalError:
            raise
        except redis.RedisError as error:
            reason = broken_keys(error)
            if reason is None:
                raise
            self._quarantine(group, reason)
        except Exception:
            if len(entries) > 1:
                for entry in entries:
                    self._apply(group, [entry])
                return
            log.exception("event=report_broken group=%s report=%s", group, entries[0])
            with self._rt.store.write() as session:
                _store_cursor(session, group, entries[0].id)
            self._cursors[group] = entries[0].id

    def _apply_all(self, group: str, entries: list[StreamEntry]) -> None:
        """Apply reports in one transaction, then send what follows to their senders."""
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
                    # Not acknowledged: that would reach the machine that does hold the attempt.
                    foreign.append(event)
                    continue
                key = attempt_key(event.task_id, event.attempt)
                recorded[key] = max(result.last, recorded.get(key, 0))
                requeue += result.requeue
                if result.ended is not None and note_end(
                    session, group, event.executor, event.task_id, result.ended
                ):
                    drained.add(event.executor)
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
            _store_cursor(session, group, last)
        self._cursors[group] = last
        for event in foreign:
            detail = f"{event.attempt_key} from {event.executor}"
            self._rt.queue.reader.dropped.count(group, "foreign_report", detail)
            if event.executor in machines:
                # Redis lost its lease and gave the attempt to another machine.
                key = event.attempt_key
                self._rt.queue.stop(group, event.executor, key, Cause.LEASE_LOST)
        self._streams.acknowledge(group, recorded, last)
        self._stop_attempts(group, fenced, kills)
        for (key, cause), (executor, at) in deadlines.items():
            self._rt.queue.set_deadline(group, executor, key, at, cause)
        for executor in drained:
            self._rt.queue.drain(group, executor)
        for task_id in requeue:
            enqueue_task(self._rt, task_id)

    def _stop_attempts(
        self, group: str, fenced: dict[str, str], kills: dict[str, tuple[str, bool]]
    ) -> None:
        queue = self._rt.queue
        for key, executor in fenced.items():
            log.warning("event=fenced attempt=%s executor=%s", key, executor)
            queue.revoke(group, key)
            queue.stop(group, executor, key, Cause.LEASE_LOST)
        for key, (executor, discard) in kills.items():
            queue.stop(group, executor, key, Cause.KILLED_BY_USER, discard=discard)


def _store_cursor(session: Session, group: str, entry: str) -> None:
    session.execute(update(GroupRow).where(GroupRow.id == group).values(event_cursor=entry))
