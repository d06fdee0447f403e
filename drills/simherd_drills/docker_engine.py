"""The Docker engine of this host, as far as drills need it. Nothing else here sees its SDK."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from simherd.contract.labels import DRILL
from simherd.errors import SimherdError
from simherd_drills.errors import REFUSED, DockerUnavailable, DrillNotPossible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docker import APIClient

#: Seconds for one call to the engine: it may have to wait for a container to stop.
_CALL_S = 60
#: Seconds that a service has for stopping by itself before it is killed.
_STOP_S = 10
#: How often a container that could not be frozen is tried again, and seconds between two tries.
_FREEZES, _FREEZE_AGAIN_S = 5, 0.5
#: The engine's status where something is so already, or is not running.
_CONFLICT = 409
#: The network mode of what has the host's own network, and of what has another container's.
_HOST, _ANOTHERS = "host", "container:"
#: Where the engine listens unless DOCKER_HOST says otherwise.
_SOCKET = Path("/var/run/docker.sock")


@dataclass(frozen=True)
class Container:
    """A container as it was when it was looked for."""

    id: str
    name: str
    #: The id of its image.
    image: str
    #: The image's name, as it was started with.
    image_name: str
    #: The engine's word: running, paused, exited, …
    state: str
    labels: Mapping[str, str]
    network: str

    @property
    def is_up(self) -> bool:
        """Whether something runs in it, or would if it were not paused."""
        return self.state in {"running", "paused"}

    @property
    def shares_network(self) -> bool:
        """Whether its network is the host's, or another container's."""
        return self.network == _HOST or self.network.startswith(_ANOTHERS)


class Engine:
    """Finds containers by their labels, and does things to them. Every method raises SimherdError
    where the engine refuses, and DockerUnavailable where it does not respond."""

    @cached_property
    def _api(self) -> APIClient:
        # Made when it is needed: machines that are processes need no engine.
        return docker.APIClient(
            base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=_CALL_S
        )

    def containers(self, *labels: str) -> list[Container]:
        """Those that have all of these labels, `NAME` or `NAME=VALUE`, running or not. None on a
        host that has no engine."""
        if "DOCKER_HOST" not in os.environ and not _SOCKET.exists():
            return []
        with _asked("look for containers"):
            found = self._api.containers(all=True, filters={"label": list(labels)})
        return [
            Container(
                id=str(one["Id"]),
                name=str(one["Names"][0]).removeprefix("/"),
                image=str(one["ImageID"]),
                image_name=str(one["Image"]),
                state=str(one["State"]),
                labels=one["Labels"],
                network=str(one["HostConfig"]["NetworkMode"]),
            )
            for one in found
        ]

    @cached_property
    def folder(self) -> str:
        """Where the engine keeps images and volumes, on its host."""
        with _asked("describe itself"):
            return str(self._api.info()["DockerRootDir"])

    def kill(self, container: Container) -> None:
        """SIGKILL everything in it. One that has ended stays as it is."""
        with _asked(f"kill {container.name}", but=_CONFLICT):
            self._api.kill(container.id)

    def pause(self, container: Container) -> None:
        """Pause it."""
        # The kernel freezes no group in which processes come faster than it stops them.
        for left in reversed(range(_FREEZES)):
            try:
                with _asked(f"pause {container.name}", but=_CONFLICT):
                    self._api.pause(container.id)
                return
            except DockerUnavailable:
                raise
            except SimherdError:
                if not left:
                    raise
                time.sleep(_FREEZE_AGAIN_S)

    def unpause(self, container: Container) -> None:
        """Resume it; one that is not paused stays as it is."""
        with _asked(f"unpause {container.name}", but=_CONFLICT):
            self._api.unpause(container.id)

    def start(self, container: Container) -> None:
        """Start what has ended."""
        with _asked(f"start {container.name}"):
            self._api.start(container.id)

    def restart(self, container: Container) -> None:
        """SIGTERM, SIGKILL where that is not enough, and start it again."""
        with _asked(f"restart {container.name}"):
            self._api.restart(container.id, timeout=_STOP_S)

    def inside(self, container: Container, script: str, *arguments: str) -> str:
        """Run a shell script in a running container, as root, and return what it printed."""
        with _asked(f"run a command in {container.name}"):
            argv = ["sh", "-euc", script, "sh", *arguments]
            made = self._api.exec_create(container.id, argv, user="0")
            said = self._api.exec_start(made["Id"]).decode(errors="replace")
            code = self._api.exec_inspect(made["Id"])["ExitCode"]
        return _result(container, code, said)

    def beside(
        self, container: Container, image: str, script: str, *arguments: str, host: bool = False
    ) -> str:
        """Run a shell script in the network of a container, with the right to change it.

        Args:
            container: whose network; with `host` that of the host, where the other end of its
                interfaces is.
            image: the id of the image that the script finds its programs in.
            script: what is run there, as root; its `arguments` follow.
            host: see `container`.

        Raises:
            DrillNotPossible: the script exits with REFUSED.
            SimherdError: it fails.
        """
        network = _HOST if host else f"container:{container.id}"
        with _asked(f"run a container beside {container.name}"):
            made = self._api.create_container(
                image,
                entrypoint=["sh", "-euc", script, "sh", *arguments],
                command=[],
                user="0",
                labels={DRILL: container.id},
                host_config=self._api.create_host_config(
                    network_mode=network, cap_drop=["ALL"], cap_add=["NET_ADMIN", "NET_RAW"]
                ),
            )
            try:
                self._api.start(made["Id"])
                code = self._api.wait(made["Id"])["StatusCode"]
                said = self._api.logs(made["Id"]).decode(errors="replace")
            finally:
                self._api.remove_container(made["Id"], force=True)
        return _result(container, code, said)

    def remove(self, container: Container) -> None:
        """Remove a container, whatever it does."""
        with _asked(f"remove {container.name}"):
            self._api.remove_container(container.id, force=True)


@contextmanager
def _asked(what: str, but: int | None = None) -> Iterator[None]:
    """Errors as sentences: the engine was asked to do `what`. `but`: a status that is not an error.

    A container that is gone is not an error where `but` is given: there is nothing left to be done.
    """
    try:
        yield
    except APIError as error:
        if but is None or (error.status_code != but and not isinstance(error, NotFound)):
            raise SimherdError(
                f"The Docker engine does not {what}: {error.explanation or error}"
            ) from error
    except (DockerException, requests.RequestException) as error:
        raise DockerUnavailable(
            f"The Docker engine does not respond ({error}). Run this on its host, as somebody who "
            "may use it, or set DOCKER_HOST."
        ) from error


def _result(container: Container, code: Any, said: str) -> str:
    if code != 0:
        lines = said.strip().splitlines() or ["it said nothing"]
        if code == REFUSED:
            raise DrillNotPossible(f"{container.name}: {lines[-1]}")
        raise SimherdError(f"{container.name}: that did not work (exit code {code}): {lines[-1]}")
    return said.strip()
