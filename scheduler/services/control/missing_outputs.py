"""Outputs that are stored by SQL and missing in the storage: after a restore, or when removed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from scheduler.store.models import AttemptRow, TaskRow
from simherd.contract import objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scheduler.wiring import Runtime

#: Attempts that are read together, and how many of them are checked at a time.
_BUNCH, _AT_ONCE = 1000, 16


def missing_outputs(rt: Runtime) -> Iterator[tuple[str, str]]:
    """Yield the ended tasks whose outputs are missing, each with the path where they were.
    It checks the outputs of every task in the storage: minutes for hundreds of thousands."""
    after = 0
    with ThreadPoolExecutor(_AT_ONCE, "outputs") as pool:
        while rows := _ended(rt, after):
            after = rows[-1][0].seq
            stored = [task for task, saved in rows if "output_bytes" in saved]
            yield from filter(None, pool.map(lambda task: _missing(rt, task), stored))


def _ended(rt: Runtime, after: int) -> Sequence[tuple[TaskRow, dict[str, Any]]]:
    """Return the next ended tasks in the order of their submission, with what is saved of them."""
    query = (
        select(TaskRow, AttemptRow.saved)
        .join(
            AttemptRow, (AttemptRow.task_id == TaskRow.id) & (AttemptRow.attempt == TaskRow.attempt)
        )
        .where(TaskRow.seq > after, TaskRow.end_time.is_not(None))
        .order_by(TaskRow.seq)
        .limit(_BUNCH)
    )
    with rt.store.read() as session:
        return [(task, saved) for task, saved in session.execute(query)]


def _missing(rt: Runtime, task: TaskRow) -> tuple[str, str] | None:
    path = objects.output_path(task.storage_prefix, task.id, task.attempt)
    return None if rt.objects.stat(task.user_id, path) is not None else (task.id, path)
