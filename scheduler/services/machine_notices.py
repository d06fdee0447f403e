"""Machines that are about to be reclaimed: others are launched in their place at once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scheduler.services.machine_access import known_machine

if TYPE_CHECKING:
    from scheduler.wiring import Parts

log = logging.getLogger(__name__)


def note_reclaim(parts: Parts, machine_id: str, secret: str, reclaim_at: float | None) -> None:
    """Take note of when a machine goes, or that it stays after all.

    Args:
        parts: the scheduler's parts.
        machine_id: the machine that says so.
        secret: what it shows.
        reclaim_at: when the provider takes it away, seconds since the epoch; None: not any more.

    Raises:
        Forbidden: it is another's secret.
    """
    with parts.store.write() as session:
        machine = known_machine(session, machine_id, secret)
        machine.reclaim_at = reclaim_at
        group_id = machine.group_id
    log.warning("event=reclaim_noted machine=%s at=%s", machine_id, reclaim_at)
    if reclaim_at is not None:
        parts.send_job("scale_group", group_id)
