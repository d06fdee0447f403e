"""Finding and killing what a command left running: its process group, and whatever it marked."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import NamedTuple

#: Environment variable that every process of a command inherits; its value is the spec's name.
MARKER = "SIMHERD_RUN"
#: Seconds between two looks while killed processes vanish.
_LOOK_S = 0.002


class _Stat(NamedTuple):
    state: str
    group: int
    session: int
    start_ticks: int


def start_ticks(pid: int) -> int | None:
    """When the process started, clock ticks since boot; None when there is no such process."""
    found = _stat(pid)
    return found.start_ticks if found else None


def kill_leftovers(
    name: str, leader: int | None, timeout_s: float, *, only_newer: bool = False
) -> bool:
    """SIGKILL every process of the command `name`; true when none is left after `timeout_s`.

    `leader` is the command's process, not yet reaped (so that its number is still its own), and
    its process group; None when it is not known to be. `only_newer` leaves out processes with
    a smaller number than the leader's: right for commands too short for the numbers to wrap.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if leader is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        first = leader + 1 if leader is not None and only_newer and _last_pid() >= leader else 0
        found = [pid for pid in _pids(first) if pid != leader and _belongs(pid, name, leader)]
        if not found:
            return True
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_S)


def members(name: str, leader: int) -> list[int]:
    """The living processes of a command: its leader's group and session, and what left them."""
    return [pid for pid in _pids(0) if _belongs(pid, name, leader)]


def _pids(first: int) -> list[int]:
    me = os.getpid()
    return [
        pid
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
        if pid >= first and pid != me
    ]


def _last_pid() -> int:
    """The number most recently given to a process."""
    with open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[-1])


def _belongs(pid: int, name: str, leader: int | None) -> bool:
    """Whether a living process is one of the command's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            marked = f"{MARKER}={name}".encode() in file.read().split(b"\0")
    except OSError:
        marked = False
    if not marked and leader is None:
        return False
    found = _stat(pid)
    if found is None or found.state in "ZX":
        return False
    return marked or leader in (found.group, found.session)


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The second field is the program's name, which may itself contain blanks and brackets.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Stat(fields[0].decode(), int(fields[2]), int(fields[3]), int(fields[19]))
