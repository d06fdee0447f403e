"""Outputs that SQL says are stored, and are not: after a restore, or when somebody removed them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from scheduler.store.models import AttemptRow, Task
from simherd.contract import objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scheduler.wiring import Parts

#: Attempts that are looked at together, and how many at one time.
_BUNCH, _AT_ONCE = 1000, 16


def missing_outputs(parts: Parts) -> Iterator[tuple[str, str]]:
    """Tasks that have ended and whose outputs are gone, each with the path where they were.

    Asks the storage for the outputs of every task: minutes where there are hundreds of thousands.
    """
    after = 0
    with ThreadPoolExecutor(_AT_ONCE, "outputs") as pool:
        while rows := _ended(parts, after):
            after = rows[-1][0].seq
            stored = [task for task, saved in rows if "output_bytes" in saved]
            yield from filter(None, pool.map(lambda task: _missing(parts, task), stored))


def _ended(parts: Parts, after: int) -> Sequence[tuple[Task, dict[str, Any]]]:
    """The next tasks that have ended, by their order of submission, with what was saved of them."""
    wanted = (
        select(Task, AttemptRow.saved)
        .join(AttemptRow, (AttemptRow.task_id == Task.id) & (AttemptRow.attempt == Task.attempt))
        .where(Task.seq > after, Task.end_time.is_not(None))
        .order_by(Task.seq)
        .limit(_BUNCH)
    )
    with parts.store.read() as session:
        return [(task, saved) for task, saved in session.execute(wanted)]


def _missing(parts: Parts, task: Task) -> tuple[str, str] | None:
    path = objects.output_path(task.storage_prefix, task.id, task.attempt)
    return None if parts.objects.stat(task.user_id, path) is not None else (task.id, path)
