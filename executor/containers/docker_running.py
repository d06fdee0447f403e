"""One container that was started: followed, signalled, stopped, or taken over."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import IO, TYPE_CHECKING, Any

import requests
from docker.errors import APIError, NotFound, create_api_error_from_http_exception

from executor.containers.base import (
    KILL_WAIT_S,
    NOT_EXECUTABLE,
    NOT_FOUND,
    SIGNAL_BASE,
    ContainerLost,
    ContainerStuck,
    Exit,
)
from executor.containers.engine import ENGINE_ERRORS, GONE, engine, remove
from executor.containers.log_shim import LogShim
from executor.containers.signals import warn
from executor.containers.stdin_file import memory_file
from executor.containers.usage import Cgroup, Usage
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import APIClient

    from executor.containers.base import ContainerSpec

log = logging.getLogger(__name__)

#: Seconds that one request for the end of a container stays open before it is repeated.
WAIT_SLICE_S = 60
#: Seconds between two tries while the engine is unavailable.
RETRY_S = 1.0
#: Exit codes of a container that was stopped together with its engine.
_WITH_ENGINE = frozenset({SIGNAL_BASE + 9, SIGNAL_BASE + 15, 255})


class DockerRunning:
    """A `Running` that is one container, and the thread that waits for its end."""

    def __init__(self, api: APIClient, container: str, spec: ContainerSpec) -> None:
        self.name = spec.name
        self._api = api
        self._container = container
        self._spec = spec
        self._shim: LogShim | None = None
        self._done = threading.Event()
        self._removed = threading.Event()
        self._cgroup: Cgroup | None = None
        self._engine_was_unavailable = False
        self._lost = False
        self._exit = Exit(NOT_EXECUTABLE, message="The container's end was not seen.")
        self._thread = threading.Thread(
            target=in_context(self._follow), name=f"container-{spec.name}", daemon=True
        )

    def attach(self, stdin: bytes) -> None:
        """Send the output to the logs; before the start, so that none is missed."""
        with (
            _attached(self._api, self._container, stdin=bool(stdin)) as sock,
            memory_file(stdin) as feed,
        ):
            self._shim = LogShim.start(sock, self._spec, feed)

    def take_over(self) -> None:
        """Take over the log shim that an earlier agent started."""
        self._shim = LogShim.find(self._spec)

    def follow(self) -> None:
        """Start the thread; `remove` joins it."""
        self._thread.start()

    def abandon(self) -> None:
        """End the log shim of a container that never started."""
        if self._shim is not None:
            self._shim.kill()
            self._shim.wait()
            self._shim.forget()

    def _follow(self) -> None:
        try:
            self._await_output()
            self._exit = self._await_exit()
        finally:
            self._done.set()

    def _await_output(self) -> None:
        """Wait until all output is in the logs; start another log shim when one breaks down."""
        while not (self._shim is not None and self._shim.wait()):
            try:
                if self._removed.is_set() or not self._is_running():
                    return
                log.warning("event=output_attached_again container=%s", self.name)
                self.attach(b"")
            except ENGINE_ERRORS:
                self._engine_was_unavailable = True
                self._removed.wait(RETRY_S)

    def _is_running(self) -> bool:
        try:
            return bool(self._api.inspect_container(self._container)["State"]["Running"])
        except NotFound:
            return False

    def _await_exit(self) -> Exit:
        """Wait for the container's end, also while the engine is unavailable."""
        while not self._removed.is_set():
            try:
                self._api.wait(self._container, timeout=WAIT_SLICE_S)
                ended = _exit_of(self._api.inspect_container(self._container)["State"])
            except NotFound:
                break
            except requests.ReadTimeout:
                continue
            except ENGINE_ERRORS:
                self._engine_was_unavailable = True
                self._removed.wait(RETRY_S)
            else:
                self._lost = self._engine_was_unavailable and ended.code in _WITH_ENGINE
                return ended
        return Exit(SIGNAL_BASE + 9, 9, message="The container was removed while it ran.")

    def wait(self, timeout_s: float | None) -> Exit | None:
        if not self._done.wait(timeout_s):
            return None
        if self._lost:
            raise ContainerLost("The container engine was stopped, and the simulation with it.")
        return self._exit

    def signal(self, name: str) -> None:
        if self._done.is_set():
            return
        with engine(f"signal the container {self.name!r}"):
            try:
                self._api.kill(self._container, name)
            except APIError as error:
                if error.status_code not in GONE:
                    raise

    def warn(self, name: str) -> int:
        """See `Running`. The engine signals all or one of a container's processes: those that
        handle the signal are found here, which needs the engine's machine and root's rights."""
        return 0 if self._done.is_set() else warn(_members(self._container), name)

    def processes(self) -> list[int]:
        return [] if self._done.is_set() else _members(self._container)

    def usage(self) -> Usage | None:
        if self._done.is_set():
            return None
        try:
            if self._cgroup is None:
                pid = int(self._api.inspect_container(self._container)["State"]["Pid"])
                self._cgroup = Cgroup(pid) if pid else None
            return self._cgroup.read() if self._cgroup is not None else None
        except (OSError, LookupError, *ENGINE_ERRORS):
            return None

    def alarms(self) -> list[IO[bytes]]:
        try:
            self.usage()
            return self._cgroup.alarms() if self._cgroup is not None else []
        except OSError:
            return []

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
            with engine(f"remove the container {self.name!r}"):
                remove(self._api, self._container)
        finally:
            # The engine ends the stream; if it is unavailable, the thread must end all the same.
            if self._shim is not None and not self._done.wait(RETRY_S):
                self._shim.kill()
            self._thread.join()
            if self._shim is not None:
                self._shim.forget()


@contextlib.contextmanager
def _attached(api: APIClient, container: str, *, stdin: bool) -> Any:
    """Return the blocking socket of a container's output and input."""
    response = api.post(
        f"{api.base_url}/v{api.api_version}/containers/{container}/attach",
        params={"stdin": int(stdin), "stdout": 1, "stderr": 1, "stream": 1},
        headers={"Connection": "Upgrade", "Upgrade": "tcp"},
        stream=True,
        timeout=api.timeout,
    )
    with contextlib.closing(response):
        try:
            response.raise_for_status()
        except requests.HTTPError as error:
            raise create_api_error_from_http_exception(error) from error
        # Not `attach_socket`: it returns a read-only file around the socket, and stdin needs the
        # socket itself.
        connection = response.raw.connection
        assert connection is not None
        connection.sock.settimeout(None)
        yield connection.sock


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


def _members(container: str) -> list[int]:
    """Return the processes of a container on this machine, by their control group's name."""
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cgroup", "rb") as file:
                if container.encode() in file.read():
                    pids.append(int(entry))
    return pids
