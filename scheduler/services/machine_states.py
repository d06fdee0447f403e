"""What a machine's row says of it, and what people are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simherd.contract.machines import SUSPECT, SUSPECT_S

if TYPE_CHECKING:
    from scheduler.store.models import Machine

#: A machine that is there, as far as we know.
MACHINE_UP = "started"
#: It ends what it has and takes nothing more.
MACHINE_DRAINED = "drained"
MACHINE_DOWN = "terminated"


def shown_state(machine: Machine, now: float) -> str:
    """One word for people: starting, started, suspect, reclaiming, drained or terminated."""
    if machine.status != MACHINE_UP or machine.terminated_at is not None:
        return MACHINE_DOWN if machine.terminated_at is not None else machine.status
    if machine.reclaim_at is not None:
        return "reclaiming"
    if machine.last_seen_at is None or machine.last_seen_at < (machine.launched_at or 0):
        return "starting"
    return SUSPECT if now - machine.last_seen_at > SUSPECT_S else MACHINE_UP
