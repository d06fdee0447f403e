"""The lifecycle page of the documentation, written from the tables in the code.

python -m scripts.pages.lifecycle_page > docs/lifecycle.md
"""

from __future__ import annotations

from simherd.contract.cause import OUTCOMES
from simherd.contract.lifecycle import TABLE, TERMINAL

_HEAD = """\
# The lifecycle of a task

Written by `python -m scripts.pages.lifecycle_page` from `simherd/contract/lifecycle.py` and
`simherd/contract/cause.py`; a test compares the two. Change the tables, not this page.

A task's status changes in one place, `scheduler/store/transitions.py`, by an SQL update that
demands one of the statuses before it and the current attempt; every change is kept in the task's
history. What does not fit is refused and counted.
"""

#: The drawing is its own file, so that everything that shows Markdown shows it.
_DRAWING = """\
![Every status, and what may follow it](lifecycle.svg)

An arrow that leaves a frame stands for one from each status in it. The one that goes back up is a
machine that is lost: with resubmission on, the task waits for another one.
(`python -m scripts.pages.lifecycle_drawing > docs/lifecycle.svg`)
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [_HEAD, _DRAWING, _statuses(), _causes()]
    return "\n".join(parts)


def _statuses() -> str:
    lines = [
        "## Statuses",
        "",
        "| Status | On the wire | What it means | What to do | Ended | Failed | Can be killed |",
        "|---|---|---|---|---|---|---|",
    ]
    for status, row in TABLE.items():
        flags = (status in TERMINAL, row.failed, row.killable)
        marks = " | ".join("yes" if flag else "" for flag in flags)
        lines.append(
            f"| {row.label} | `{status.value}` | {row.explanation} | {row.advice} | {marks} |"
        )
    return "\n".join([*lines, ""])


def _causes() -> str:
    lines = [
        "## Why an attempt ends",
        "",
        "An executor reports a cause, never a status; the scheduler reads this table. With",
        "resubmission on, causes that are no fault of the task make a further attempt instead.",
        "",
        "| Cause | The task's final status | What is said | Worth another attempt |",
        "|---|---|---|---|",
    ]
    for cause, outcome in OUTCOMES.items():
        again = "yes" if outcome.resubmit else ""
        label = TABLE[outcome.status].label
        lines.append(f"| `{cause.value}` | {label} | {outcome.sentence} | {again} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")
