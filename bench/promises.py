"""Figures of the executor's promises: what an idle agent costs, how fast a kill is, what an upload
needs of the disk."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path

    from bench.simherd_side import SimherdSide

_MIB = 1024**2
#: Seconds over which an idle agent's CPU time is measured.
_IDLE_S = 30
#: Seconds that it has for starting first.
_SETTLE_S = 3
#: Size of the outputs whose upload is watched, bytes; random, so that nothing compresses them.
_OUTPUT_BYTES = 256 * _MIB


def idle_agent(data: Path) -> tuple[float, float]:
    """Memory (unique set size, bytes) and CPU share (of one core) of an agent without work."""
    while not (files := list((data / "machines").glob("*/agent.pid"))):
        time.sleep(0.05)
    agent = psutil.Process(int(files[0].read_text()))
    time.sleep(_SETTLE_S)
    before = agent.cpu_times()
    time.sleep(_IDLE_S)
    after = agent.cpu_times()
    used = after.user + after.system - before.user - before.system
    return agent.memory_full_info().uss, used / _IDLE_S


def kills(side: SimherdSide, folder: Path, count: int) -> tuple[list[float], list[float]]:
    """Seconds from the request to kill to SIGTERM in the simulation, and to its final status."""
    to_signal, to_end = [], []
    for number in range(count):
        stamp = folder / f"killed-{number}"
        script = f"trap \"date +%s.%N > '{stamp}'; exit 0\" TERM; while :; do sleep 0.001; done"
        task = side.run(["sh", "-c", script])
        side.wait_for_start(task)
        asked = time.time()
        side.kill(task)
        ended = side.wait(task)
        to_signal.append(float(stamp.read_text()) - asked)
        to_end.append(datetime.fromisoformat(ended["end_time"]).timestamp() - asked)
    return to_signal, to_end


def disk_use(side: SimherdSide, data: Path) -> tuple[int, int]:
    """Bytes of outputs, and what the machine's disk held beyond them at the most."""
    stop, most = threading.Event(), [0]

    def watch() -> None:
        while not stop.wait(0.005):
            most[0] = max(most[0], _use(data / "machines"))

    before = _use(data / "machines")
    thread = threading.Thread(target=watch)
    thread.start()
    command = f"head -c {_OUTPUT_BYTES} /dev/urandom > output.bin"
    side.wait(side.run(["sh", "-c", command]))
    stop.set()
    thread.join()
    return _OUTPUT_BYTES, most[0] - before - _OUTPUT_BYTES


def _use(folder: Path) -> int:
    """Bytes in a folder, and in the file systems that are mounted below it."""
    total, device = 0, folder.stat().st_dev
    for inside, names, files in os.walk(folder):
        for mount in [n for n in names if os.path.ismount(os.path.join(inside, n))]:
            names.remove(mount)
            found = os.statvfs(os.path.join(inside, mount))
            total += (found.f_blocks - found.f_bfree) * found.f_frsize
        for name in files:
            try:
                found_file = os.lstat(os.path.join(inside, name))
            except FileNotFoundError:
                continue
            # What is written to a file system's image was counted above.
            if found_file.st_dev == device and not name.endswith(".img"):
                total += found_file.st_blocks * 512
    return total
