"""The resource usage of a command, read from its control group or its processes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Usage:
    """The usage at one moment. Counters count from the command's start."""

    cpu_s: float = 0.0
    #: The working set, without page cache that the kernel can reclaim.
    memory_bytes: int = 0
    processes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    #: Processes that the kernel killed because memory ran out.
    oom_kills: int = 0
    #: How often a new process was refused.
    pids_refused: int = 0
    #: The highest values so far, from the kernel; 0 where it does not know them.
    memory_peak_bytes: int = 0
    processes_peak: int = 0


class Cgroup:
    """The control groups (v1 or v2) of a container, found by one of its processes."""

    def __init__(self, pid: int) -> None:
        """Raise OSError when there is no such process, LookupError without control groups."""
        self._places = _places(pid)
        self._unified = "" in self._places and "memory" not in self._places
        if not self._unified and "memory" not in self._places:
            raise LookupError("the container has no control group for memory")

    def read(self) -> Usage:
        """Return the usage now. Raises OSError when the container is gone."""
        return self._read_v2() if self._unified else self._read_v1()

    def alarms(self) -> list[IO[bytes]]:
        """Return files that poll as urgent when a limit is met; the caller closes them."""
        names = {"pids": "pids.events", "memory": "memory.events", "": "pids.events"}
        files = [place / names[kind] for kind, place in self._places.items() if kind in names]
        if self._unified:
            files.append(self._places[""] / "memory.events")
        return [path.open("rb", buffering=0) for path in files if path.exists()]

    def _read_v1(self) -> Usage:
        memory, pids = self._places["memory"], self._places.get("pids")
        stat = _table(memory / "memory.stat")
        used = _number(memory / "memory.usage_in_bytes") - stat.get("total_inactive_file", 0)
        usage = Usage(
            memory_bytes=max(0, used),
            oom_kills=_table(memory / "memory.oom_control").get("oom_kill", 0),
            memory_peak_bytes=_number(memory / "memory.max_usage_in_bytes"),
        )
        if "cpuacct" in self._places:
            usage = replace(usage, cpu_s=_number(self._places["cpuacct"] / "cpuacct.usage") / 1e9)
        if pids is not None:
            usage = replace(usage, **_pids(pids))
        if "blkio" in self._places:
            read, written = _blkio(self._places["blkio"] / "blkio.throttle.io_service_bytes")
            usage = replace(usage, read_bytes=read, written_bytes=written)
        return usage

    def _read_v2(self) -> Usage:
        place = self._places[""]
        stat = _table(place / "memory.stat")
        used = _number(place / "memory.current") - stat.get("inactive_file", 0)
        io = [
            dict(pair.split("=") for pair in line.split()[1:])
            for line in _text(place / "io.stat").splitlines()
        ]
        return Usage(
            cpu_s=_table(place / "cpu.stat").get("usage_usec", 0) / 1e6,
            memory_bytes=max(0, used),
            read_bytes=sum(int(device.get("rbytes", 0)) for device in io),
            written_bytes=sum(int(device.get("wbytes", 0)) for device in io),
            oom_kills=_table(place / "memory.events").get("oom_kill", 0),
            memory_peak_bytes=_number(place / "memory.peak"),
            **_pids(place),
        )


def of_processes(pids: Iterable[int]) -> Usage:
    """Return the usage of these processes together, without those that have ended."""
    cpu, memory, count, read, written = 0.0, 0, 0, 0, 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                times, io = process.cpu_times(), process.io_counters()
                cpu += times.user + times.system + times.children_user + times.children_system
                memory += process.memory_info().rss
                read, written = read + io.read_bytes, written + io.write_bytes
            count += 1
    return Usage(cpu, memory, count, read, written)


def _places(pid: int) -> dict[str, Path]:
    """Return the folder of each controller; the unified hierarchy has the name ''."""
    mounts: dict[str, Path] = {}
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        place = Path(before.split()[4])
        if kind == "cgroup2":
            mounts[""] = place
        elif kind == "cgroup":
            mounts |= {name: place for name in options.split()[-1].split(",")}
    places = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            if name in mounts:
                places[name] = mounts[name] / path.lstrip("/")
    return places


def _pids(place: Path) -> dict[str, int]:
    return {
        "processes": _number(place / "pids.current"),
        "processes_peak": _number(place / "pids.peak"),
        "pids_refused": _table(place / "pids.events").get("max", 0),
    }


def _blkio(path: Path) -> tuple[int, int]:
    sums = {"Read": 0, "Write": 0}
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in sums:
            sums[words[1]] += int(words[2])
    return sums["Read"], sums["Write"]


def _text(path: Path) -> str:
    """Return a file's text; empty where the kernel does not have the file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0


def _table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}
