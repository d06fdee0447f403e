"""Serving the agent's liveness, its dependencies and its metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from executor.config import ConfigError, ExecutorFolders, metrics_address
from executor.observability.exposition import ExecutorExposition
from executor.observability.status import AgentStatus, AgentView
from simherd.runtime.health import (
    Dependencies,
    Dependency,
    HealthTarget,
    Pages,
    Served,
    executor_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_JOINING = "The machine has not joined its group yet."


class Health:
    """The health of an agent, and of a machine that has yet to join."""

    def __init__(self) -> None:
        #: Set once there is an agent.
        self.insight: AgentStatus | None = None
        self.served: Served | None = None

        def once_joined(check: Callable[[AgentStatus], str | None]) -> Callable[[], str | None]:
            return lambda: _JOINING if self.insight is None else check(self.insight)

        self.dependencies = Dependencies(
            {
                "redis": Dependency("Redis does not answer", once_joined(AgentStatus.redis)),
                "engine": Dependency(
                    "The container engine does not answer", once_joined(AgentStatus.engine)
                ),
                "disk": Dependency("The disk cannot be looked at", once_joined(AgentStatus.disk)),
            }
        )

    def close(self) -> None:
        """Stop serving."""
        if self.served is not None:
            self.served.close()

    def agent(self) -> AgentView | None:
        """Return the agent; None until the machine has joined its group."""
        return None if self.insight is None else self.insight.agent

    def trouble(self) -> str | None:
        """Return why the agent is not live; None when it is, or has yet to join."""
        return None if self.insight is None else self.insight.trouble()


def serve(place: ExecutorFolders) -> Health:
    """Serve the health of this machine's agent at the configured address until it is closed.
    Raises ConfigError: it cannot be served there."""
    health = Health()
    address = metrics_address(os.environ)
    if address is not None:
        host, port = address
        exposition = ExecutorExposition(health.dependencies, health.agent)
        pages = Pages(health.trouble, health.dependencies, exposition.text)
        try:
            target = HealthTarget(executor_file(place.state_dir, os.environ), "executor")
            health.served = Served(host, port, pages, target)
        except OSError as error:
            raise ConfigError(
                f"SIMHERD_METRICS_PORT: cannot listen on {host} port {port}: {error.strerror}."
            ) from error
    return health
