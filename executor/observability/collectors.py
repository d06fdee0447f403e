"""Reading the gauges of an agent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.observability import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.observability.status import AgentView
    from simherd.runtime.metric_table import Measure


def read_agent(agent: AgentView) -> Iterator[tuple[Measure, float]]:
    """Row and value of everything that there is; what does not apply is left out."""
    yield table.SLOTS, agent.slots.number
    # Not the number of slots taken: one is taken while waiting for the next attempt.
    yield table.SLOTS_BUSY, sum(attempt.slot.held for attempt in agent.attempts())
    yield table.ATTEMPTS, len(agent.attempts())
    yield table.DRAINING, agent.is_draining
    yield from _disk(agent)
    yield table.SILENT, agent.guard.silent_s
    yield table.GIVES_UP, agent.guard.remaining_s
    journals, reports = agent.reporter.unrecorded()
    yield table.JOURNALS, journals
    yield table.JOURNAL_REPORTS, reports
    yield from _endings(agent)


def _disk(agent: AgentView) -> Iterator[tuple[Measure, float]]:
    free, reserve = agent.machine.disk()
    yield table.DISK_FREE, free
    yield table.DISK_RESERVE, reserve


def _endings(agent: AgentView) -> Iterator[tuple[Measure, float]]:
    """What may end attempts, and when."""
    reclaim_at, silent = agent.interruption.reclaim_at, agent.interruption.silent_s
    if reclaim_at is not None:
        yield table.RECLAIM, reclaim_at - time.time()
    if silent is not None:
        yield table.NOTICES_SILENT, silent
    limits = [attempt.deadline.wall_time for attempt in agent.attempts()]
    deadlines = [at for at in limits if at is not None]
    if deadlines:
        yield table.DEADLINE_LEFT, min(deadlines) - time.time()
