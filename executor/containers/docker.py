"""Commands in Docker containers, locked down as far as a shared kernel allows."""

from __future__ import annotations

import contextlib
import glob
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from executor.containers.base import (
    PEERS_DIR,
    ContainerSpec,
    ImageInfo,
    ImageUnavailable,
    keep_nothing,
    refusal,
)
from executor.containers.docker_running import DockerRunning
from executor.containers.engine import ENGINE_ERRORS, GONE, client, engine, remove, text
from executor.containers.logs import not_started, open_capped
from executor.containers.network import closed_network, guarded_network, on_network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.containers.base import Keep, Running

#: The work folder inside the container, and HOME.
WORKDIR = "/workdir"
#: User and group of the command where the agent is root.
SANDBOX_ID = 10001
#: Seconds for one call to the engine; starting a container on a busy disk takes many.
CALL_S = 120
#: Seconds without any progress from the engine during a pull.
PULL_SILENCE_S = 600


def hardening(spec: ContainerSpec, host_cpus: float, network: str, gpus: int) -> dict[str, Any]:
    """Return every limit and lock of a container; the only user values in it are sizes."""
    policy = spec.policy
    limits: dict[str, Any] = {}
    if spec.memory_bytes is not None:
        # Memory plus swap: without the second an equal amount of swap would be added.
        limits = {"mem_limit": spec.memory_bytes, "memswap_limit": spec.memory_bytes}
    if spec.cpus is not None:
        # An engine refuses more than it has, and a local group's machine type may promise more.
        limits["nano_cpus"] = int(min(spec.cpus, host_cpus) * 1e9)
    if gpus and policy.gpus:
        limits["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    # An engine that is itself confined cannot give more than it has; the agent, started on the
    # same machine, has the same.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = policy.open_files if most == resource.RLIM_INFINITY else min(policy.open_files, most)
    return {
        **limits,
        "cap_drop": ["ALL"],
        "cap_add": list(policy.capabilities),
        "security_opt": ["no-new-privileges"],
        "read_only": not policy.writable_root,
        "init": True,
        "ipc_mode": "private",
        "network_mode": network,
        "pids_limit": policy.pids,
        "shm_size": policy.shm_bytes,
        # Not noexec: some MPI launchers put small programs there.
        "tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={policy.tmp_bytes}"},
        "ulimits": [
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="nofile", soft=files, hard=files),
        ],
        "log_config": LogConfig(type="none"),
    }


