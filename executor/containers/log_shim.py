"""The process that writes a container's output to its log files, and outlives the agent.

When an agent is killed or replaced, the next one finds the shim at work: no byte is missing from
the logs, and none is there twice. It needs the standard library alone, and is started by `LogShim`
with the open descriptors:

    python -S -m executor.containers.log_shim SOCKET STDOUT STDERR LOCK LIMIT < input
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from executor.containers.logs import CappedLog, open_log
from executor.containers.streams import pump

if TYPE_CHECKING:
    from executor.containers.base import ContainerSpec

#: Written to the lock file at the stream's end; without it the stream was cut.
_ENDED = b"end"


class LogShim:
    """A handle on a log shim, also of one that an earlier agent started. The lock file, beside the
    work folder, holds the process id; while it is locked, the id is valid."""

    def __init__(
        self, lock: Path, pid: int | None, process: subprocess.Popen[bytes] | None
    ) -> None:
        self._lock = lock
        self._process = process
        self._pidfd = None if pid is None else _open_pid(pid)
        if self._pidfd is not None and process is None and not _is_locked(lock):
            # It ended meanwhile, and another process may have its id by now.
            os.close(self._pidfd)
            self._pidfd = None

    @classmethod
    def start(cls, sock: socket.socket, spec: ContainerSpec, stdin: int) -> LogShim:
        """Start a shim that reads from `sock`. Raises OSError when a log cannot be opened."""
        path = _lock_file(spec)
        with contextlib.ExitStack() as opened:
            files = []
            for log in (spec.stdout, spec.stderr):
                files.append(open_log(log, spec.work_dir))
                opened.callback(os.close, files[-1])
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            opened.callback(os.close, lock)
            # The shim inherits the lock with the descriptor; it ends with the process.
            fcntl.flock(lock, fcntl.LOCK_EX)
            passed = (sock.fileno(), *files, lock)
            process = subprocess.Popen(
                [sys.executable, "-S", "-m", "executor.containers.log_shim"]
                + [str(number) for number in (*passed, spec.log_limit_bytes)],
                pass_fds=passed,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=path.parent,
                env={"PYTHONPATH": str(Path(__file__).parents[2]), "LANG": "C.UTF-8"},
                start_new_session=True,
            )
            os.write(lock, f"{process.pid}\n".encode())
        return cls(path, process.pid, process)

    @classmethod
    def find(cls, spec: ContainerSpec) -> LogShim | None:
        """Return the shim of an earlier agent, at work or not; None when there was none."""
        path = _lock_file(spec)
        try:
            pid = int(path.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return cls(path, pid if _is_locked(path) else None, None)

    def wait(self) -> bool:
        """Block until it has ended; return whether the stream came to its end."""
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll()
            os.close(self._pidfd)
            self._pidfd = None
        if self._process is not None:
            self._process.wait()
        with contextlib.suppress(FileNotFoundError):
            return self._lock.read_bytes().endswith(_ENDED)
        return True

    def kill(self) -> None:
        """End it at once; `wait` then returns."""
        with contextlib.suppress(OSError, TypeError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # type: ignore[arg-type]

    def forget(self) -> None:
        """Remove the lock file."""
        self._lock.unlink(missing_ok=True)


def _lock_file(spec: ContainerSpec) -> Path:
    return spec.work_dir.parent / f"{spec.name}.carrier"


def _open_pid(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _is_locked(path: Path) -> bool:
    """Return whether the process with the lock still lives."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def main() -> None:
    """Write the logs until the stream ends."""
    number, out, err, lock, limit = map(int, sys.argv[1:])
    logs = (CappedLog(out, limit), CappedLog(err, limit))
    with open(0, "rb") as file:
        stdin = file.read()
    try:
        with socket.socket(fileno=number) as sock:
            pump(sock, stdin, *logs)
    except OSError:
        return
    finally:
        for log in logs:
            log.close()
    os.write(lock, _ENDED)


if __name__ == "__main__":
    main()
