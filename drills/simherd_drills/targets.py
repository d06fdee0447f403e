"""What drills may touch on this host: Simherd's machines, and the services of its deployment.

Everything is found by our own labels and files, and nothing else is ever handed to a drill.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from simherd.contract import labels
from simherd.errors import InvalidInput
from simherd_drills.docker_engine import Container, Engine
from simherd_drills.errors import DockerUnavailable, DrillNotPossible
from simherd_drills.local_machines import LeftFrozen, left_frozen, local_machines, local_redis
from simherd_drills.machines import DockerMachine, DrillMachine
from simherd_drills.services import Redis, Service, services

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

T = TypeVar("T", bound="Redis | Service")


class Targets:
    """This host's machines and services."""

    def __init__(self, data: Path | None, project: str | None) -> None:
        """`data`: the folder of a `simherd up`, if one is meant; `project`: of Docker Compose, if
        not every one is meant."""
        self._data = data
        self._project = project
        self.engine = Engine()

    def machines(self) -> list[DrillMachine]:
        """Every machine that is up, whichever scheduler on this host launched it.
        Raises DockerUnavailable: no machine is a process, and Docker does not respond."""
        machines, unavailable = self._look()
        if unavailable and not machines:
            raise unavailable
        return machines

    def _look(self) -> tuple[list[DrillMachine], DockerUnavailable | None]:
        """The machines, and why those that are containers are not among them."""
        machines: list[DrillMachine] = []
        unavailable = None
        if self._data is not None:
            machines += local_machines(self.engine, self._data)
        try:
            found = self.engine.containers(labels.MACHINE)
        except DockerUnavailable as error:
            unavailable = error
        else:
            machines += [DockerMachine(self.engine, one) for one in found if one.is_up]
        return sorted(machines, key=lambda machine: machine.name), unavailable

    def named(self, names: Sequence[str]) -> list[DrillMachine]:
        """The machines of these names or ids.

        Raises:
            InvalidInput: there is none, or more than one.
            DockerUnavailable: a name is not a process, and Docker does not respond.
        """
        machines, unavailable = self._look()
        if unavailable and set(names) - {word for m in machines for word in (m.id, m.name)}:
            raise unavailable
        return [_one(machines, name) for name in names]

    def some(self, ids: Collection[str], count: int, seed: int) -> list[DrillMachine]:
        """So many of the machines with these ids, by a chance that the seed decides.

        Raises:
            InvalidInput: there are not so many here.
            DockerUnavailable: too few are processes, and Docker does not respond.
        """
        everything, unavailable = self._look()
        here = [m for m in everything if m.id in ids]
        if len(here) < count:
            if unavailable:
                raise unavailable
            raise InvalidInput(
                f"count: {count} is more than the {len(here)} machines on this host."
            )
        return random.Random(seed).sample(here, count)

    def redis(self, names: Sequence[str], *, several: bool = False) -> list[Redis]:
        """The Redis of these names; without a name, the one of the one deployment there is.

        `several`: or all of that deployment's.

        Raises:
            InvalidInput: there is none, or it is not clear which.
        """
        return _chosen(self.every_redis(), names, "Redis", several=several)

    def every_redis(self) -> list[Redis]:
        """All of Redis that is here. Raises as `storage` does."""
        own = self._own_redis()
        found: list[Redis] = [*self._services(labels.REDIS)]
        return [*found, own] if own is not None else found

    def storage(self, names: Sequence[str]) -> list[Service]:
        """The S3 store of these names; without a name, the one there is.

        Raises:
            InvalidInput: there is none, or it is not clear which.
            DrillNotPossible: the storage is a folder.
            DockerUnavailable: Docker does not respond, and no `simherd up` runs here.
        """
        found = self.every_storage()
        if not found and self._own_redis() is not None:
            raise DrillNotPossible(
                "The storage of `simherd up` is a folder that its API serves: it cannot be slowed "
                f"or broken apart from that. This needs a service {labels.STORAGE!r} of Docker "
                "Compose."
            )
        return _chosen(found, names, "S3 store")

    def every_storage(self) -> list[Service]:
        """All S3 stores that are here. Raises as `storage` does."""
        return self._services(labels.STORAGE)

    def _services(self, role: str) -> list[Service]:
        try:
            return [service for service in self.services() if service.role == role]
        except DockerUnavailable:
            if self._own_redis() is None:
                raise
            return []

    def services(self) -> list[Service]:
        """What deployments by Docker Compose have for drills.
        Raises InvalidInput: the project that was named is not one of Simherd's."""
        return services(self.engine, self._project)

    def _own_redis(self) -> Redis | None:
        return local_redis(self._data) if self._data is not None else None

    def helpers(self) -> list[Container]:
        """What drills that were killed have left beside their victims."""
        return self.engine.containers(labels.DRILL)

    def left_frozen(self) -> list[LeftFrozen]:
        """What drills that were killed have left suspended, see `LeftFrozen`."""
        return left_frozen(self.engine, self._data) if self._data is not None else []


def _one(machines: list[DrillMachine], name: str) -> DrillMachine:
    found = [m for m in machines if name in (m.id, m.name)]
    if not found:
        raise InvalidInput(
            f"target: {name!r} is not a Simherd machine that is up on this host; "
            "`simherd sim list` shows what there is."
        )
    if len(found) > 1:
        ids = ", ".join(m.id for m in found)
        raise InvalidInput(f"target: {len(found)} machines are called {name!r}; say its id: {ids}.")
    return found[0]


def _chosen(found: list[T], names: Sequence[str], what: str, *, several: bool = False) -> list[T]:
    """Those of these names, or the only one, or the `several` of the only deployment."""
    there = ", ".join(f"{one.name} ({one.kind})" for one in found) or "none"
    unknown = set(names) - {one.name for one in found}
    if unknown:
        raise InvalidInput(
            f"target: {min(unknown)!r} is not a Simherd {what} of this host; choose from: {there}."
        )
    chosen = [one for one in found if one.name in names] if names else found
    places = {one.kind for one in chosen}
    if len(places) != 1 or (len(chosen) > 1 and not names and not several):
        raise InvalidInput(
            f"target: it is not clear which {what}; there is: {there}. Name it, and where there "
            "are several deployments, say which: --project, or --data-dir."
        )
    return chosen
