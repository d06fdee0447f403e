"""The agent: its slots, its heartbeat, its inbox. It owns and joins every thread."""

from __future__ import annotations

import logging
import shutil
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from executor.attempt import Attempt
from executor.deadline import Deadline
from executor.link.inbox import Inbox
from executor.link.journal import Journal
from executor.link.lease import Claimer, Keeper, new_token
from executor.link.reporter import Reporter
from executor.livelog import LiveLogs
from executor.run import run_attempt
from executor.stop import StopSwitch
from executor.transfer import Transfer, open_client
from simherd.contract import limits
from simherd.contract.commands import Message, Order
from simherd.contract.events import Kind
from simherd.contract.outcome import Cause
from simherd.contract.spec import AttemptSpec

if TYPE_CHECKING:
    from executor.config import Config
    from executor.containers.base import ContainerBackend
    from simherd.contract.queue.scripts import Claimed

log = logging.getLogger(__name__)

#: Seconds between two tries while Redis is out of reach.
_RETRY_S = 1.0
#: Seconds an image pull that nobody waits for any more has to end when the agent stops.
_PULL_JOIN_S = 1.0


@dataclass(frozen=True)
class _Live:
    """The handles by which a running attempt is stopped, and its time moved."""

    switch: StopSwitch
    deadline: Deadline


