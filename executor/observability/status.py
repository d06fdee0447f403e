"""An agent as seen from outside: whether it lives, what it can reach, how it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from simherd.contract import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.containers.base import ContainerBackend
    from executor.link.inbox import Inbox
    from executor.link.reporter import Reporter
    from executor.machine.machine import MachineResources
    from executor.machine.slots import Slot, Slots
    from simherd.runtime.health import Pulse


class ContactView(Protocol):
    """The contact to Redis, in seconds."""

    @property
    def silent_s(self) -> float: ...
    @property
    def remaining_s(self) -> float: ...


class InterruptionView(Protocol):
    """What is known of a reclaim of the machine."""

    @property
    def reclaim_at(self) -> float | None: ...
    @property
    def silent_s(self) -> float | None: ...


class DeadlineView(Protocol):
    """When a limit of an attempt is reached, seconds since the epoch."""

    @property
    def wall_time(self) -> float | None: ...


class AttemptView(Protocol):
    """An attempt that runs."""

    @property
    def slot(self) -> Slot: ...
    @property
    def deadline(self) -> DeadlineView: ...


class AgentView(Protocol):
    """The parts of an agent; read from other threads, and never changed."""

    backend: ContainerBackend
    slots: Slots
    reporter: Reporter
    inbox: Inbox
    machine: MachineResources

    @property
    def guard(self) -> ContactView: ...
    @property
    def interruption(self) -> InterruptionView: ...
    @property
    def pulse(self) -> Pulse:
        """The pulse of the heartbeat."""

    @property
    def is_draining(self) -> bool: ...

    def attempts(self) -> Sequence[AttemptView]:
        """Return the attempts that run on the machine."""


class AgentStatus:
    """What the health pages say about an agent."""

    def __init__(self, agent: AgentView) -> None:
        self.agent = agent

    def trouble(self) -> str | None:
        """Return why the agent is not live, as a sentence; None if it is."""
        if self.agent.pulse.trouble() is not None:
            return self.agent.pulse.trouble()
        for name, thread in (
            ("reports", self.agent.reporter),
            ("reads its inbox", self.agent.inbox),
        ):
            if thread.has_died:
                return f"The thread that {name} has died."
        return None

    def redis(self) -> str | None:
        """Return why the scheduler's Redis is unavailable, as a sentence; None if it is not."""
        silent = self.agent.guard.silent_s
        if silent < limits.LEASE_S:
            return None
        return f"Redis has not responded to a heartbeat or a claim for {silent:.0f} s."

    def engine(self) -> str | None:
        """Return None if the container engine responds. Raises EngineUnavailable."""
        self.agent.backend.check()
        return None

    def disk(self) -> str | None:
        """Return why there is no room for another attempt, as a sentence; None if there is."""
        lacking = self.agent.machine.lacks
        return None if lacking is None else f"There is no room for another task: {lacking}."
