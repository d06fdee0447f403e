"""Commands as plain processes of this machine. INSECURE: nothing separates them from the agent.

For machines without a container engine, where every user is trusted. A command sees the whole
file system and network, and runs as the agent's user; memory, cpu, pids and shm limits are
ignored. What it leaves running is found by its process group and by the marker in its
environment; a daemon that leaves the group and clears its environment escapes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING

from executor.containers.base import (
    KILL_WAIT_S,
    NOT_EXECUTABLE,
    NOT_FOUND,
    SIGNAL_BASE,
    ContainerError,
    ContainerLost,
    ContainerSpec,
    ContainerStuck,
    Exit,
    ImageInfo,
    keep_nothing,
    refusal,
)
from executor.containers.leftovers import MARKER, kill_leftovers, members, start_ticks
from executor.containers.logs import CappedLog, not_started, open_capped
from executor.containers.signals import warn
from executor.containers.stdin_file import memory_file
from executor.containers.usage import Usage, of_processes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from executor.containers.base import Keep, Running

#: Seconds between two checks of the logs' size, between which a log can exceed its limit.
TICK_S = 0.1


class ProcessBackend:
    """Runs commands in process groups; `state_dir` holds a record of each, for a later agent."""

    name = "process"

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def prepare(self, image: str) -> ImageInfo:
        return ImageInfo(0, "host")

    def start(self, spec: ContainerSpec) -> Running:
        with contextlib.ExitStack() as undo:
            out = open_capped(spec.stdout, spec)
            undo.callback(out.close)
            err = open_capped(spec.stderr, spec)
            undo.callback(err.close)
            if (exit_ := refusal(spec)) is not None:
                return not_started(spec, exit_, err)
            note = _Note(self._state_dir, spec)
            undo.callback(note.remove)
            try:
                process = _spawn(spec, out, err)
            except OSError as error:
                return not_started(spec, _exec_error(spec, error), err)
            # From here on there is a process, which must not stay when it cannot be managed.
            undo.callback(process.wait)
            undo.callback(kill_leftovers, spec.name, process.pid, KILL_WAIT_S)
            note.started(process.pid)
            running = ProcessRunning(spec.name, process, out, err, note)
            undo.pop_all()
        return running

    def adopt(self, spec: ContainerSpec) -> Running | None:
        """See `ContainerBackend`. Only the process that started a command learns its exit code,
        so a command of an earlier agent is ended here."""
        path = self._state_dir / f"{spec.name}.json"
        if not path.exists():
            return None
        self._end(path)
        raise ContainerLost("The executor broke down while the task ran, and was started again.")

    def cleanup(self, labels: Mapping[str, str], keep: Keep = keep_nothing) -> int:
        count = 0
        for path in self._state_dir.glob("*.json"):
            try:
                actual = json.loads(path.read_text().splitlines()[0])["labels"]
            except (OSError, ValueError, IndexError):
                continue
            if labels.items() <= actual.items() and not keep(actual):
                self._end(path)
                count += 1
        return count

    @staticmethod
    def _end(path: Path) -> None:
        """Kill the processes of a record."""
        command, *pids = [json.loads(line) for line in path.read_text().splitlines()]
        # Another process may have got the same id since.
        ours = [p["pid"] for p in pids if start_ticks(p["pid"]) == p["ticks"]]
        kill_leftovers(command["name"], ours[0] if ours else None, KILL_WAIT_S)
        path.unlink(missing_ok=True)

    def data_root(self) -> Path | None:
        return None

    def remove_image(self, image: str) -> bool:
        return False

    def make_network(self, name: str) -> str:
        raise ContainerError("Machines work together only where simulations run in containers.")

    def remove_network(self, name: str) -> bool:
        return False

    def gpus(self) -> int:
        # What the machine has, every process has.
        return 0

    def check(self) -> None:
        return None

    def close(self) -> None:
        return None


class _Note:
    """The file that names a process for a later agent. Its first line is written before the process
    starts: an agent killed in between leaves a marker to search for."""

    def __init__(self, state_dir: Path, spec: ContainerSpec) -> None:
        self._path = state_dir / f"{spec.name}.json"
        first = {"name": spec.name, "labels": dict(spec.labels)}
        self._path.write_text(json.dumps(first) + "\n")

    def started(self, pid: int) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"pid": pid, "ticks": start_ticks(pid)}) + "\n")

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class ProcessRunning:
    """A `Running` of a process group. It needs no thread: the caller of `wait` trims the logs."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        stdout: CappedLog,
        stderr: CappedLog,
        note: _Note,
    ) -> None:
        self.name = name
        self._process = process
        self._logs = (stdout, stderr)
        self._note = note
        self._started = time.monotonic()
        self._pidfd = os.pidfd_open(process.pid)
        self._exit: Exit | None = None
        self._removed = False
        # Held while the process is reaped, so that no signal reaches a later process with its id.
        self._lock = threading.Lock()

    def wait(self, timeout_s: float | None) -> Exit | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._exit is None:
            left = TICK_S if deadline is None else min(TICK_S, deadline - time.monotonic())
            if _poll(self._pidfd, max(left, 0.0)):
                return self._finish()
            self._trim()
            if deadline is not None and time.monotonic() >= deadline:
                return self._exit
        return self._exit

    def _finish(self) -> Exit:
        """Kill what the command left running, reap it, complete the logs."""
        with self._lock:
            if self._exit is None:
                pid = self._process.pid
                quick = time.monotonic() - self._started < 1.0
                gone = kill_leftovers(self.name, pid, KILL_WAIT_S, only_newer=quick)
                exit_ = _exit_of(self._process.wait())
                for log in self._logs:
                    log.trim()
                    log.close()
                self._exit = exit_
                if not gone:
                    raise ContainerStuck(f"Processes of {self.name!r} outlived SIGKILL.")
        return self._exit

    def _trim(self) -> None:
        with self._lock:
            if self._exit is None:
                for log in self._logs:
                    log.trim()

    def signal(self, name: str) -> None:
        with self._lock:
            if self._exit is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.Signals[name])

    def warn(self, name: str) -> int:
        with self._lock:
            return 0 if self._exit else warn(members(self.name, self._process.pid), name)

    def processes(self) -> list[int]:
        with self._lock:
            return [] if self._exit else members(self.name, self._process.pid)

    def usage(self) -> Usage | None:
        with self._lock:
            if self._exit is not None:
                return None
            pids = members(self.name, self._process.pid)
        return of_processes(pids)

    def alarms(self) -> list[IO[bytes]]:
        """See `Running`. Processes without a control group have no limits to meet."""
        return []

    def stop(self, grace_s: float) -> Exit:
        if grace_s > 0:
            self.signal("SIGTERM")
            if (exit_ := self.wait(grace_s)) is not None:
                return exit_
        self.signal("SIGKILL")
        if (exit_ := self.wait(KILL_WAIT_S)) is None:
            raise ContainerStuck(f"The process {self.name!r} outlived SIGKILL.")
        return exit_

    def remove(self) -> None:
        self.stop(0)
        with self._lock:
            if not self._removed:
                self._removed = True
                # Not before: without the record a later agent would take the command as never run.
                self._note.remove()
                os.close(self._pidfd)


