"""The peak use of each resource by an attempt's commands: evidence for the cause of its end."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.containers.usage import Usage
from simherd.contract.operations import Metric

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class PeakUsage:
    """The peak use of each resource, and what the kernel refused."""

    memory_bytes: int = 0
    processes: int = 0
    disk_bytes: int = 0
    #: CPU time of the commands that have ended.
    cpu_s: float = 0.0
    oom_kills: int = 0
    pids_refused: int = 0
    last: Usage = field(default_factory=Usage)

    def see(self, usage: Usage, disk_bytes: int) -> None:
        """Take one sample into account."""
        self.last = usage
        self.memory_bytes = max(self.memory_bytes, usage.memory_bytes)
        self.processes = max(self.processes, usage.processes, usage.processes_peak)
        self.disk_bytes = max(self.disk_bytes, disk_bytes)
        self.oom_kills = max(self.oom_kills, usage.oom_kills)
        self.pids_refused = max(self.pids_refused, usage.pids_refused)
        if usage.oom_kills:
            # The working set reached its limit between two samples.
            self.memory_bytes = max(self.memory_bytes, usage.memory_peak_bytes)

    def ran_out(self, limit: int) -> None:
        """Take an out-of-memory kill into account; `limit`: the limit in bytes, 0 if unlimited. A
        control group is removed with its last process, often before a sample sees the kill."""
        if not self.oom_kills:
            self.memory_bytes = max(self.memory_bytes, limit)

    def recall(self, series: Path) -> None:
        """Read the samples of an earlier agent."""
        try:
            with series.open(newline="") as file:
                for row in csv.DictReader(file):
                    self.memory_bytes = max(self.memory_bytes, int(row["memory_bytes"] or 0))
                    self.processes = max(self.processes, int(row["processes"] or 0))
                    self.disk_bytes = max(self.disk_bytes, int(row["disk_bytes"] or 0))
        except (OSError, ValueError, KeyError, TypeError):
            # The file is missing or its last line is incomplete: to lose a peak is harmless.
            return

    def command_ended(self) -> None:
        """Add up the command that ended; the next one counts from 0."""
        self.cpu_s += self.last.cpu_s
        self.last = Usage()

    def metrics(self) -> dict[str, float]:
        """Return the peaks by their metric names."""
        return {
            Metric.PEAK_MEMORY_BYTES.value: self.memory_bytes,
            Metric.PEAK_PROCESSES.value: self.processes,
            Metric.PEAK_DISK_BYTES.value: self.disk_bytes,
            Metric.CPU_SECONDS.value: round(self.cpu_s + self.last.cpu_s, 3),
        }
