"""Carrying out the orders of the scheduler and of other machines."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.notifications import Observer
from simherd.contract.typed_json import from_json

if TYPE_CHECKING:
    from executor.agent.live_files import LiveFiles
    from executor.agent.prefetcher import Prefetcher
    from executor.attempt.context import Attempt
    from executor.mpi.coordinator import MpiCoordinator

log = logging.getLogger(__name__)


class AgentControl(Protocol):
    """The agent, as orders act on it."""

    def live(self, key: str) -> Attempt | None:
        """Return the attempt of this name, if it runs here."""

    def stop_claiming(self) -> None:
        """Claim nothing more."""

    def stop(self) -> None:
        """Stop all attempts, report that, and end."""

    def stop_attempt(
        self, key: str, cause: Cause, detail: str | None = None, *, discard: bool = False
    ) -> None:
        """Stop one attempt, if it runs here."""


class InboxHandler:
    """Passes each message of the inbox to the part of the agent that it is for."""

    def __init__(
        self,
        agent: AgentControl,
        executor_id: str,
        *,
        coordinator: MpiCoordinator,
        live_files: LiveFiles,
        prefetcher: Prefetcher,
    ) -> None:
        self._agent, self._executor_id = agent, executor_id
        self._coordinator, self._live_files = coordinator, live_files
        self._prefetcher = prefetcher

    def handle(self, message: Message) -> None:
        """Carry out one message."""
        if self._coordinator.handle(message):
            return
        if message.order is Order.LIVE_FILES:
            self._live_files.ask(message.attempt, message.body)
        elif message.order is Order.OBSERVE:
            self._observe(message)
        elif message.order is Order.UNSTAGE:
            self._prefetcher.drop(message.attempt)
        elif message.order is Order.DRAIN:
            log.warning("event=drained_by_scheduler executor=%s", self._executor_id)
            self._agent.stop_claiming()
        elif message.order is Order.LEAVE:
            log.warning("event=told_to_leave executor=%s", self._executor_id)
            self._agent.stop()
        elif message.order is Order.DEADLINE and message.deadline_at is not None:
            self._move_deadline(message, message.deadline_at)
        elif message.cause is not None:
            detail = message.detail
            self._agent.stop_attempt(
                message.attempt, message.cause, detail, discard=message.discard
            )

    def _move_deadline(self, message: Message, at: float) -> None:
        attempt = self._agent.live(message.attempt)
        if attempt is not None:
            log.info("event=deadline_moved attempt=%s at=%s", message.attempt, at)
            attempt.move_deadline(at, message.cause or Cause.TASK_TIME_LIMIT)

    def _observe(self, message: Message) -> None:
        attempt = self._agent.live(message.attempt)
        if attempt is not None:
            attempt.observers.add(from_json(Observer, raw) for raw in message.body["observers"])
