"""Reading the gauges of an agent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.observability import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.observability.status import AgentStatus
    from simherd.runtime.metric_table import Measure


def read_agent(agent: AgentStatus) -> Iterator[tuple[Measure, float]]:
    """Return row and value of every gauge that applies."""
    yield table.SLOTS, agent.slots.number
    # Not the number of slots taken: one is taken while waiting for the next attempt.
    yield table.SLOTS_BUSY, sum(attempt.slot.held for attempt in agent.attempts())
    yield table.ATTEMPTS, len(agent.attempts())
    yield table.DRAINING, agent.draining.is_set()
    free, reserve = agent.machine.disk()
    yield table.DISK_FREE, free
    yield table.DISK_RESERVE, reserve
    yield table.SILENT, agent.contact.silent_s
    yield table.GIVES_UP, agent.contact.left_s
    journals, reports = agent.reporter.unrecorded()
    yield table.JOURNALS, journals
    yield table.JOURNAL_REPORTS, reports
    yield from _endings(agent)


def _endings(agent: AgentStatus) -> Iterator[tuple[Measure, float]]:
    """Return when something may end attempts."""
    reclaim_at, silent = agent.presence.reclaim_at, agent.presence.silent_s
    if reclaim_at is not None:
        yield table.RECLAIM, reclaim_at - time.time()
    if silent is not None:
        yield table.NOTICES_SILENT, silent
    limits = [attempt.deadline.wall_time for attempt in agent.attempts()]
    deadlines = [at for at in limits if at is not None]
    if deadlines:
        yield table.DEADLINE_LEFT, min(deadlines) - time.time()
