"""The processes of a running command as `top` shows them, by the CPU time they use now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from simherd.contract.archive.paths import CONTROL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Rows that are shown.
_ROWS = 100
#: Characters of a command line that are shown.
_COMMAND = 120


@dataclass(frozen=True)
class _Thread:
    pid: int
    tid: int
    state: str
    memory_bytes: int
    cpu_s: float
    command: str


def top(pids: Iterable[int], pause: Callable[[float], object], seconds: float = 0.3) -> str:
    """Return a table of the threads of these processes, measured over so many seconds."""
    ids = list(pids)
    before = {t.tid: t.cpu_s for t in _threads(ids)}
    began = time.monotonic()
    pause(seconds)
    passed = max(time.monotonic() - began, 1e-3)
    rows = [(100 * (t.cpu_s - before.get(t.tid, t.cpu_s)) / passed, t) for t in _threads(ids)]
    rows.sort(key=lambda row: -row[0])
    load = " ".join(f"{x:.2f}" for x in psutil.getloadavg())
    busy = sum(percent for percent, _ in rows)
    memory = psutil.virtual_memory()
    lines = [
        f"top: {len(ids)} processes, {len(rows)} threads, {busy:.1f} % CPU; load average {load}",
        f"memory of the machine: {memory.total >> 20} MiB, {memory.available >> 20} available",
        "",
        f"{'PID':>8} {'TID':>8} S {'%CPU':>6} {'MEM MiB':>9} {'TIME+':>10} COMMAND",
    ]
    for percent, thread in rows[:_ROWS]:
        lines.append(
            f"{thread.pid:>8} {thread.tid:>8} {thread.state} {percent:>6.1f} "
            f"{thread.memory_bytes / 2**20:>9.1f} {thread.cpu_s:>10.2f} {thread.command}"
        )
    if len(rows) > _ROWS:
        lines.append(f"… and {len(rows) - _ROWS} more")
    return "\n".join(lines)


def _threads(pids: Iterable[int]) -> list[_Thread]:
    threads = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            line = " ".join(process.cmdline()) or process.name()
            command = CONTROL.sub("?", line)[:_COMMAND]
            state = process.status()[:1].upper()
            memory = process.memory_info().rss
            for thread in process.threads():
                cpu = thread.user_time + thread.system_time
                threads.append(_Thread(pid, thread.id, state, memory, cpu, command))
        except psutil.Error:
            continue
    return threads
