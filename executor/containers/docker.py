"""Commands in Docker containers, locked down as far as a shared kernel allows."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Mount, Ulimit

from executor.containers.base import (
    KILL_WAIT_S,
    NOT_EXECUTABLE,
    NOT_FOUND,
    OPEN_FILES,
    SIGNAL_BASE,
    ContainerError,
    ContainerSpec,
    ContainerStuck,
    EngineUnavailable,
    Exit,
    ImageInfo,
    ImageUnavailable,
    refusal,
)
from executor.containers.handlers import warn
from executor.containers.logs import CappedLog, not_started
from executor.containers.streams import pump

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from docker import APIClient

    from executor.containers.base import Running

#: Where the work folder is inside the container, and HOME.
WORKDIR = "/workdir"
#: User and group of the command where the agent itself is root.
SANDBOX_ID = 10001
#: Size of the container's /tmp, bytes. It lives in memory and counts as such.
TMP_BYTES = 1024**3
#: Seconds for one call to the engine; starting a container on a busy disk takes many.
CALL_S = 120
#: Seconds without any word from the engine during a pull.
PULL_SILENCE_S = 600
#: Seconds one request for the end of a container stays open; then it is asked again.
WAIT_SLICE_S = 60
#: Seconds between two tries while the engine is away.
RETRY_S = 1.0
#: The engine's answers about a container that is gone, going, or not running any more.
_GONE = frozenset({404, 409})


def hardening(spec: ContainerSpec, host_cpus: float) -> dict[str, Any]:
    """Every limit and lock of a container; the only user values in it are sizes."""
    memory = {}
    if spec.memory_bytes is not None:
        # Memory plus swap: without the second an equal amount of swap would be added.
        memory = {"mem_limit": spec.memory_bytes, "memswap_limit": spec.memory_bytes}
    if spec.cpus is not None:
        # An engine refuses more than it has, and a local group's machine type may promise more.
        memory["nano_cpus"] = int(min(spec.cpus, host_cpus) * 1e9)
    # An engine that is itself confined cannot give more than it has; the agent, started on the
    # same machine, has the same.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    return {
        **memory,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "init": True,
        "ipc_mode": "private",
        "network_mode": "bridge" if spec.network else "none",
        "pids_limit": spec.pids,
        "shm_size": spec.shm_bytes,
        # Not noexec: some MPI launchers put small programs there.
        "tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={TMP_BYTES}"},
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
        """`base_url`: the engine's address; by default DOCKER_HOST or the local socket.

        Raises EngineUnavailable.
        """
        with _engine("reach the Docker engine"):
            self._api = _client(base_url, CALL_S)
            self._pull_api = _client(base_url, PULL_SILENCE_S)
            self._host_cpus = float(self._api.info()["NCPU"])

    def prepare(self, image: str) -> ImageInfo:
        with _engine(f"look for the image {image!r}"):
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
            raise _unavailable(image, _text(error)) from error
        except APIError as error:
            raise _unavailable(image, _text(error)) from error

    def start(self, spec: ContainerSpec) -> Running:
        if (exit_ := refusal(spec)) is not None:
            stderr = CappedLog(spec.stderr, spec.work_dir, spec.log_limit_bytes)
            return not_started(spec, exit_, stderr)
        user = _give_away(spec.work_dir)
        with _engine(f"start the container {spec.name!r}"):
            container = self._create(spec, user)
            running = None
            try:
                running = DockerRunning(self._api, container, spec)
                self._api.start(container)
                running.follow()
            except BaseException:
                with contextlib.suppress(DockerException, requests.RequestException):
                    _remove(self._api, container)
                if running is not None:
                    running.abandon()
                raise
        return running

    def _create(self, spec: ContainerSpec, user: str) -> str:
        config = self._api.create_host_config(
            mounts=[Mount(WORKDIR, str(spec.work_dir.resolve()), type="bind")],
            **hardening(spec, self._host_cpus),
        )
        # The whole argv is the entry point: so neither the image's entry point nor its
        # default arguments get in between.
        environment = {
            "HOME": WORKDIR,
            **spec.env,
            # The init passes signals on to the whole process group, not just to its child.
            "TINI_KILL_PROCESS_GROUP": "1",
        }
        try:
            made = self._api.create_container(
                spec.image,
                name=spec.name,
                entrypoint=list(spec.argv),
                environment=environment,
                working_dir=os.path.normpath(os.path.join(WORKDIR, spec.cwd)),
                user=user,
                labels=dict(spec.labels),
                stdin_open=bool(spec.stdin),
                host_config=config,
            )
        except ImageNotFound as error:
            raise _unavailable(spec.image, _text(error)) from error
        return str(made["Id"])

    def cleanup(self, labels: Mapping[str, str]) -> int:
        wanted = [f"{key}={value}" for key, value in labels.items()]
        with _engine("remove old containers"):
            found = self._api.containers(all=True, quiet=True, filters={"label": wanted})
            for container in found:
                _remove(self._api, container["Id"])
        return len(found)

    def close(self) -> None:
        self._api.close()
        self._pull_api.close()


class DockerRunning:
    """One container, and the thread that carries its output to the log files."""

    def __init__(self, api: APIClient, container: str, spec: ContainerSpec) -> None:
        self.name = spec.name
        self._api = api
        self._container = container
        self._stdin = spec.stdin
        with contextlib.ExitStack() as undo:
            out = CappedLog(spec.stdout, spec.work_dir, spec.log_limit_bytes)
            undo.callback(out.close)
            err = CappedLog(spec.stderr, spec.work_dir, spec.log_limit_bytes)
            undo.callback(err.close)
            # Attached before the start, so that no output is missed.
            self._socket = _attach(api, container, stdin=bool(spec.stdin))
            undo.pop_all()
        self._logs = (out, err)
        self._done = threading.Event()
        self._removed = threading.Event()
        self._exit = Exit(NOT_EXECUTABLE, message="The container's end was not seen.")
        self._thread = threading.Thread(
            target=self._follow, name=f"container-{spec.name}", daemon=True
        )

    def follow(self) -> None:
        """Start the thread; `remove` joins it."""
        self._thread.start()

    def abandon(self) -> None:
        """Close what was opened for a container that never started."""
        self._socket.close()
        for log in self._logs:
            log.close()

    def _follow(self) -> None:
        try:
            with contextlib.suppress(OSError):
                pump(self._socket, self._stdin, *self._logs)
            self._exit = self._ask_exit()
        finally:
            for log in self._logs:
                log.close()
            self._socket.close()
            self._done.set()

    def _ask_exit(self) -> Exit:
        """The container's end; waits through an engine that is away."""
        while not self._removed.is_set():
            try:
                self._api.wait(self._container, timeout=WAIT_SLICE_S)
                return _exit_of(self._api.inspect_container(self._container)["State"])
            except NotFound:
                break
            except requests.ReadTimeout:
                continue
            except (DockerException, requests.RequestException):
                self._removed.wait(RETRY_S)
        return Exit(SIGNAL_BASE + 9, 9, message="The container was removed while it ran.")

    def wait(self, timeout_s: float | None) -> Exit | None:
        return self._exit if self._done.wait(timeout_s) else None

    def signal(self, name: str) -> None:
        if self._done.is_set():
            return
        with _engine(f"signal the container {self.name!r}"):
            try:
                self._api.kill(self._container, name)
            except APIError as error:
                if error.status_code not in _GONE:
                    raise

    def warn(self, name: str) -> int:
        """See `Running`. The engine knows only all or one of a container's processes: those that
        handle the signal are found here, which needs the engine's machine, and root's rights."""
        return 0 if self._done.is_set() else warn(_members(self._container), name)

    def stop(self, grace_s: float) -> Exit:
        if grace_s > 0:
            self.signal("SIGTERM")
            self._done.wait(grace_s)
        self.signal("SIGKILL")
        if not self._done.wait(KILL_WAIT_S):
            raise ContainerStuck(f"The container {self.name!r} outlived SIGKILL.")
        return self._exit

    def remove(self) -> None:
        self._removed.set()
        try:
            with _engine(f"remove the container {self.name!r}"):
                _remove(self._api, self._container)
        finally:
            # The engine ends the stream; if it is away, the thread must end all the same.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()


