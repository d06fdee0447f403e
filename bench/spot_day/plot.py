"""The day as a picture: machines with what ran on them, and the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from bench.spot_day.report import Report, instant

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

_MARKS = {"frozen": ("s", "tab:blue"), "gone": ("X", "tab:red")}


def draw(report: Report, file: Path) -> None:
    """Draw it into a PNG file."""
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(13, 8), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    _machines(report, top)
    _counts(report, bottom)
    figure.suptitle("A day of a spot fleet: machines, attempts, reclaims")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _machines(report: Report, axes: Axes) -> None:
    end = report.samples[-1][0]
    rows = {m["uuid"]: row for row, m in enumerate(report.machines)}
    for machine in report.machines:
        begin = instant(machine["started_at"])
        over = instant(machine["terminated_at"]) if machine["terminated_at"] else end
        row = rows[machine["uuid"]]
        axes.barh(row, over - begin, left=begin - report.began, color="0.9", height=0.8)
    colours = plt.get_cmap("tab20")
    for number, task in enumerate(report.tasks):
        for attempt in report.attempts[task]:
            begin = instant(attempt["started_at"])
            length = (instant(attempt["ended_at"]) if attempt["ended_at"] else end) - begin
            row, left = rows[attempt["machine_id"]], begin - report.began
            axes.barh(row, length, left=left, color=colours(number % 20), height=0.6)
            label = f"{number + 1}.{attempt['attempt']}"
            axes.text(left + length / 2, row, label, ha="center", va="center", fontsize=7)
    for at, what, victim in report.mishaps:
        marker, colour = _MARKS.get(what, ("v", "tab:orange"))
        axes.plot(at - report.began, rows[victim] - 0.45, marker, color=colour, markersize=8)
    axes.set_yticks(list(rows.values()), [m["host_name"] for m in report.machines])
    axes.invert_yaxis()
    axes.set_title("bars: TASK.ATTEMPT   ▼ notice   ✖ reclaimed   ■ frozen", fontsize=9)


def _counts(report: Report, axes: Axes) -> None:
    times = [at - report.began for at, *_ in report.samples]
    for index, label in ((1, "machines"), (2, "tasks that wait"), (3, "tasks worked on")):
        axes.step(times, [s[index] for s in report.samples], where="post", label=label)
    axes.set_xlabel("seconds")
    axes.legend(loc="upper right", fontsize=8)
