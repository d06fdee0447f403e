"""Machines that are containers of this host's Docker engine.

A machine runs its simulations as its siblings, on the same engine: so it holds the engine's socket,
and with it root's rights on the host. Its folder lies at the same path outside and inside, for the
engine resolves the siblings' work folders outside.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Mount

from scheduler.providers.base import LaunchRefused, MachineState, NoCapacity, ProviderMachine
from simherd.contract import labels
from simherd.contract.join import network_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from docker import APIClient

    from scheduler.providers.base import LaunchTicket, MachinePlan

log = logging.getLogger(__name__)

#: The errors of a call while the engine is unavailable, or when it refuses.
_ENGINE_ERRORS = (DockerException, requests.RequestException)
#: The engine's status codes for a container that is gone, being removed, or not running.
_GONE = frozenset({404, 409})
#: Seconds for one call to the engine; starting a container on a busy disk takes many.
_CALL_S = 60
#: The name that all machines share in their own network.
MACHINES = "simherd-machines"
_SOCKET = "/var/run/docker.sock"
#: States of a container whose agent runs, or is about to.
_ALIVE = frozenset({"created", "restarting", "running", "paused"})
#: What the engine says where the folder's file system keeps its mounts to itself.
_NOT_SHARED = "not a shared"
#: Runs the agent, and another one where it was killed or broke down, as a host's init system would:
#: what it has started goes on meanwhile. Not where it ended by itself (0) or was refused (2). What
#: a shell starts in the background ignores SIGINT unless `env` lets it listen.
_KEEP = """
stop() { over=1; kill "-$1" "$agent"; }
trap 'stop INT' INT
trap 'stop TERM' TERM
until [ "$over" ]; do
  env --default-signal=INT "$@" & agent=$!
  while wait "$agent"; code=$?; kill -0 "$agent" 2>/dev/null; do :; done
  case $code in 0 | 2) break ;; esac
  sleep 1
