"""What the recorder counts of attempts, from what executors report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.metrics import table
from simherd.contract.operations import Metric, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.store.models import TaskOperation
    from scheduler.store.unit_of_work import UnitOfWork

_STAGES = frozenset(operation.value for operation in Operation)
#: Stages that move bytes → what counts them, and the metric of the task that says how many.
_BYTES = {
    Operation.DOWNLOAD_INPUT.value: (table.DOWNLOADED, Metric.INPUT_ZIPPED_SIZE_BYTES),
    Operation.UPLOAD_OUTPUT.value: (table.UPLOADED, Metric.OUTPUT_ZIPPED_SIZE_BYTES),
}


def note_wait(session: UnitOfWork, seconds: float) -> None:
    """An attempt was taken up after so long in the queue."""
    # Two clocks are compared.
    session.inc_on_commit(table.QUEUE_SECONDS, by=max(0.0, seconds))


def note_stage(session: UnitOfWork, stage: TaskOperation, metrics: Mapping[str, float]) -> None:
    """A stage of an attempt has ended; `metrics`: what is known of its task."""
    # Executors name them: what is not a stage must not become a label.
    if stage.name not in _STAGES or stage.ended_at is None:
        return
    took_s = max(0.0, stage.ended_at - stage.started_at)
    session.inc_on_commit(table.STAGE_SECONDS, stage.name, by=took_s)
    if stage.status != "OK":
        session.inc_on_commit(table.STAGES_FAILED, stage.name)
    elif stage.name in _BYTES:
        row, metric = _BYTES[stage.name]
        session.inc_on_commit(row, by=metrics.get(metric.value, 0))
