"""Finding and killing what a command left running, by process group and by a marker."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import NamedTuple

#: Environment variable that every process of a command inherits; its value is the spec's name.
MARKER = "SIMHERD_RUN"
#: Seconds between two checks while killed processes vanish.
_LOOK_S = 0.002


class _Stat(NamedTuple):
    state: str
    group: int
    session: int
    start_ticks: int


def start_ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None when it does not exist."""
    stat = _stat(pid)
    return stat.start_ticks if stat else None


def kill_leftovers(
    name: str, leader: int | None, timeout_s: float, *, only_newer: bool = False
) -> bool:
    """Send SIGKILL to every process of the command `name`; return whether all ended in `timeout_s`.

    `leader` is the command's process and process group, not yet reaped, so that its number cannot
    belong to another one; None when it is unknown. `only_newer` leaves out processes with
    a smaller number than the leader's: right for commands too short for the numbers to wrap.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if leader is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        first = leader + 1 if leader is not None and only_newer and _last_pid() >= leader else 0
        pids = [pid for pid in _pids(first) if pid != leader and _belongs(pid, name, leader)]
        if not pids:
            return True
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_S)


def members(name: str, leader: int) -> list[int]:
    """Return the living processes of a command, those that left its group and session included."""
    return [pid for pid in _pids(0) if _belongs(pid, name, leader)]


def _pids(first: int) -> list[int]:
    me = os.getpid()
    return [
        pid
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
        if pid >= first and pid != me
    ]


def _last_pid() -> int:
    """Return the id most recently given to a process."""
    with open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[-1])


def _belongs(pid: int, name: str, leader: int | None) -> bool:
    """Return whether a living process belongs to the command."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            marked = f"{MARKER}={name}".encode() in file.read().split(b"\0")
    except OSError:
        marked = False
    if not marked and leader is None:
        return False
    stat = _stat(pid)
    if stat is None or stat.state in "ZX":
        return False
    return marked or leader in (stat.group, stat.session)


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The second field is the program's name, which may itself contain blanks and brackets.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Stat(fields[0].decode(), int(fields[2]), int(fields[3]), int(fields[19]))
