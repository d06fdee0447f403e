"""Counting jobs: in the child that runs one, and in its parent where the child did not survive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from billiard.process import current_process
from celery import signals, states

from scheduler.jobs.canary import Canary
from scheduler.metrics import table
from scheduler.metrics.exposition import take_place
from scheduler.metrics.instruments import inc, observe, set_gauge

if TYPE_CHECKING:
    from typing import Any

#: Sings whenever a job has ended, here or in a child.
CANARY = Canary()


_OUTCOMES = (_DONE, _ERROR, _ABORTED) = ("done", "error", "aborted")


class _Job:
    """The one that this process carries out."""

    began = 0.0


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _begin(sender: Any, **_: Any) -> None:
    for name in sender.app.tasks:
        # Celery adds its own tasks.
        if "." not in name:
            for outcome in _OUTCOMES:
                inc(table.JOBS, name, outcome, by=0)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _after_fork(**_: Any) -> None:
    take_place(current_process().index)


@signals.task_prerun.connect  # type: ignore[untyped-decorator]
def _before_job(**_: Any) -> None:
    _Job.began = time.monotonic()


@signals.task_postrun.connect  # type: ignore[untyped-decorator]
def _after_job(task: Any, state: str | None = None, **_: Any) -> None:
    CANARY.sing()
    done = state == states.SUCCESS
    observe(table.JOB_SECONDS, time.monotonic() - _Job.began, task.name)
    inc(table.JOBS, task.name, _DONE if done else _ERROR)
    if done:
        set_gauge(table.JOB_SUCCESS, time.time(), task.name)


@signals.task_failure.connect  # type: ignore[untyped-decorator]
def _aborted(sender: Any, exception: BaseException, **_: Any) -> None:
    # Only a parent reports this: the child has ended.
    if isinstance(exception, Terminated | TimeLimitExceeded | WorkerLostError):
        inc(table.JOBS, sender.name, _ABORTED)
