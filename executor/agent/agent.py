"""The agent: its slots, its attempts, its heartbeat. It owns and joins every thread."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import redis

from executor.agent.claim_loop import ClaimLoop
from executor.agent.inbox_handler import InboxHandler
from executor.agent.interruption import Interruption
from executor.agent.live_files import LiveFiles
from executor.agent.partition_guard import PartitionGuard
from executor.agent.prefetcher import Prefetcher
from executor.attempt.context import Attempt
from executor.attempt.deadline import Deadline
from executor.attempt.recovery import Progress, progress_of
from executor.attempt.run import PULL_JOIN_S, run_attempt
from executor.attempt.stop import StopSwitch
from executor.link.inbox import Inbox
from executor.link.journal import Journal, boot_id
from executor.link.lease import LeaseKeeper
from executor.link.reporter import Reporter
from executor.machine.machine import MachineResources
from executor.machine.slots import Slot, Slots
from executor.machine.volumes import DiskError
from executor.mpi.coordinator import MpiCoordinator
from executor.observability import table
from executor.observability.instruments import inc
from executor.observability.status import AgentStatus
from executor.transfer.client import TransferClient, open_client
from simherd.contract import limits
from simherd.contract.attempt_spec import AttemptSpec, attempt_key
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.labels import ATTEMPT, HOLDER, TASK
from simherd.contract.reports import ReportKind
from simherd.runtime.health import Pulse
from simherd.runtime.logs import about, in_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.agent.prefetch import Prefetch
    from executor.attempt.context import Reports
    from executor.config import Config
    from executor.containers.base import ContainerBackend
    from executor.join import Identity
    from executor.link.journal import JournalEntry
    from simherd.contract.queue.scripts import Claimed

log = logging.getLogger(__name__)

#: Seconds between two tries to wake a thread that is to end.
_JOIN_S = 0.2


class Agent:
    """Runs attempts of one machine group; as many compute at a time as it has slots."""

    def __init__(self, config: Config, backend: ContainerBackend, identity: Identity) -> None:
        self._config = config
        self._backend = backend
        where = (config.redis, config.group_id)
        me = config.executor_id
        (config.state_dir / "series").mkdir(exist_ok=True)
        self._journal = Journal(config.state_dir / "journal")
        self._reporter = Reporter(*where, me, self._journal)
        self._live_files = LiveFiles(*where)
        self._keeper = LeaseKeeper(*where, me)
        self._stager = Prefetcher(LeaseKeeper(*where, me), self._attempt)
        self._contact = PartitionGuard(config.state_dir / "contact", config.reconnect_s)
        self._machine = MachineResources(config, backend, self._here)
        self._presence = Interruption(
            identity, config.spot_notices, self._attempts, self._claims_may_have_changed
        )
        self._http = open_client()
        self._slots = Slots(config.slots)
        self._duty = MpiCoordinator(
            config, self._slots, self._attempt, self._may_join, self._look_whether_over
        )
        self._claimer = self._duty.claimer
        orders = InboxHandler(self, me, self._duty, self._live_files, self._stager)
        self._inbox = Inbox(*where, me, orders.handle)
        #: Set when nothing can be claimed any more.
        self._claimed_last = threading.Event()
        #: No new work; and then end; and end now.
        self._draining = threading.Event()
        self._leaving = threading.Event()
        self._stopping = threading.Event()
        self._claims = ClaimLoop(
            *(self._slots, config.slots, self._claimer, self._stager, self._machine),
            *(self._presence, self._draining),
        )
        #: Set when there is nothing more to wait for.
        self._over = threading.Event()
        self._beat_now = threading.Event()
        self._last_beat = threading.Event()
        self._pulse = Pulse("The heartbeat")
        self.insight = AgentStatus(
            *(config, backend, self._slots, self._reporter, self._inbox, self._machine),
            *(self._contact, self._presence, self._pulse, self._all, self._draining),
        )
        self._lock = threading.Lock()
        self._live: dict[str, Attempt] = {}
        self._workers: list[threading.Thread] = []
        #: Image pulls of attempts that were stopped.
        self._pulls: list[threading.Thread] = []

    def drain(self) -> None:
        """Claim nothing more; `run` returns when what runs has ended."""
        log.info("event=agent_draining executor=%s", self._config.executor_id)
        self._leaving.set()
        self.stop_claiming()
        self._look_whether_over()

    def stop_claiming(self) -> None:
        """Claim nothing more; what runs goes on."""
        self._draining.set()
        self._claimer.interrupt()
        self._slots.wake()

    def _claims_may_have_changed(self) -> None:
        if not self._presence.may_claim:
            self._claimer.interrupt()
        self._duty.reclaimed(self._presence.reclaim_at)
        self._slots.wake()
        self._beat_now.set()

    def stop(self) -> None:
        """Stop what runs, and report that; then `run` returns."""
        self._stopping.set()
        self.drain()
        self._over.set()

    def run(self) -> None:
        """Go on with what an earlier agent left, and work until told to drain or to stop."""
        left = self._journal.left_over()
        self._clean_up(left)
        self._reporter.start()
        for entry in left:
            self._take_over(entry)
        self._duty.start()
        self._inbox.start()
        heart = threading.Thread(target=self._heartbeat, name="heartbeat")
        heart.start()
        self._pulse.kept_by(heart)
        claims = threading.Thread(target=self._claim, name="claims")
        claims.start()
        log.info("event=agent_ready executor=%s", self._config.executor_id)
        watch = threading.Thread(
            target=self._contact.watch, args=(self._stopping, self._all), name="contact"
        )
        watch.start()
        self._presence.start()
        self._over.wait()
        self._shut_down(claims, heart, watch)

    def _shut_down(
        self, claims: threading.Thread, heart: threading.Thread, watch: threading.Thread
    ) -> None:
        log.info("event=agent_stopping executor=%s", self._config.executor_id)
        while claims.is_alive():
            # It may have begun to wait for the bell just after it was interrupted.
            self._claimer.interrupt()
            claims.join(_JOIN_S)
        for attempt in self._attempts():
            attempt.switch.trip(Cause.AGENT_STOPPED)
        for worker in self._workers:
            worker.join()
        self._stager.close()
        self._duty.close()
        self._machine.close()
        self._presence.close()
        # Once more, for what was reported meanwhile.
        self._stopping.set()
        self._last_beat.set()
        self._beat_now.set()
        heart.join()
        watch.join()
        self._inbox.close()
        self._live_files.close()
        self._reporter.close()
        self._claimer.close()
        self._keeper.close()
        self._backend.close()
        self._http.close()
        for thread in self._pulls:
            thread.join(PULL_JOIN_S)

    def live(self, key: str) -> Attempt | None:
        """The attempt of this name, if it is there."""
        with self._lock:
            return self._live.get(key)

    def _attempts(self) -> list[Attempt]:
        with self._lock:
            return list(self._live.values())

    def _all(self) -> list[Attempt]:
        """Also what another machine leads."""
        return [*self._attempts(), *self._duty.attempts]

    def _look_whether_over(self) -> None:
        if self._leaving.is_set() and self._claimed_last.is_set() and not self._all():
            self._over.set()

    def _clean_up(self, left: list[JournalEntry]) -> None:
        """Remove what an earlier agent left, except for what goes on."""
        going_on = {entry.attempt for entry in left if self._goes_on(entry)}

        def keep(labels: Mapping[str, str]) -> bool:
            number = labels.get(ATTEMPT, "")
            key = attempt_key(labels.get(TASK, ""), int(number or 0))
            return key in going_on

        self._backend.cleanup({HOLDER: self._config.executor_id}, keep)
        self._machine.clean_up(going_on)

    def _goes_on(self, entry: JournalEntry) -> bool:
        return not entry.ended and entry.boot == boot_id()

    def _take_over(self, entry: JournalEntry) -> None:
        """Go on with an attempt whose journal an earlier agent left, or say that it is lost."""
        self._reporter.adopt(entry)
        if self._goes_on(entry):
            progress = progress_of(entry.events, entry.notes)
            log.info("event=attempt_taken_over attempt=%s progress=%s", entry.attempt, progress)
            self._slots.take_now()
            if not self._begin(entry.attempt, entry.spec, progress):
                self._slots.give()
        elif not entry.ended:
            log.warning("event=attempt_abandoned attempt=%s", entry.attempt)
            detail = "The machine was started anew while the task ran."
            cause = Cause.MACHINE_LOST.value
            self._reporter.report(
                entry.attempt, ReportKind.FINISHED, cause=cause, detail=detail, exit_code=None
            )

    def _claim(self) -> None:
        try:
            self._claims.run(self)
        except Exception:
            # A machine that lives and claims nothing helps nobody: it is started anew.
            log.exception("event=claims_broke")
            self.stop()
        finally:
            self._claimed_last.set()
            self._look_whether_over()

    def begin(self, claimed: Claimed, token: str, ahead: Prefetch | None) -> bool:
        """Start a claimed attempt; False when it cannot even be begun."""
        # Else the watch would stop it: the next heartbeat may still wait for its turn.
        self._contact.made()
        self._reporter.open(claimed.attempt, token, claimed.spec)
        return self._begin(claimed.attempt, claimed.spec, Progress(), ahead)

    def number(self) -> int:
        """How many attempts there are, those included that only upload."""
        return len(self._live)

    def _here(self) -> list[Attempt]:
        """The attempts that have a place on this machine's disk."""
        ahead = self._stager.attempt
        return [*self._all(), *([ahead] if ahead is not None else [])]

    def _may_join(self) -> bool:
        return not self._draining.is_set() and self._presence.may_claim

    def _begin(
        self, key: str, text: str, progress: Progress, ahead: Prefetch | None = None
    ) -> bool:
        """Start an attempt's thread; False when it cannot even be begun."""
        try:
            spec = AttemptSpec.decode(text)
            if ahead is None:
                attempt = self._attempt(spec, self._reporter, progress)
            else:
                attempt = ahead.take(spec, self._reporter)
            self._duty.lead(attempt)
        except (ValueError, DiskError, OSError, redis.RedisError) as error:
            log.error("event=attempt_not_begun attempt=%s error=%s", key, error)
            self._reporter.report(key, ReportKind.STARTED, executer=None)
            self._reporter.report(
                key, ReportKind.FINISHED, cause=Cause.AGENT_ERROR.value, detail=str(error)
            )
            return False
        with about(attempt=key):
            work = in_context(self._work)
        worker = threading.Thread(target=work, args=(attempt,), name=f"attempt-{key}")
        with self._lock:
            self._live[key] = attempt
            self._workers = [w for w in self._workers if w.is_alive()]
            self._workers.append(worker)
        worker.start()
        self._presence.meet(attempt)
        return True

    def _attempt(
        self, spec: AttemptSpec, reports: Reports, progress: Progress | None = None
    ) -> Attempt:
        key, progress = spec.key, progress or Progress()

        def note(cause: Cause, discard: bool) -> None:
            self._reporter.note(key, cause=cause.value, discard=discard)

        switch = StopSwitch(note)
        attempt = Attempt(
            spec,
            self._config,
            self._machine.area(key, progress),
            self._backend,
            reports,
            TransferClient(self._http, switch.pause),
            switch,
            Deadline(spec.warning.before_s, switch.wake),
            Slot(self._slots),
            self._machine.images,
            progress,
        )
        if progress.cause is Cause.SPOT_RECLAIMED:
            attempt.reclaim(progress.reclaim_at)
        elif progress.cause is not None:
            switch.trip(progress.cause, discard=progress.discard)
        return attempt

    def _work(self, attempt: Attempt) -> None:
        key = attempt.spec.key
        self._live_files.add(attempt)
        try:
            run_attempt(attempt)
        except Exception as error:
            # Nobody else would ever end it.
            log.exception("event=attempt_broke attempt=%s", key)
            detail = f"{OUTCOMES[Cause.AGENT_ERROR].sentence[:-1]}: {error}"
            self._reporter.report(
                key, ReportKind.FINISHED, cause=Cause.AGENT_ERROR.value, detail=detail
            )
        finally:
            self._live_files.drop(key)
            with self._lock:
                self._live.pop(key, None)
                still = [*self._pulls, *attempt.left_behind]
                self._pulls = [thread for thread in still if thread.is_alive()]
            self._slots.wake()
            if attempt.switch.cause is Cause.LEASE_LOST:
                self._reporter.forget(key)
            self._look_whether_over()

    def _heartbeat(self) -> None:
        while True:
            self._pulse.beat()
            try:
                self._beat()
            except redis.RedisError as error:
                inc(table.BEATS_FAILED)
                log.warning("event=heartbeat_failed error=%s", error)
            except Exception:
                # Without a heartbeat all that runs here would be given away.
                log.exception("event=heartbeat_broke")
            if self._stopping.is_set() and self._last_beat.is_set():
                return
            self._beat_now.wait(limits.HEARTBEAT_S)
            self._beat_now.clear()

    def _beat(self) -> None:
        renewals = self._keeper.beat(self._reporter.held())
        # Not before the answer is there: it says whose the attempts are by now.
        self._contact.made()
        for renewal in renewals:
            if renewal.state == "recorded":
                self._reporter.forget(renewal.attempt)
            elif renewal.state == "lost":
                log.warning("event=lease_lost attempt=%s", renewal.attempt)
                self.stop_attempt(renewal.attempt, Cause.LEASE_LOST)
            else:
                self._reporter.recorded(renewal.attempt, renewal.recorded)
        # Last: a Redis that has reached its memory limit renews leases, and takes nothing more.
        draining = self._draining.is_set()
        facts = self._machine.facts(draining=draining)
        self._keeper.publish_facts({**facts, **self._presence.facts()})
        self._stager.look(wanted=self._wants_more(draining))

    def _wants_more(self, draining: bool) -> bool:
        """Whether the time in which all slots compute is to be used for fetching ahead."""
        return (
            self._config.stage_ahead
            and not draining
            and self._presence.may_claim
            and self._slots.all_taken
            and self._machine.waits_for() is None
        )

    def stop_attempt(
        self, key: str, cause: Cause, detail: str | None = None, *, discard: bool = False
    ) -> None:
        """Stop an attempt, if it is there."""
        attempt = self.live(key)
        if attempt is not None:
            log.info("event=stop attempt=%s cause=%s", key, cause)
            attempt.stop(cause, detail, discard=discard)
        elif cause is Cause.LEASE_LOST:
            self._reporter.forget(key)
