"""A transaction that writes, and what is to be done once it is through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from simherd.contract.lifecycle import Status
    from simherd.runtime.metric_table import Measure


class StatusOutcome(NamedTuple):
    """A change of a task's status that was applied, or refused by the lifecycle."""

    task_id: str
    status: Status
    cause: str
    is_refused: bool


class UnitOfWork(Session):
    """A session of one transaction. What it collects takes effect only after the commit.

    Attributes:
        changes: the changes of tasks' statuses, in their order.
        jobs: names of background jobs to send.
        counted: metric, values of its labels, and the number to add or to observe.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of `Session`; nothing is collected yet."""
        super().__init__(*args, **kwargs)
        self.changes: list[StatusOutcome] = []
        self.jobs: set[str] = set()
        self.counted: list[tuple[Measure, tuple[str, ...], float]] = []

    def inc_on_commit(self, row: Measure, *labels: str, by: float = 1) -> None:
        """Add to a counter, or observe the value `by`, once the transaction is through.
        One that is rolled back, and tried again, would else be counted twice."""
        self.counted.append((row, labels, by))
