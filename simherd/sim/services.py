"""What drills do to the services of a deployment by Docker Compose: Redis, and the storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from simherd.contract import labels
from simherd.errors import InvalidInput
from simherd.sim.machines import Target
from simherd.sim.network import Network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simherd.sim.engine import Container, Engine

#: The services' names in deploy/docker-compose.yml; Redis may have numbers after it.
REDIS, STORAGE = "redis", "s3"


class Redis(Target, Protocol):
    """A Redis that a drill restarts."""

    def restart(self, *, kill: bool) -> None:
        """End it by SIGTERM, or by SIGKILL, and have it started again."""
        ...


class Service:
    """A service of a project: one container."""

    def __init__(self, engine: Engine, container: Container, tools: str) -> None:
        """`tools`: the id of our image, for what is done to its network."""
        self._engine = engine
        self._container = container
        self._network = Network(engine, container, tools)
        self.name = container.labels[labels.COMPOSE_SERVICE]
        self.kind = container.labels[labels.COMPOSE_PROJECT]

    @property
    def state(self) -> str:
        """See `Target`."""
        return self._container.state

    def restart(self, *, kill: bool) -> None:
        """See `Redis`."""
        if not kill:
            self._engine.restart(self._container)
            return
        try:
            self._engine.kill(self._container)
        finally:
            # The engine leaves alone what somebody has killed, whatever its restart policy.
            self._engine.start(self._container)

    def break_(self, how: str) -> None:
        """Let it `refuse` connections, `drop` what it is sent, or `pause`."""
        if how == "pause":
            self._engine.pause(self._container)
        elif how == "drop":
            self._network.drop()
        else:
            self._network.refuse()

    def slow(self, rate: str) -> None:
        """Let no more through than `rate`, such as `1mbit`, each way."""
        self._network.slow(rate)

    def mend(self) -> bool:
        """Undo whatever a drill has done to it; answers whether there was something."""
        found = self._engine.containers(
            f"{labels.COMPOSE_PROJECT}={self.kind}", f"{labels.COMPOSE_SERVICE}={self.name}"
        )
        paused = [container for container in found if container.state == "paused"]
        for container in paused:
            self._engine.unpause(container)
        is_up = any(container.is_up and not container.shares_host_network for container in found)
        return bool(is_up and self._network.mend()) or bool(paused)


#: How the storage can be broken.
BREAKS = ("refuse", "drop", "pause")


def services(engine: Engine, project: str | None) -> list[Service]:
    """Redis and storage of each project that runs our image, or of the `project` named.

    Raises:
        InvalidInput: the one named is not.
    """
    ours = dict(_projects(engine))
    if project is not None and project not in ours:
        known = ", ".join(sorted(ours)) or "none"
        raise InvalidInput(
            f"project: {project!r} is no Docker Compose project that runs Simherd's image; "
            f"there is: {known}."
        )
    return [
        Service(engine, container, tools)
        for name, tools in sorted(ours.items())
        if project in (None, name)
        for container in engine.containers(f"{labels.COMPOSE_PROJECT}={name}")
        if _is_target(container.labels.get(labels.COMPOSE_SERVICE, ""))
    ]


def _projects(engine: Engine) -> Iterator[tuple[str, str]]:
    """Each project with a container of our image: its name, the image's id."""
    for container in engine.containers(labels.COMPOSE_PROJECT, labels.IMAGE_TITLE):
        if container.labels[labels.IMAGE_TITLE].startswith(labels.OUR_TITLE):
            yield container.labels[labels.COMPOSE_PROJECT], container.image


def _is_target(service: str) -> bool:
    return service == STORAGE or is_redis(service)


def is_redis(service: str) -> bool:
    """Whether a service of this name is a Redis."""
    return service.rstrip("-0123456789") == REDIS
