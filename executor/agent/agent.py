"""The agent of one machine: it connects its parts, and starts and joins their threads."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from executor.agent.attempts import AttemptFactory, LiveAttempts
from executor.agent.claim_loop import ClaimLoop
from executor.agent.heartbeat import Heartbeat
from executor.agent.inbox_handler import InboxHandler
from executor.agent.interruption import Interruption
from executor.agent.live_files import LiveFiles
from executor.agent.partition_guard import PartitionGuard
from executor.agent.prefetcher import Prefetcher
from executor.attempt.recovery import Progress, progress_of
from executor.link.inbox import Inbox
from executor.link.journal import Journal, JournalEntry, boot_id
from executor.link.lease import LeaseKeeper
from executor.link.reporter import Reporter
from executor.machine.machine import MachineResources
from executor.machine.slots import Slots
from executor.mpi.coordinator import MpiCoordinator
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.cause import Cause
from simherd.contract.labels import ATTEMPT, HOLDER, TASK
from simherd.contract.reports import ReportKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.agent.prefetch import Prefetch
    from executor.attempt.context import Attempt
    from executor.config import Config
    from executor.containers.base import ContainerBackend
    from executor.join import Identity
    from simherd.contract.queue.scripts import Claimed
    from simherd.runtime.health import Pulse

log = logging.getLogger(__name__)

#: Seconds between two tries to wake a thread that is to end.
_JOIN_S = 0.2


class Agent:
    """Runs attempts of one machine group; as many compute at the same time as it has slots."""

    def __init__(self, config: Config, backend: ContainerBackend, identity: Identity) -> None:
        redis, group, me = config.redis, config.group_id, config.executor_id
        self._config = config
        self.backend = backend
        (config.state_dir / "series").mkdir(exist_ok=True)
        self._journal = Journal(config.state_dir / "journal")
        self.reporter = Reporter(redis, group, me, self._journal)
        self.guard = PartitionGuard(config.state_dir / "contact", config.reconnect_s)
        self.machine = MachineResources(config, backend, self._occupants)
        self.slots = Slots(config.slots)
        factory = AttemptFactory(config, backend, self.machine, self.reporter, self.slots)
        self._prefetcher = Prefetcher(LeaseKeeper(redis, group, me), factory.make)
        self._coordinator = MpiCoordinator(
            config, self.slots, factory.make, may_join=self._may_join, on_leave=self._end_if_idle
        )
        self.interruption = Interruption(
            identity,
            config.spot_notices,
            attempts=lambda: self._attempts.all(),
            on_change=self._claims_changed,
        )
        self._live_files = LiveFiles(redis, group)
        self._attempts = LiveAttempts(
            factory=factory,
            coordinator=self._coordinator,
            interruption=self.interruption,
            live_files=self._live_files,
            on_end=self._end_if_idle,
        )
        handler = InboxHandler(
            self,
            me,
            coordinator=self._coordinator,
            live_files=self._live_files,
            prefetcher=self._prefetcher,
        )
        self.inbox = Inbox(redis, group, me, handler.handle)
        self._heartbeat = Heartbeat(
            keeper=LeaseKeeper(redis, group, me),
            reporter=self.reporter,
            guard=self.guard,
            on_lost=lambda key: self.stop_attempt(key, Cause.LEASE_LOST),
            machine_info=self._machine_info,
            prefetch=lambda: self._prefetcher.update(wanted=self._wants_prefetch()),
        )
        #: Set when nothing more is claimed; when the agent ends after that; when it stops now.
        self._draining = threading.Event()
        self._leaving = threading.Event()
        self._stopping = threading.Event()
        #: Set when the thread that claims has ended, and when nothing is left to wait for.
        self._claimed_last = threading.Event()
        self._over = threading.Event()
        self._claims = ClaimLoop(
            slots=self.slots,
            claimer=self._coordinator.claimer,
            prefetcher=self._prefetcher,
            machine=self.machine,
            interruption=self.interruption,
            draining=self._draining,
        )

    @property
    def pulse(self) -> Pulse:
        """The pulse of the heartbeat."""
        return self._heartbeat.pulse

    @property
    def is_draining(self) -> bool:
        """Whether nothing more is claimed."""
        return self._draining.is_set()

    def attempts(self) -> list[Attempt]:
        """Return the attempts that run here, also one that another machine leads."""
        return [*self._attempts.all(), *self._coordinator.attempts]

    def number(self) -> int:
        """Return how many attempts this machine runs or uploads."""
        return len(self._attempts.all())

    def _occupants(self) -> list[Attempt]:
        """Return the attempts that have files on this machine's disk."""
        prefetched = self._prefetcher.attempt
        return [*self.attempts(), *([prefetched] if prefetched is not None else [])]

    def _may_join(self) -> bool:
        return not self.is_draining and self.interruption.may_claim

    def drain(self) -> None:
        """Claim nothing more; `run` returns when all attempts have ended."""
        log.info("event=agent_draining executor=%s", self._config.executor_id)
        self._leaving.set()
        self.stop_claiming()
        self._end_if_idle()

    def stop_claiming(self) -> None:
        """Claim nothing more; attempts go on."""
        self._draining.set()
        self._coordinator.claimer.interrupt()
        self.slots.wake()

    def stop(self) -> None:
        """Stop all attempts and report that; then `run` returns."""
        self._stopping.set()
        self.drain()
        self._over.set()

    def _claims_changed(self) -> None:
        if not self.interruption.may_claim:
            self._coordinator.claimer.interrupt()
        self._coordinator.reclaimed(self.interruption.reclaim_at)
        self.slots.wake()
        self._heartbeat.beat_soon()

    def _end_if_idle(self) -> None:
        if self._leaving.is_set() and self._claimed_last.is_set() and not self.attempts():
            self._over.set()

    def run(self) -> None:
        """Continue the attempts of an earlier agent, and work until `drain` or `stop`."""
        left_over = self._journal.left_over()
        self._clean_up(left_over)
        self.reporter.start()
        for entry in left_over:
            self._recover(entry)
        self._coordinator.start()
        self.inbox.start()
        self._heartbeat.start()
        claims = threading.Thread(target=self._claim, name="claims")
        claims.start()
        log.info("event=agent_ready executor=%s", self._config.executor_id)
        watch = threading.Thread(
            target=self.guard.watch, args=(self._stopping, self.attempts), name="contact"
        )
        watch.start()
        self.interruption.start()
        self._over.wait()
        self._shut_down(claims, watch)

    def _shut_down(self, claims: threading.Thread, watch: threading.Thread) -> None:
        log.info("event=agent_stopping executor=%s", self._config.executor_id)
        while claims.is_alive():
            # The thread may have begun to wait for the bell just after it was interrupted.
            self._coordinator.claimer.interrupt()
            claims.join(_JOIN_S)
        self._attempts.stop()
        self._prefetcher.close()
        self._coordinator.close()
        self.machine.close()
        self.interruption.close()
        self._stopping.set()
        self._heartbeat.close()
        watch.join()
        self.inbox.close()
        self._live_files.close()
        self.reporter.close()
        self._coordinator.claimer.close()
        self.backend.close()
        self._attempts.close()

    def _clean_up(self, left_over: list[JournalEntry]) -> None:
        """Remove what an earlier agent left, except for attempts that continue."""
        continuing = {entry.attempt for entry in left_over if _continues(entry)}

        def keep(labels: Mapping[str, str]) -> bool:
            number = labels.get(ATTEMPT, "")
            key = attempt_key(labels.get(TASK, ""), int(number or 0))
            return key in continuing

        self.backend.cleanup({HOLDER: self._config.executor_id}, keep)
        self.machine.clean_up(continuing)

    def _recover(self, entry: JournalEntry) -> None:
        """Continue an attempt whose journal an earlier agent left, or report that it is lost."""
        self.reporter.adopt(entry)
        if _continues(entry):
            progress = progress_of(entry.events, entry.notes)
            log.info("event=attempt_taken_over attempt=%s progress=%s", entry.attempt, progress)
            self.slots.take_now()
            if not self._attempts.begin(entry.attempt, entry.spec, progress):
                self.slots.give()
        elif not entry.ended:
            log.warning("event=attempt_abandoned attempt=%s", entry.attempt)
            detail = "The machine was started again while the task ran."
            cause = Cause.MACHINE_LOST.value
            self.reporter.report(
                entry.attempt, ReportKind.FINISHED, cause=cause, detail=detail, exit_code=None
            )

    def _claim(self) -> None:
        try:
            self._claims.run(self)
        except Exception:
            # An agent that runs but claims nothing is useless: a supervisor restarts it.
            log.exception("event=claims_broke")
            self.stop()
        finally:
            self._claimed_last.set()
            self._end_if_idle()

    def begin(self, claimed: Claimed, token: str, prefetch: Prefetch | None) -> bool:
        """Start a claimed attempt; False if it cannot even be started."""
        # Otherwise the guard would stop it before the next heartbeat.
        self.guard.record_contact()
        self.reporter.open(claimed.attempt, token, claimed.spec)
        return self._attempts.begin(claimed.attempt, claimed.spec, Progress(), prefetch)

    def live(self, key: str) -> Attempt | None:
        """Return the attempt of this name, if it runs here."""
        return self._attempts.get(key)

    def stop_attempt(
        self, key: str, cause: Cause, detail: str | None = None, *, discard: bool = False
    ) -> None:
        """Stop an attempt, if it runs here."""
        attempt = self.live(key)
        if attempt is not None:
            log.info("event=stop attempt=%s cause=%s", key, cause)
            attempt.stop(cause, detail, discard=discard)
        elif cause is Cause.LEASE_LOST:
            self.reporter.forget(key)

    def _machine_info(self) -> dict[str, Any]:
        return {**self.machine.facts(draining=self.is_draining), **self.interruption.facts()}

    def _wants_prefetch(self) -> bool:
        """Whether to prefetch the next attempt's inputs while all slots compute."""
        return (
            self._config.stage_ahead
            and self._may_join()
            and self.slots.all_taken
            and self.machine.waits_for() is None
        )


def _continues(entry: JournalEntry) -> bool:
    """Whether a restarted agent can continue the attempt: same boot, and not ended."""
    return not entry.ended and entry.boot == boot_id()