class Agent:
    """Runs attempts of one machine group, as many at a time as it has slots."""

    def __init__(self, config: Config, backend: ContainerBackend) -> None:
        self._config = config
        self._backend = backend
        where = (config.redis_url, config.group_id)
        me = config.executor_id
        self._journal = Journal(config.state_dir / "journal")
        self._reporter = Reporter(*where, me, self._journal)
        self._inbox = Inbox(*where, me, self._handle)
        self._logs = LiveLogs(*where)
        self._keeper = Keeper(*where, me)
        self._claimers = [Claimer(*where, me) for _ in range(config.slots)]
        self._http = open_client()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._live: dict[str, _Live] = {}
        self._beat_now = threading.Event()
        #: Image pulls of attempts that were stopped.
        self._pulls: list[threading.Thread] = []

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then stop what runs and report it."""
        self._clean_up()
        self._reporter.start()
        self._settle_left_over()
        self._inbox.start()
        self._logs.start()
        heart = threading.Thread(target=self._heartbeat, name="heartbeat")
        heart.start()
        slots = [
            threading.Thread(target=self._slot, args=(c,), name=f"slot-{i}")
            for i, c in enumerate(self._claimers)
        ]
        for slot in slots:
            slot.start()
        log.info("event=agent_ready executor=%s slots=%s", self._config.executor_id, len(slots))
        stop.wait()
        self._shut_down(slots, heart)

    def _shut_down(self, slots: list[threading.Thread], heart: threading.Thread) -> None:
        log.info("event=agent_stopping executor=%s", self._config.executor_id)
        self._stop.set()
        with self._lock:
            live = list(self._live.values())
        for one in live:
            one.switch.trip(Cause.AGENT_STOPPED)
        for claimer in self._claimers:
            # Cuts the wait for the bell short.
            claimer.interrupt()
        for slot in slots:
            slot.join()
        self._beat_now.set()
        heart.join()
        self._inbox.close()
        self._logs.close()
        self._reporter.close()
        for claimer in self._claimers:
            claimer.close()
        self._keeper.close()
        self._backend.close()
        self._http.close()
        for thread in self._pulls:
            # The engine may hold one for minutes; the process' end is its end.
            thread.join(_PULL_JOIN_S)

    def _clean_up(self) -> None:
        """Remove what an earlier agent on this machine left running or lying about."""
        self._backend.cleanup({"simherd.executor": self._config.executor_id})
        shutil.rmtree(self._config.state_dir / "attempts", ignore_errors=True)

    def _settle_left_over(self) -> None:
        """Report the attempts that an earlier agent did not end: they are over."""
        for entry in self._journal.left_over():
            self._reporter.adopt(entry)
            if not entry.ended:
                log.warning("event=attempt_abandoned attempt=%s", entry.attempt)
                self._reporter.report(
                    entry.attempt,
                    Kind.FINISHED,
                    cause=Cause.MACHINE_LOST.value,
                    detail="The executor broke down while the task ran, and was started again.",
                    exit_code=None,
                )

    def _slot(self, claimer: Claimer) -> None:
        token = new_token()
        while not self._stop.is_set():
            try:
                claimed = claimer.claim(token)
                if claimed is None:
                    claimer.wait_for_bell(limits.BELL_WAIT_S)
                    continue
            except redis.RedisError as error:
                if not self._stop.is_set():
                    log.warning("event=claim_waits error=%s", error)
                    self._stop.wait(_RETRY_S)
                continue
            self._work(claimed, token)
            token = new_token()

    def _work(self, claimed: Claimed, token: str) -> None:
        key = claimed.attempt
        self._reporter.open(key, token)
        try:
            spec = AttemptSpec.decode(claimed.spec)
        except ValueError as error:
            log.error("event=spec_unreadable attempt=%s error=%s", key, error)
            self._reporter.report(key, Kind.STARTED, executer=None)
            self._reporter.report(
                key, Kind.FINISHED, cause=Cause.AGENT_ERROR.value, detail=str(error)
            )
            return
        switch = StopSwitch()
        deadline = Deadline(spec.warning.before_s, switch.wake)
        with self._lock:
            self._live[key] = _Live(switch, deadline)
        if self._stop.is_set():
            switch.trip(Cause.AGENT_STOPPED)
        folder = self._config.state_dir / "attempts" / key.replace(":", "-")
        folder.mkdir(parents=True, exist_ok=True)
        transfer = Transfer(self._http, switch.pause)
        attempt = Attempt(
            spec, self._config, folder, self._backend, self._reporter, transfer, switch, deadline
        )
        self._logs.add(key, {"stdout": attempt.stdout, "stderr": attempt.stderr})
        try:
            run_attempt(attempt)
        finally:
            self._logs.drop(key)
            with self._lock:
                self._live.pop(key, None)
                still = [*self._pulls, *attempt.left_behind]
                self._pulls = [thread for thread in still if thread.is_alive()]
            if switch.cause is Cause.LEASE_LOST:
                self._reporter.forget(key)

    def _heartbeat(self) -> None:
        while True:
            try:
                self._beat()
            except redis.RedisError as error:
                log.warning("event=heartbeat_failed error=%s", error)
            if self._stop.is_set() and self._beat_now.is_set():
                return
            self._beat_now.wait(limits.HEARTBEAT_S)

    def _beat(self) -> None:
        for renewal in self._keeper.beat(self._reporter.held()):
            if renewal.state == "recorded":
                self._reporter.forget(renewal.attempt)
            elif renewal.state == "lost":
                log.warning("event=lease_lost attempt=%s", renewal.attempt)
                self._stop_attempt(renewal.attempt, Cause.LEASE_LOST)
            else:
                self._reporter.recorded(renewal.attempt, renewal.recorded)

    def _handle(self, message: Message) -> None:
        if message.order is Order.WATCH_LOG:
            self._logs.watch(message.attempt)
        elif message.order is Order.DEADLINE and message.deadline_at is not None:
            self._move_deadline(message.attempt, message.deadline_at)
        elif message.cause is not None:
            self._stop_attempt(message.attempt, message.cause, discard=message.discard)

    def _move_deadline(self, key: str, at: float) -> None:
        log.info("event=deadline_moved attempt=%s at=%s", key, at)
        with self._lock:
            live = self._live.get(key)
        if live is not None:
            live.deadline.set(at)

    def _stop_attempt(self, key: str, cause: Cause, *, discard: bool = False) -> None:
        log.info("event=stop attempt=%s cause=%s", key, cause)
        with self._lock:
            live = self._live.get(key)
        if live is not None:
            live.switch.trip(cause, discard=discard)
        elif cause is Cause.LEASE_LOST:
            self._reporter.forget(key)
