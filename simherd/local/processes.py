"""Child processes that are watched, restarted when they die, and stopped in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Before a process that died is started again; the wait doubles while it keeps dying.
_BACKOFF = Backoff(0.2, 10.0)
#: A process that lived this long, seconds, is taken to have been well.
_WELL_S = 30.0


@dataclass
class Child:
    """One process: what starts it, and how it has been."""

    name: str
    argv: list[str]
    env: Mapping[str, str]
    log: Path
    pid_file: Path
    cwd: Path
    stdin: bytes = b""
    process: subprocess.Popen[bytes] | None = None
    _started_at: float = 0.0
    _deaths: int = 0
    _due_at: float = field(default=0.0)

    def start(self) -> None:
        """Start it, in a session of its own so that Ctrl-C reaches only us."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                env=dict(self.env),
                cwd=self.cwd,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid_file.write_text(f"{self.process.pid}\n")
        assert self.process.stdin is not None
        with self.process.stdin as pipe:
            pipe.write(self.stdin)
        self._started_at = time.monotonic()

    def look(self) -> bool:
        """Start it again if it died, not too often; answers whether it was started."""
        if self.process is None or self.process.poll() is None:
            return False
        now = time.monotonic()
        if not self._due_at:
            if now - self._started_at > _WELL_S:
                self._deaths = 0
            self._deaths += 1
            self._due_at = now + _BACKOFF.after(self._deaths)
        if now < self._due_at:
            return False
        self._due_at = 0.0
        kill_group(self.process.pid)
        self.start()
        return True

    def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s` seconds."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            kill_group(self.process.pid)
        self.pid_file.unlink(missing_ok=True)


def stop_left_over(pid_file: Path, word: str, grace_s: float, asked: int = signal.SIGTERM) -> bool:
    """Stop the process that a pid file names, if it is alive and its command line has `word`.

    It is `asked` by that signal, and forced after `grace_s` seconds. It need not be a child of
    ours. Answers whether there was one.
    """
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return False
    found = _is(pid, word)
    if found:
        os.kill(pid, asked)
        end = time.monotonic() + grace_s
        while _is(pid, word) and time.monotonic() < end:
            time.sleep(0.02)
        if _is(pid, word):
            os.kill(pid, signal.SIGKILL)
        kill_group(pid)
    pid_file.unlink(missing_ok=True)
    return found


def kill_group(leader: int) -> None:
    """SIGKILL what a process that led its own group has left behind, such as pool children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _is(pid: int, word: str) -> bool:
    """Whether `pid` is alive, is no zombie, and is the kind of process we think."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return word.encode() in file.read()
    except OSError:
        return False
