"""The generations of tasks' checkpoints."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.services.errors import Conflict
from scheduler.store.models import Checkpoint, TaskRow
from simherd.contract.checkpoints import KEPT, total_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from simherd.contract.checkpoints import SavedFile


def generations(session: Session, task_id: str) -> list[Checkpoint]:
    """Return a task's generations, newest first."""
    return list(
        session.scalars(
            select(Checkpoint)
            .where(Checkpoint.task_id == task_id)
            .order_by(Checkpoint.generation.desc())
        )
    )


def add_generation(
    session: Session, task_id: str, attempt: int, files: Sequence[SavedFile]
) -> tuple[int, set[str]]:
    """Add a generation, and drop those older than the newest `KEPT`.

    Returns its number, and the SHA-256 of the files that no generation names now.

    Raises Conflict: the attempt is no longer current.
    """
    task = session.scalars(select(TaskRow).where(TaskRow.id == task_id).with_for_update()).one()
    if task.attempt != attempt or task.end_time is not None:
        raise Conflict(f"Attempt {attempt} of task {task_id} is over. Stop it.")
    before = generations(session, task_id)
    number = before[0].generation + 1 if before else 1
    new = Checkpoint(
        task_id=task_id,
        generation=number,
        attempt=attempt,
        at=time.time(),
        bytes=total_bytes(files),
        files=[asdict(file) for file in files],
    )
    session.add(new)
    kept = [new, *before[: KEPT - 1]]
    named = {file["sha256"] for row in kept for file in row.files}
    dropped = {file["sha256"] for row in before[KEPT - 1 :] for file in row.files} - named
    for row in before[KEPT - 1 :]:
        session.delete(row)
    return number, dropped
