"""What drills do to the services of a deployment by Docker Compose: Redis, and the storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from simherd.contract import labels
from simherd.errors import InvalidInput, SimherdError
from simherd_drills.errors import GOES_ON, DrillNotPossible
from simherd_drills.machines import DrillTarget, unpause
from simherd_drills.network import Network

if TYPE_CHECKING:
    from simherd_drills.docker_engine import Container, Engine


class Redis(DrillTarget, Protocol):
    """A Redis that a drill restarts."""

    def restart(self, *, kill: bool) -> None:
        """End it by SIGTERM, or by SIGKILL, and have it started again."""


class Service:
    """A service of a project: one container."""

    def __init__(self, engine: Engine, container: Container) -> None:
        self._engine = engine
        self._container = container
        self.role = container.labels[labels.SERVICE]
        self.name = container.labels[labels.COMPOSE_SERVICE]
        self.kind = container.labels[labels.COMPOSE_PROJECT]

    @property
    def state(self) -> str:
        return self._container.state

    def restart(self, *, kill: bool) -> None:
        if not kill:
            self._engine.restart(self._container)
            return
        try:
            self._engine.kill(self._container)
        finally:
            # The engine leaves alone what somebody has killed, whatever its restart policy.
            self._engine.start(self._container)

    def break_(self, how: str) -> None:
        """Let it `refuse` connections, `drop` what it is sent, or `pause`.
        Raises DrillNotPossible: it shares its network, or a drill goes on there already."""
        if self._container.state == "paused":
            raise DrillNotPossible(f"{self.name} of {self.kind}: {GOES_ON}")
        if how == "pause":
            self._engine.pause(self._container)
        elif how == "drop":
            self._own_network().drop()
        else:
            self._own_network().refuse()

    def slow(self, rate: str) -> None:
        """Let no more through than `rate`, such as `1mbit`, each way.
        Raises DrillNotPossible: see `break_`."""
        self._own_network().slow(rate)

    def mend(self) -> bool:
        """Undo whatever a drill has done to it and return whether there was something."""
        found = self._engine.containers(
            f"{labels.COMPOSE_PROJECT}={self.kind}", f"{labels.COMPOSE_SERVICE}={self.name}"
        )
        unpaused = unpause(self._engine, found)
        # In a network that is not its own nothing was ever done.
        mended = [self._network(c).mend() for c in found if c.is_up and not c.shares_network]
        return any(mended) or unpaused

    def _own_network(self) -> Network:
        if self._container.shares_network:
            raise DrillNotPossible(
                f"{self.name} of {self.kind} shares another's network ({self._container.network}) "
                "and cannot be broken alone. Give it its own network, or say --how pause."
            )
        return self._network(self._container)

    def _network(self, container: Container) -> Network:
        return Network(self._engine, container, _tools(self._engine, self.kind))


#: How the storage can be broken.
BREAKS = ("refuse", "drop", "pause")


def services(engine: Engine, project: str | None) -> list[Service]:
    """Redis and storage of each project by Docker Compose, or of the `project` named.
    Raises InvalidInput: the one named is not ours."""
    found = [
        Service(engine, container)
        for container in engine.containers(
            labels.SERVICE, labels.COMPOSE_PROJECT, labels.COMPOSE_SERVICE
        )
    ]
    ours = sorted({service.kind for service in found})
    if project is not None and project not in ours:
        raise InvalidInput(
            f"project: {project!r} is not a Docker Compose project with services of Simherd's; "
            f"there is: {', '.join(ours) or 'none'}."
        )
    chosen = [service for service in found if project in (None, service.kind)]
    return sorted(chosen, key=lambda service: (service.kind, service.name))


def _tools(engine: Engine, project: str) -> str:
    """The id of our image, which has what changes a network.
    Raises SimherdError: nothing of the project is made of it."""
    for container in engine.containers(f"{labels.COMPOSE_PROJECT}={project}", labels.IMAGE_TITLE):
        if container.labels[labels.IMAGE_TITLE].startswith(labels.OUR_TITLE):
            return container.image
    raise SimherdError(
        f"project: {project!r} has no container of Simherd's image, which changes networks for "
        "drills. Bring the project up."
    )