done
exit "$code"
"""
#: Unmounts what an agent that was killed has left, and empties its folder. Never goes into what
#: is still mounted.
_WIPE = (
    'for mount in "$1"/disks/*.mnt; do umount -l "$mount"; done 2>/dev/null; '
    'find "$1" -xdev -mindepth 1 -delete'
)


class DockerProvider:
    """Starts a container for each machine; its folder is `root`/MACHINE."""

    revives = False
    by_hand = False
    one_engine = True

    def __init__(
        self,
        root: Path,
        image: str,
        network: str,
        deployment: str,
        command: Sequence[str] = ("simherd-executor",),
        metrics: tuple[str, int] | None = None,
    ) -> None:
        """`deployment`: marks our machines among those of other schedulers on this engine.
        `metrics`: host and port of agents' metrics, unless the network is the host's."""
        self._metrics = metrics
        self._root = root.resolve()
        self._image = image
        self._network = network
        self._deployment = deployment
        self._command = list(command)

    @cached_property
    def _api(self) -> APIClient:
        # Made on demand: a scheduler without groups of this provider needs no engine.
        return docker.APIClient(
            base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=_CALL_S
        )

    def launch(self, plan: MachinePlan) -> dict[str, Any]:
        """See `MachineProvider`. A dead machine of that id is replaced and keeps its folder."""
        folder = self._root / plan.machine_id
        name = _name(plan.machine_id)
        try:
            if not self._is_alive(name):
                self._remove(name)
                folder.mkdir(parents=True, exist_ok=True, mode=0o755)
                _write_ticket(folder, plan.ticket)
                marks, environment = self._labels(plan), self._environment(folder)
                command = ["sh", "-c", _KEEP, "sh", *self._command]
                if not self._start(name, folder, command, environment, marks):
                    log.warning("event=machine_disk_watched folder=%s reason=not_shared", folder)
        except ImageNotFound as error:
            raise LaunchRefused(
                f"The Docker engine has no image {self._image}; scripts/machine-image makes it."
            ) from error
        except APIError as error:
            # Gone, or there already: somebody else launches the same machine just now.
            if error.status_code not in _GONE:
                raise LaunchRefused(f"Docker does not start a machine: {_text(error)}") from error
        except _ENGINE_ERRORS as error:
            raise NoCapacity(f"The Docker engine does not respond: {error}") from error
        except OSError as error:
            raise LaunchRefused(f"A machine's folder could not be made: {error}") from error
        return {"container": name}

    def terminate(self, machine_id: str, handle: dict[str, Any], *, force: bool) -> bool:
        """See `MachineProvider`. The agent stops its simulations on SIGINT.
        What an agent leaves is removed once it is gone: its siblings, its mounts, its folder."""
        name = _name(machine_id)
        try:
            if self._is_alive(name):
                self._signal(name, "SIGKILL" if force else "SIGINT")
                if self._is_alive(name):
                    return False
            for sibling in self._list(f"{labels.HOLDER}={machine_id}"):
                self._remove(sibling["Id"])
            if not self._wipe(machine_id):
                return False
            self._remove_network(name)
            # Last: a call after a failure still finds the container, and so the work that is left.
            self._remove(name)
        except _ENGINE_ERRORS as error:
            log.warning("event=terminate_waits machine=%s error=%s", machine_id, error)
            return False
        return True

    def observe(self, machines: Mapping[str, dict[str, Any]]) -> dict[str, MachineState]:
        """See `MachineProvider`."""
        try:
            alive = {
                container["Labels"][labels.MACHINE]
                for container in self._machines()
                if container["State"] in _ALIVE
            }
        except _ENGINE_ERRORS:
            return dict.fromkeys(machines, MachineState.UNKNOWN)
        return {
            machine_id: MachineState.RUNNING if machine_id in alive else MachineState.GONE
            for machine_id in machines
        }

    def list_machines(self) -> Iterator[ProviderMachine]:
        """See `MachineProvider`. Those that have ended are there, too, until they are terminated.
        Empty while the engine is unavailable: the next search for orphans finds them."""
        try:
            machines = self._machines()
        except _ENGINE_ERRORS as error:
            log.debug("event=engine_unavailable error=%s", error)
            return
        for container in machines:
            machine_id = container["Labels"][labels.MACHINE]
            group_id = container["Labels"].get(labels.GROUP, "")
            yield ProviderMachine(machine_id, group_id, {"container": _name(machine_id)})

    def _machines(self) -> list[dict[str, Any]]:
        return self._list(f"{labels.DEPLOYMENT}={self._deployment}", labels.MACHINE)

    def _list(self, *marks: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._api.containers(all=True, filters={"label": list(marks)})
        return found

    def _labels(self, plan: MachinePlan) -> dict[str, str]:
        return {
            labels.DEPLOYMENT: self._deployment,
            labels.MACHINE: plan.machine_id,
            labels.MACHINE_NAME: plan.name,
            labels.GROUP: plan.group_id,
        }

    def _environment(self, folder: Path) -> dict[str, str]:
        """Return the agent's environment. It holds no secret, since `docker inspect` shows it."""
        environment = {
            "SIMHERD_TICKET_FILE": str(folder / "ticket.json"),
            "SIMHERD_STATE_DIR": str(folder),
            "SIMHERD_BACKEND": "docker",
            "SIMHERD_SPOT_NOTICES": f"file://{folder / 'spot-notice'}",
            # On the host's network each machine needs a free port.
            "SIMHERD_METRICS_PORT": "0",
        }
        if self._network != "host" and self._metrics is not None:
            host, port = self._metrics
            environment |= {"SIMHERD_METRICS_HOST": host, "SIMHERD_METRICS_PORT": str(port)}
        return environment

    def _is_alive(self, name: str) -> bool:
        try:
            found = self._api.inspect_container(name)
        except NotFound:
            return False
        # Without "created": such a container was never started, and will not be.
        return found["State"]["Status"] in _ALIVE - {"created"}

    def _start(
        self,
        name: str,
        folder: Path,
        command: list[str],
        environment: dict[str, str],
        marks: dict[str, str],
    ) -> bool:
        """Start a container with the folder; return whether its mounts in there are shared."""
        for shared in (True, False):
            made = self._api.create_container(
                self._image,
                name=name,
                # Mounting and the engine's socket are root's; the image's own user is another.
                user="root",
                command=command,
                environment=environment,
                labels=marks,
                host_config=self._host_config(folder, shared=shared),
                networking_config=self._common_name(),
            )
            try:
                self._api.start(made["Id"])
            except APIError as error:
                # By its id: the name may belong to another container by now.
                self._remove(made["Id"])
                if not (shared and _NOT_SHARED in _text(error)):
                    raise
            else:
                return shared
        return False

    def _common_name(self) -> dict[str, Any] | None:
        """Return the network alias that all machines share, by which Prometheus finds them."""
        if self._metrics is None or self._network in ("host", "bridge"):
            # Only user-defined networks resolve names.
            return None
        endpoint = self._api.create_endpoint_config(aliases=[MACHINES])
        # The library's types have one network for all of them.
        networks: Any = {self._network: endpoint}
        config: dict[str, Any] = self._api.create_networking_config(networks)
        return config

    def _host_config(self, folder: Path, *, shared: bool) -> dict[str, Any]:
        capabilities, devices = [], []
        if shared:
            # For the hard disk limit: a file system in a file for each attempt. Without the
            # capability the agent watches instead. Not `privileged`, which is far more, and which
            # an engine that is itself confined cannot give.
            capabilities.append("SYS_ADMIN")
            # Block devices 7:* are the loop devices, 10:237 makes new ones.
            devices = ["b 7:* rwm", "c 10:237 rwm"]
        if self._network == "host":
            # For the agent's rule that keeps simulations from the cloud's metadata address. In
            # another network no simulation's traffic passes the rule: there the agent is refused,
            # and so are tasks that want the network.
            capabilities.append("NET_ADMIN")
        mounts = [
            Mount(_SOCKET, _SOCKET, type="bind"),
            # What simulations use is read from their control groups, by the host's process ids. (An
            # init process cannot be used with those.)
            Mount("/sys/fs/cgroup", "/sys/fs/cgroup", type="bind", read_only=True),
            # Of the host: loop devices may come to be at any time. Which of them can be opened is
            # decided by the list above.
            Mount("/dev", "/dev", type="bind"),
            # An empty volume lies on the disk that holds the images: so the agent sees how full
            # that is. The folder itself would keep the mounts of every other container busy.
            Mount(self._api.info()["DockerRootDir"], None, type="volume"),
            # What the agent mounts is to be seen by the engine, and so by the siblings.
            Mount(
                str(folder),
                str(folder),
                type="bind",
                propagation="rshared" if shared else "rprivate",
            ),
        ]
        config: dict[str, Any] = self._api.create_host_config(
            mounts=mounts,
            cap_add=capabilities,
            device_cgroup_rules=devices,
            # Docker's own profiles for AppArmor and SELinux forbid mounting, and the socket.
            security_opt=["apparmor=unconfined", "label=disable"],
            pid_mode="host",
            cgroupns="host",
            network_mode=self._network,
            restart_policy={"Name": "no"},
            log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
        )
        return config

    def _signal(self, name: str, signal: str) -> None:
        try:
            self._api.kill(name, signal)
        except APIError as error:
            if error.status_code not in _GONE:
                raise

    def _remove(self, container: str) -> None:
        try:
            self._api.remove_container(container, force=True, v=True)
        except APIError as error:
            if error.status_code not in _GONE:
                raise

    def _remove_network(self, machine: str) -> None:
        """Remove the network of its group, once nothing is on it any more."""
        try:
            group_id = self._api.inspect_container(machine)["Config"]["Labels"][labels.GROUP]
            self._api.remove_network(network_name(group_id))
        except (APIError, KeyError) as error:
            log.debug("event=network_stays machine=%s error=%s", machine, error)

    def _wipe(self, machine_id: str) -> bool:
        """Remove the folder by a container, since it holds root's files and mounts.

        Returns whether it is removed: a child of a killed agent may still be mounting something.
        Without the image nothing more can be done.
        """
        folder = self._root / machine_id
        if not folder.is_dir():
            return True
        name = f"simherd-wipe-{machine_id}"
        # With the siblings' label: one that is left over is removed with them.
        marks = {labels.HOLDER: machine_id}
        try:
            self._start(name, folder, ["sh", "-c", _WIPE, "sh", str(folder)], {}, marks)
            code = self._api.wait(name)["StatusCode"]
        except ImageNotFound:
            code = -1
        finally:
            self._remove(name)
        with contextlib.suppress(OSError):
            folder.rmdir()
        if folder.exists():
            log.error("event=machine_folder_left folder=%s exit_code=%s", folder, code)
        return code < 0 or not folder.exists()


def _name(machine_id: str) -> str:
    return f"simherd-machine-{machine_id}"


def _write_ticket(folder: Path, ticket: LaunchTicket) -> None:
    new = folder / "ticket.json.new"
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"api_url": ticket.api_url, "token": ticket.token}, file)
    new.replace(folder / "ticket.json")


def _text(error: APIError) -> str:
    """Return the engine's message."""
    return str(error.explanation or error)