class DockerBackend:
    """Containers of the local Docker engine."""

    name = "docker"

    def __init__(self, base_url: str | None = None) -> None:
        """`base_url`: the engine's address; by default DOCKER_HOST or the local socket. Raises
        EngineUnavailable."""
        with engine("reach the Docker engine"):
            self._api = client(base_url, CALL_S)
            self._pull_api = client(base_url, PULL_SILENCE_S)
            info = self._api.info()
        self._host_cpus = float(info["NCPU"])
        self._data_root = Path(info["DockerRootDir"])
        # The engine gives out GPUs through NVIDIA's hook; without a device there is none.
        devices = glob.glob("/dev/nvidia[0-9]*")
        self._gpus = len(devices) if "nvidia" in info.get("Runtimes", {}) else 0

    def prepare(self, image: str) -> ImageInfo:
        with engine(f"look for the image {image!r}"):
            try:
                return ImageInfo(self._size(image), "local")
            except ImageNotFound:
                self._pull(image)
                return ImageInfo(self._size(image), "pulled")

    def _size(self, image: str) -> int:
        return int(self._api.inspect_image(image)["Size"])  # type: ignore[no-untyped-call]

    def _pull(self, image: str) -> None:
        # Without a tag the engine would pull every tag there is.
        tagged = image if ":" in image.rpartition("/")[2] else f"{image}:latest"
        try:
            for line in self._pull_api.pull(tagged, stream=True, decode=True):
                if "error" in line:
                    raise _unavailable(image, str(line["error"]))
        except NotFound as error:
            raise _unavailable(image, text(error)) from error
        except APIError as error:
            raise _unavailable(image, text(error)) from error

    def start(self, spec: ContainerSpec) -> Running:
        if (exit_ := refusal(spec)) is not None:
            return not_started(spec, exit_, open_capped(spec.stderr, spec))
        user = _give_away(spec.work_dir)
        if spec.peers is not None and os.geteuid() == 0:
            os.chown(spec.peers.folder, *map(int, user.split(":")))
        with engine(f"start the container {spec.name!r}"):
            container = self._create(spec, user)
            running = DockerRunning(self._api, container, spec)
            try:
                running.attach(spec.stdin)
                self._api.start(container)
                running.follow()
            except BaseException:
                with contextlib.suppress(*ENGINE_ERRORS):
                    remove(self._api, container)
                running.abandon()
                raise
        return running

    def adopt(self, spec: ContainerSpec) -> Running | None:
        with engine(f"look for the container {spec.name!r}"):
            try:
                container = self._api.inspect_container(spec.name)
            except NotFound:
                return None
            if container["State"]["Status"] == "created":
                remove(self._api, container["Id"])
                return None
        running = DockerRunning(self._api, str(container["Id"]), spec)
        running.take_over()
        running.follow()
        return running

    def _create(self, spec: ContainerSpec, user: str) -> str:
        allowed = spec.network and spec.policy.network
        network = guarded_network(self._api) if allowed else "none"
        mounts = [Mount(WORKDIR, str(spec.work_dir.resolve()), type="bind")]
        together: dict[str, Any] = {}
        names: dict[str, Any] = {}
        if spec.peers is not None:
            mounts.append(Mount(PEERS_DIR, str(spec.peers.folder.resolve()), type="bind"))
            together, names = on_network(self._api, spec.peers, alone=not allowed)
        locks = hardening(spec, self._host_cpus, network, self._gpus)
        if spec.peers is not None:
            locks["network_mode"] = spec.peers.network
        config = self._api.create_host_config(mounts=mounts, **locks, **names)
        # The whole argv is the entry point: so neither the image's entry point nor its
        # default arguments get in between.
        environment = {
            "HOME": WORKDIR,
            **spec.env,
            **{name: f"{WORKDIR}/{path}" for name, path in spec.paths.items()},
            # The init passes signals on to the whole process group, not just to its child.
            "TINI_KILL_PROCESS_GROUP": "1",
        }
        try:
            container = self._api.create_container(
                spec.image,
                name=spec.name,
                entrypoint=list(spec.argv),
                environment=environment,
                working_dir=os.path.normpath(os.path.join(WORKDIR, spec.cwd)),
                user=user,
                labels=dict(spec.labels),
                stdin_open=bool(spec.stdin),
                host_config=config,
                **together,
            )
        except ImageNotFound as error:
            raise _unavailable(spec.image, text(error)) from error
        if spec.peers is not None and allowed:
            self._api.connect_container_to_network(container["Id"], network)
        return str(container["Id"])

    def cleanup(self, labels: Mapping[str, str], keep: Keep = keep_nothing) -> int:
        filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with engine("remove old containers"):
            containers = self._api.containers(all=True, filters=filters)
            unwanted = [c["Id"] for c in containers if not keep(c["Labels"])]
            for container in unwanted:
                remove(self._api, container)
        return len(unwanted)

    def data_root(self) -> Path | None:
        return self._data_root if self._data_root.is_dir() else None

    def remove_image(self, image: str) -> bool:
        with engine(f"remove the image {image!r}"):
            try:
                self._api.remove_image(image)
            except APIError as error:
                if error.status_code not in GONE:
                    raise
                return False
        return True

    def make_network(self, name: str) -> str:
        with engine(f"make the network {name!r}"):
            return closed_network(self._api, name)

    def remove_network(self, name: str) -> bool:
        try:
            self._api.remove_network(name)
        except ENGINE_ERRORS:
            return False
        return True

    def gpus(self) -> int:
        return self._gpus

    def check(self) -> None:
        with engine("ask the engine"):
            self._api.ping()

    def close(self) -> None:
        self._api.close()
        self._pull_api.close()


def _give_away(work_dir: Path) -> str:
    """Give the work folder to the sandbox user; return `uid:gid` for the container."""
    if os.geteuid() != 0:
        return f"{os.geteuid()}:{os.getegid()}"
    owner = work_dir.stat()
    if owner.st_uid == 0:
        for folder, folders, files in os.walk(work_dir):
            for name in (*folders, *files):
                os.chown(os.path.join(folder, name), SANDBOX_ID, SANDBOX_ID, follow_symlinks=False)
        # The folder itself comes last: its owner shows that the whole tree was changed.
        os.chown(work_dir, SANDBOX_ID, SANDBOX_ID)
        return f"{SANDBOX_ID}:{SANDBOX_ID}"
    return f"{owner.st_uid}:{owner.st_gid}"


def _unavailable(image: str, reason: str) -> ImageUnavailable:
    words = reason.lower()
    permanent = any(
        word in words
        for word in ("not found", "manifest unknown", "does not exist", "denied", "invalid")
    )
    advice = (
        "Check its name and tag; if it is private, log this machine in to its registry."
        if permanent
        else "Check this machine's network, or load the image with `docker load`."
    )
    return ImageUnavailable(image, reason.strip().rstrip("."), advice, permanent=permanent)