def _client(base_url: str | None, timeout_s: int) -> APIClient:
    address = base_url or os.environ.get("DOCKER_HOST")
    return docker.APIClient(base_url=address, version="auto", timeout=timeout_s)


def _remove(api: APIClient, container: str) -> None:
    try:
        api.remove_container(container, force=True, v=True)
    except APIError as error:
        if error.status_code not in _GONE:
            raise


def _attach(api: APIClient, container: str, *, stdin: bool) -> socket.socket:
    params = {"stdin": int(stdin), "stdout": 1, "stderr": 1, "stream": 1}
    wrapped = api.attach_socket(container, params)
    # The SDK hands out a read-only file around the socket; stdin needs the socket itself.
    raw: socket.socket = getattr(wrapped, "_sock", wrapped)
    own = raw.dup()
    own.settimeout(None)
    wrapped.close()
    raw.close()
    return own


def _exit_of(state: Mapping[str, Any]) -> Exit:
    code = int(state["ExitCode"])
    signal = code - SIGNAL_BASE if SIGNAL_BASE < code <= SIGNAL_BASE + 64 else None
    oom = bool(state.get("OOMKilled"))
    message = str(state.get("Error") or "")
    if code == NOT_FOUND:
        message = message or "The command was not found in the image."
    elif code == NOT_EXECUTABLE:
        message = message or "The command cannot be executed."
    elif oom:
        message = message or "The memory limit was reached and a process was killed."
    return Exit(code, signal, oom, message)


def _give_away(work_dir: Path) -> str:
    """Make the work folder the sandbox user's own; returns `uid:gid` for the container."""
    if os.geteuid() != 0:
        return f"{os.geteuid()}:{os.getegid()}"
    owner = work_dir.stat()
    if owner.st_uid == 0:
        for folder, folders, files in os.walk(work_dir):
            for name in (*folders, *files):
                os.chown(os.path.join(folder, name), SANDBOX_ID, SANDBOX_ID, follow_symlinks=False)
        # The folder itself comes last: its owner says that all of it was done.
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


def _text(error: APIError) -> str:
    return str(error.explanation or error)


@contextlib.contextmanager
def _engine(action: str) -> Iterator[None]:
    """Turn the SDK's errors into ours; `action` completes `Could not …`."""
    try:
        yield
    except APIError as error:
        kind = ContainerError if error.is_client_error() else EngineUnavailable
        raise kind(f"Could not {action}: {_text(error)}") from error
    except (DockerException, requests.RequestException) as error:
        raise EngineUnavailable(f"Could not {action}: {error}") from error


def _members(container: str) -> list[int]:
    """The processes of a container on this machine, by their control group's name."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cgroup", "rb") as file:
                if container.encode() in file.read():
                    found.append(int(entry))
    return found
