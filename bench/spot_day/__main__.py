"""A scripted day of a spot fleet on Docker: what must hold, a timeline, and a plot.

python -m bench.spot_day [--short] [--seed N] [--plot FILE.png]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.simherd_side import SimherdSide
from bench.spot_day.fleet import Fleet, Work, ended
from bench.spot_day.report import Report, check, print_timeline

#: A mishap that is not a reclaim: a machine that stands still.
FREEZE = "freeze"
#: The shortest time that a group's machines may be silent.
_RECONNECT_S = 30.0
_TICK_S = 0.25


@dataclass(frozen=True)
class Day:
    """What is done on it."""

    tasks: int
    machines: int
    work: Work
    #: Reclaims of each length of notice.
    reclaims: int
    notices: tuple[float, ...]
    #: Seconds between two mishaps, from and to.
    pause_s: tuple[float, float]
    #: See `Report`.
    most_repeated: float


FULL = Day(20, 4, Work(48, 0.25, 8), 3, (0.0, 5.0, 30.0), (6.0, 12.0), 0.2)
# On a short one each mishap weighs more: two of them are half a task.
SHORT = Day(6, 3, Work(32, 0.25, 8), 1, (0.0, 5.0, 15.0), (3.0, 5.0), 0.3)


@dataclass
class Mishaps:
    """What is done to the machines, in an order that the seed decides."""

    random: random.Random
    day: Day
    left: list[float | str] = field(init=False)
    next_at: float = field(init=False)
    #: Machine → when it is reclaimed.
    doomed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.left = [*(self.day.notices * self.day.reclaims)]
        self.random.shuffle(self.left)
        # In the first half: it takes the longest to be noticed. Taken from the end.
        half = len(self.left) // 2
        self.left.insert(self.random.randint(len(self.left) - half, len(self.left)), FREEZE)
        self.next_at = time.monotonic() + self.random.uniform(*self.day.pause_s)

    def tick(self, fleet: Fleet, report: Report) -> None:
        """Do what is due."""
        now = time.monotonic()
        for machine in [m for m, at in self.doomed.items() if at <= now]:
            del self.doomed[machine]
            report.note_lost(fleet.computed(machine))
            fleet.take_away(machine)
            report.note("gone", machine)
        if not self.left or now < self.next_at:
            return
        victims = [m["uuid"] for m in fleet.started() if m["current_task_id"]]
        if not victims:
            return
        machine = self.random.choice(sorted(victims))
        kind = self.left.pop()
        self.next_at = now + self.random.uniform(*self.day.pause_s)
        if kind == FREEZE:
            report.note_lost(fleet.computed(machine))
            fleet.freeze(machine)
            report.note("frozen", machine)
            return
        in_s = float(kind)
        report.note(f"notice of {in_s:.0f} s" if in_s else "no notice", machine)
        if in_s:
            fleet.give_notice(machine, in_s)
        self.doomed[machine] = now + in_s


def main() -> None:
    """Run the day; exits 1 when a promise does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.spot_day")
    parser.add_argument("--short", action="store_true", help="a day of one minute, as CI runs it")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--plot", type=Path, help="where to draw machines and tasks over time")
    asked = parser.parse_args()
    day = SHORT if asked.short else FULL
    os.environ |= {
        "SIMHERD_SWEEP_S": "1",
        "SIMHERD_GRACE_S": "6",
        "SIMHERD_PROVIDERS": "local,docker",
    }
    with tempfile.TemporaryDirectory(prefix="simherd-day-") as folder:
        report = _run(day, asked.seed, Path(folder))
    print_timeline(report)
    if asked.plot is not None:
        from bench.spot_day.plot import draw

        draw(report, asked.plot)
    sys.exit(check(report))


def _run(day: Day, seed: int, folder: Path) -> Report:
    with SimherdSide(folder, 1) as simherd:
        fleet = Fleet(simherd.api, simherd.data, day.machines, _RECONNECT_S)
        try:
            report = _work(day, seed, fleet)
            _close(fleet, report)
        finally:
            fleet.terminate()
    return report


def _work(day: Day, seed: int, fleet: Fleet) -> Report:
    report = Report(day.work, day.tasks, day.most_repeated)
    mishaps = Mishaps(random.Random(seed), day)
    tasks = [fleet.submit(day.work) for _ in range(day.tasks)]
    waiting: set[str] = set(tasks)
    while waiting or mishaps.doomed:
        mishaps.tick(fleet, report)
        machines = fleet.group()["machines"]
        report.sample(machines, fleet.statuses())
        if waiting and ended(found := fleet.task(next(iter(waiting)))):
            waiting.remove(str(found["id"] if "id" in found else found["task_id"]))
        time.sleep(_TICK_S)
    report.tasks = tasks
    return report


def _close(fleet: Fleet, report: Report) -> None:
    """Gather all that the report shows, once everything has ended."""
    report.machines = fleet.group()["machines"]
    for task in report.tasks:
        found: dict[str, Any] = fleet.task(task)
        report.infos[task] = found
        report.attempts[task] = fleet.attempts(task)
        report.outputs[task] = fleet.outputs(task) if found["status"] == "success" else {}


if __name__ == "__main__":
    main()
