"""Serving whether the agent lives and what it can reach, beside its metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from executor.config import ConfigError, metrics_address
from executor.observability.exposition import ExecutorExposition
from simherd.runtime.health import (
    Dependencies,
    Dependency,
    HealthTarget,
    Pages,
    Served,
    executor_file,
)

if TYPE_CHECKING:
    from executor.config import ExecutorFolders
    from executor.observability.status import AgentStatus, AgentView

_JOINING = "The machine has not joined its group yet."


class Health:
    """Answers for an agent, and for a machine that is still about to join."""

    def __init__(self) -> None:
        #: Set once there is an agent.
        self.insight: AgentStatus | None = None
        self.served: Served | None = None

        def redis() -> str | None:
            return _JOINING if self.insight is None else self.insight.redis()

        def engine() -> str | None:
            return _JOINING if self.insight is None else self.insight.engine()

        def disk() -> str | None:
            return _JOINING if self.insight is None else self.insight.disk()

        self.dependencies = Dependencies(
            {
                "redis": Dependency("Redis does not answer", redis),
                "engine": Dependency("The container engine does not answer", engine),
                "disk": Dependency("The disk cannot be looked at", disk),
            }
        )

    def close(self) -> None:
        """Answer no more."""
        if self.served is not None:
            self.served.close()

    def agent(self) -> AgentView | None:
        """Return the agent; None until the machine has joined its group."""
        return None if self.insight is None else self.insight.agent

    def trouble(self) -> str | None:
        """Why the agent is not live, as a sentence; None when it is, or is about to join."""
        return None if self.insight is None else self.insight.trouble()


def serve(place: ExecutorFolders) -> Health:
    """Serve the health of this machine's agent where the environment says, until it is closed.

    Raises:
        ConfigError: it cannot be served there.
    """
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
