"""The tables of what both rooms count and measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.observability import table as of_executor
from scheduler.metrics import table as of_scheduler

if TYPE_CHECKING:
    from simherd.runtime.metric_table import Measure


def measures() -> dict[str, Measure]:
    """Name → row, of every row."""
    rows = [row for section in of_scheduler.SECTIONS.values() for row in section]
    rows += [*of_executor.COUNTED, *of_executor.STATE]
    found = {row.name: row for row in rows}
    assert len(found) == len(rows), "a name has two rows"
    return found
