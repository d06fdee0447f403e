"""Everything the server says about a task, and its summary for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from simherd.contract.operations import Metric
from simherd.utils import format_bytes, format_money, format_seconds
from simherd.visible import visible, visible_line

#: Where the time goes, in the order in which it does.
_STAGES = {
    "In queue": (Metric.QUEUE_TIME_SECONDS,),
    "Container image": (Metric.CONTAINER_IMAGE_DOWNLOAD_SECONDS,),
    "Inputs": (Metric.INPUT_DOWNLOAD_SECONDS, Metric.INPUT_DECOMPRESSION_SECONDS),
    "Computation": (Metric.COMPUTATION_SECONDS,),
    "Outputs": (Metric.OUTPUT_COMPRESSION_SECONDS, Metric.OUTPUT_UPLOAD_SECONDS),
}


class TaskInfo(Mapping[str, Any]):
    """A task as the server described it: the fields of the HTTP contract; printed, a summary."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    @property
    def task_id(self) -> str:
        """The task's id."""
        return str(self["task_id"])

    @property
    def status(self) -> Status:
        """The task's status."""
        return Status(self["status"])

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self.status in TERMINAL

    @property
    def machine_type(self) -> str | None:
        """The type of the machine that ran the task, or None before there was one."""
        executer = self.get("executer")
        return str(executer["vm_type"]).rpartition("/")[2] if executer else None

    @property
    def description(self) -> str:
        """The newest entry of the task's history."""
        history = self.get("status_history") or []
        return str(history[-1]["description"]) if history else TABLE[self.status].explanation

    def metric(self, name: Metric) -> float | None:
        """A measured value, or None where it is not known (yet)."""
        found = self["metrics"].get(name.value)
        return None if found is None else float(found)

    def seconds_between(self, start: str, end: str) -> float | None:
        """The time between two timestamps of the task, the second of which may be now."""
        if not self[start]:
            return None
        until = self[end] or self["end_time"]
        stop = datetime.fromisoformat(until) if until else datetime.now().astimezone()
        return (stop - datetime.fromisoformat(self[start])).total_seconds()

    def stage_seconds(self) -> dict[str, float | None]:
        """Where the time went, stage by stage."""
        found = {}
        for label, metrics in _STAGES.items():
            known = [v for m in metrics if (v := self.metric(m)) is not None]
            found[label] = sum(known) if known else None
        return found

    def __str__(self) -> str:
        row = TABLE[self.status]
        lines = [
            f"Task {self.task_id}: {row.label}",
            f"  Simulator:       {visible_line(self['simulator'])}",
            f"  Image:           {visible_line(self['container_image'])}",
            f"  Machine group:   {visible_line(self['machine_group_name'])}",
            f"  Machine type:    {self.machine_type or '-'}",
            f"  Project:         {visible_line(self['project'])}",
            f"  Submitted:       {self['create_time']}",
        ]
        if self.get("staged_on"):
            lines.append(f"  Fetched ahead:   on machine {visible_line(self['staged_on'])}")
        if self.get("deadline"):
            lines.append(f"  Deadline:        {self['deadline']}")
        if self.get("estimated_computation_cost") is not None:
            limit = self.get("max_cost")
            at_most = f" of at most {format_money(limit)}" if limit else ""
            cost = format_money(self["estimated_computation_cost"])
            lines.append(f"  Cost:            {cost}{at_most}")
        if self["error_detail"]:
            lines.append(f"  Error:           {visible_line(self['error_detail'])}")
        if row.failed:
            lines.append(f"  What to do:      {row.advice}")
        shown = [*lines, *self._time_lines(), *self._peak_lines(), *self._output_lines()]
        return visible("\n".join(shown))

    def _time_lines(self) -> list[str]:
        total = format_seconds(self.seconds_between("create_time", "end_time"))
        lines = [f"Time, in all {total}:"]
        for label, seconds in self.stage_seconds().items():
            lines.append(f"  {label + ':':<16} {format_seconds(seconds):>10}")
        return lines

    def _peak_lines(self) -> list[str]:
        memory = self.metric(Metric.PEAK_MEMORY_BYTES)
        if memory is None:
            return []
        disk = format_bytes(self.metric(Metric.PEAK_DISK_BYTES))
        processes = self.metric(Metric.PEAK_PROCESSES) or 0
        cpu = format_seconds(self.metric(Metric.CPU_SECONDS))
        peaks = f"memory {format_bytes(memory)}, disk {disk}, {processes:.0f} processes"
        return [f"At the most: {peaks}; CPU time {cpu}"]

    def _output_lines(self) -> list[str]:
        files = self.metric(Metric.OUTPUT_TOTAL_FILES)
        if files is None:
            return []
        size = format_bytes(self.metric(Metric.OUTPUT_SIZE_BYTES))
        packed = format_bytes(self.metric(Metric.OUTPUT_ZIPPED_SIZE_BYTES))
        return [f"Outputs: {files:.0f} files, {size} ({packed} compressed)"]
