"""What came of a day: what must hold, and what happened when."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from simherd.contract.lifecycle import TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.spot_day.fleet import Work

_UP = frozenset({"started", "suspect", "reclaiming", "drained", "starting"})


@dataclass
class Report:
    """Everything that was seen of a day. Times are seconds since the epoch."""

    work: Work
    count: int
    #: Steps that may be computed more than once, as a share of what must be computed.
    most_repeated: float
    tasks: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)
    #: When, what, to which machine.
    mishaps: list[tuple[float, str, str]] = field(default_factory=list)
    #: Task and attempt → the last step that it had computed when its machine was reclaimed.
    reached: dict[tuple[str, int], int] = field(default_factory=dict)
    #: When, machines, tasks that wait, tasks that are worked on.
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)
    machines: list[dict[str, Any]] = field(default_factory=list)
    infos: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    outputs: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def note(self, what: str, machine: str) -> None:
        """Something was done to a machine."""
        self.mishaps.append((time.time(), what, machine))

    def note_lost(self, computed: dict[tuple[str, int], int]) -> None:
        """What was computed on a machine that is reclaimed now."""
        self.reached |= computed

    def sample(self, machines: list[dict[str, Any]], statuses: dict[str, int]) -> None:
        """How things stand now."""
        up = sum(m["status"] in _UP for m in machines)
        waits = statuses.get(Status.SUBMITTED.value, 0)
        over = sum(statuses.get(s.value, 0) for s in TERMINAL)
        self.samples.append((time.time(), up, waits, sum(statuses.values()) - waits - over))

    def kept(self, task: str) -> list[tuple[int, int]]:
        """The steps that a task's result is made of: attempt and step."""
        text = self.outputs[task].get("steps.log", b"").decode()
        return [(int(a), int(s)) for a, s in map(str.split, text.splitlines())]

    def repeated(self) -> int:
        """Steps that were computed and lost with a machine."""
        lost = 0
        for (task, attempt), step in self.reached.items():
            kept = max((s for a, s in self.kept(task) if a <= attempt), default=0)
            lost += max(0, step - kept)
        return lost


def check(report: Report) -> int:
    """Print whether the promises held and return the exit code."""
    broken = list(_broken(report))
    ideal = report.work.steps * report.count
    repeated = report.repeated()
    attempts = sum(map(len, report.attempts.values()))
    took = report.samples[-1][0] - report.began
    print(f"\n{report.count} tasks, {attempts} attempts, {len(report.machines)} machines, ", end="")
    print(f"{len([m for m in report.mishaps if m[1] != 'gone'])} mishaps, {took:.0f} s")
    print(f"steps computed: {ideal + repeated}, ideal: {ideal} (+{100 * repeated / ideal:.1f} %)")
    for sentence in broken:
        print(f"BROKEN: {sentence}")
    print("every promise held" if not broken else f"{len(broken)} promises broken")
    return 1 if broken else 0


def _broken(report: Report) -> Iterator[str]:
    last = report.work.steps
    for task, info in report.infos.items():
        ends = [h for h in info["status_history"] if Status(h["status"]) in TERMINAL]
        if info["status"] != Status.SUCCESS or len(ends) != 1:
            yield f"{task} ended {len(ends)} times, {info['status']}: {info['error_detail']}"
            continue
        if report.outputs[task].get("result.txt") != f"{last * (last + 1) // 2}\n".encode():
            yield f"{task} has a wrong result"
        if [step for _, step in report.kept(task)] != list(range(1, last + 1)):
            yield f"{task} has steps that are missing or there twice"
    if report.repeated() > report.most_repeated * last * report.count:
        yield f"{report.repeated()} steps were computed more than once"


def print_timeline(report: Report) -> None:
    """What happened, one line each."""
    names = {m["uuid"]: m["host_name"] for m in report.machines}
    rows = [(at, f"{names.get(m, m)}: {what}") for at, what, m in report.mishaps]
    for machine in report.machines:
        rows.append((instant(machine["started_at"]), f"{machine['host_name']}: launched"))
        if machine["terminated_at"]:
            rows.append((instant(machine["terminated_at"]), f"{machine['host_name']}: terminated"))
    for number, task in enumerate(report.tasks, 1):
        for attempt in report.attempts[task]:
            name = names.get(attempt["machine_id"], attempt["machine_id"])
            what = f"task {number:2} attempt {attempt['attempt']}"
            rows.append((instant(attempt["started_at"]), f"{name}: {what} begins"))
            if attempt["ended_at"]:
                saved = f", saved {attempt['saved']}" if attempt["saved"] else ""
                text = f"{name}: {what} ends: {attempt['cause']}{saved}"
                rows.append((instant(attempt["ended_at"]), text))
    for at, text in sorted(rows):
        print(f"{at - report.began:7.1f} s  {text}")


def instant(text: str) -> float:
    """The API's timestamp as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