def _poll(pidfd: int, timeout_s: float) -> bool:
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    return bool(ended.poll(timeout_s * 1000))


def _spawn(spec: ContainerSpec, out: CappedLog, err: CappedLog) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(spec.work_dir),
        "LANG": "C.UTF-8",
        **spec.env,
        **{name: str(spec.work_dir / path) for name, path in spec.paths.items()},
        MARKER: spec.name,
    }
    with memory_file(spec.stdin) as stdin:
        process = subprocess.Popen(
            spec.argv,
            cwd=os.path.join(spec.work_dir, spec.cwd),
            env=environment,
            stdin=stdin,
            stdout=out.fileno(),
            stderr=err.fileno(),
            start_new_session=True,
        )
    # From outside, a moment late: a hook between fork and exec would cost the fast path
    # (vfork) and is unsafe in a process with threads.
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        _, most = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        files = spec.policy.open_files
        files = files if most == resource.RLIM_INFINITY else min(files, most)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))
    return process


def _exec_error(spec: ContainerSpec, error: OSError) -> Exit:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Exit(NOT_FOUND, message=f"The command {spec.argv[0]!r} was not found.")
    reason = error.strerror or str(error)
    return Exit(NOT_EXECUTABLE, message=f"{spec.argv[0]!r} cannot be executed: {reason}.")


def _exit_of(returncode: int) -> Exit:
    if returncode < 0:
        return Exit(SIGNAL_BASE - returncode, -returncode)
    return Exit(returncode)
