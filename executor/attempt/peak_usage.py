"""The most that an attempt's commands had of each resource: what proves its cause."""

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
    """The most that the commands had of each, and what they were refused."""

    memory_bytes: int = 0
    processes: int = 0
    disk_bytes: int = 0
    #: CPU time of the commands that have ended.
    cpu_s: float = 0.0
    oom_kills: int = 0
    pids_refused: int = 0
    last: Usage = field(default_factory=Usage)

    def see(self, usage: Usage, disk_bytes: int) -> None:
        """Take a look in."""
        self.last = usage
        self.memory_bytes = max(self.memory_bytes, usage.memory_bytes)
        self.processes = max(self.processes, usage.processes, usage.processes_peak)
        self.disk_bytes = max(self.disk_bytes, disk_bytes)
        self.oom_kills = max(self.oom_kills, usage.oom_kills)
        self.pids_refused = max(self.pids_refused, usage.pids_refused)
        if usage.oom_kills:
            # The working set was at its limit for a moment that no look has met.
            self.memory_bytes = max(self.memory_bytes, usage.memory_peak_bytes)

    def ran_out(self, limit: int) -> None:
        """The kernel says that memory was out; `limit`: bytes that there were, 0 if unlimited.

        A control group goes with its last process, often before any look has met that moment.
        """
        if not self.oom_kills:
            self.memory_bytes = max(self.memory_bytes, limit)

    def recall(self, series: Path) -> None:
        """Take in what an earlier agent saw."""
        try:
            with series.open(newline="") as file:
                for row in csv.DictReader(file):
                    self.memory_bytes = max(self.memory_bytes, int(row["memory_bytes"] or 0))
                    self.processes = max(self.processes, int(row["processes"] or 0))
                    self.disk_bytes = max(self.disk_bytes, int(row["disk_bytes"] or 0))
        except (OSError, ValueError, KeyError, TypeError):
            # There is none, or its last line was cut: a peak may be missed, the attempt goes on.
            return

    def command_ended(self) -> None:
        """The next command begins to count anew."""
        self.cpu_s += self.last.cpu_s
        self.last = Usage()

    def metrics(self) -> dict[str, float]:
        """As the scheduler is told."""
        return {
            Metric.PEAK_MEMORY_BYTES.value: self.memory_bytes,
            Metric.PEAK_PROCESSES.value: self.processes,
            Metric.PEAK_DISK_BYTES.value: self.disk_bytes,
            Metric.CPU_SECONDS.value: round(self.cpu_s + self.last.cpu_s, 3),
        }
