"""The state of an agent as seen from outside: whether it lives and what it can reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simherd.contract import limits

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from executor.agent.interruption import Interruption
    from executor.agent.partition_guard import PartitionGuard
    from executor.attempt.context import Attempt
    from executor.config import Config
    from executor.containers.base import ContainerBackend
    from executor.link.inbox import Inbox
    from executor.link.reporter import Reporter
    from executor.machine.machine import MachineResources
    from executor.machine.slots import Slots
    from simherd.runtime.health import Pulse


@dataclass(frozen=True)
class AgentStatus:
    """The agent's parts, read from other threads and never changed by them."""

    config: Config
    backend: ContainerBackend
    slots: Slots
    reporter: Reporter
    inbox: Inbox
    machine: MachineResources
    contact: PartitionGuard
    presence: Interruption
    #: Of the heartbeat.
    pulse: Pulse
    attempts: Callable[[], list[Attempt]]
    #: Set when nothing more is claimed.
    draining: threading.Event

    def trouble(self) -> str | None:
        """Return why the agent is not live, as a sentence; None when it is."""
        if self.pulse.trouble() is not None:
            return self.pulse.trouble()
        for name, thread in (("reports", self.reporter), ("reads its inbox", self.inbox)):
            if thread.has_died:
                return f"The thread that {name} has died."
        return None

    def redis(self) -> str | None:
        """Return why the scheduler's Redis cannot be reached, as a sentence; None when it can."""
        silent = self.contact.silent_s
        if silent < limits.LEASE_S:
            return None
        return f"Redis has not answered a heartbeat or a claim for {silent:.0f} s."

    def engine(self) -> str | None:
        """Return None when the container engine works. Raises EngineUnavailable."""
        self.backend.check()
        return None

    def disk(self) -> str | None:
        """Return why there is no room for another attempt, as a sentence; None when there is."""
        lacking = self.machine.lacks
        return None if lacking is None else f"There is no room for another task: {lacking}."
