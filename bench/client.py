"""Figures of the client: how soon it hears of things, how long it takes to submit and to fetch."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from simherd import config, simulators, tasks
from simherd.transfers import ranged_download

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.simherd_side import SimherdSide

#: Says each moment at which it writes a line, when it gets a line.
_CLOCK = """
import os, sys, time
for n in range(%d):
    while not os.path.exists(f"go-{n}"):
        time.sleep(0.001)
    print(time.time(), flush=True)
while not os.path.exists("stop"):
    time.sleep(0.01)
"""
_OUTPUT_BYTES = 256 * 1024**2


def connect(side: SimherdSide) -> None:
    """Have the client of this process talk to `side`."""
    os.environ[config.URL_VARIABLE] = str(side.api.base_url).rstrip("/")
    os.environ[config.KEY_VARIABLE] = side.api.headers["X-API-Key"]


def sweep(folder: Path, count: int) -> float:
    """Seconds to submit so many cases, each with its own file beside 1 MiB that they share."""
    shared = folder / "shared"
    shared.mkdir()
    (shared / "mesh.bin").write_bytes(os.urandom(1024**2))
    cases = [{"files": {"case.txt": str(n)}} for n in range(count)]
    began = time.monotonic()
    made = simulators.CustomImage("bench").run_sweep(cases, shared_dir=shared, commands=["true"])
    passed = time.monotonic() - began
    tasks.wait(made, silent_mode=True)
    return passed


def hears_of_ends(count: int) -> list[float]:
    """Seconds from a task's end to the return of `wait`."""
    found = []
    for _ in range(count):
        task = simulators.CustomImage("bench").run(commands=["true"])
        task.wait(silent_mode=True, download_std_on_completion=False)
        heard = time.time()
        found.append(heard - datetime.fromisoformat(task.get_info()["end_time"]).timestamp())
    return found


def sees(side: SimherdSide, count: int) -> tuple[list[float], list[float]]:
    """Seconds from the writing of a line to its sight by somebody who follows, and for a list of
    files of a running task."""
    task = simulators.CustomImage("bench").run(
        commands=["python3 clock.py"], files={"clock.py": _CLOCK % count}
    )
    seen: list[float] = []
    writer: Any = _Lines(lambda line: seen.append(time.time() - float(line)))
    follower = threading.Thread(
        target=task.tail_files, args=(["stdout.txt"], 0, True, writer), kwargs={"wait": True}
    )
    follower.start()
    side.wait_for_start(task.id)
    time.sleep(1)  # until it follows
    (work,) = (side.data / "machines").glob(f"*/attempts/{task.id}-1/work")
    listed = []
    for number in range(count):
        (work / f"go-{number}").touch()
        while len(seen) <= number:
            time.sleep(0.001)
        began = time.monotonic()
        task.get_files()
        listed.append(time.monotonic() - began)
    (work / "stop").touch()
    follower.join()
    return seen, listed


class _Lines:
    """Hands on each whole line that is a number."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line[:1].isdigit():
                self._on_text(line)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def download(folder: Path) -> float:
    """Bytes a second of a large archive."""
    line = f"dd if=/dev/urandom of=out.bin bs=1M count={_OUTPUT_BYTES >> 20}"
    task = simulators.CustomImage("bench").run(commands=[line], compress=False)
    task.wait(silent_mode=True, download_std_on_completion=False)
    url = task.get_output_url()
    assert url is not None
    began = time.monotonic()
    ranged_download.download(url, folder / "output.zip")
    return (folder / "output.zip").stat().st_size / (time.monotonic() - began)
