"""What a machine's row says of it, and what people are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, func, literal, or_

from scheduler.store.models import MachineRow
from simherd.contract.machines import SUSPECT, SUSPECT_S

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

#: A machine that is there, as far as we know.
MACHINE_UP = "started"
#: It ends what it has and takes nothing more.
MACHINE_DRAINED = "drained"
MACHINE_DOWN = "terminated"
_RECLAIMING, _STARTING = "reclaiming", "starting"
#: What `shown_state` says of machines that are not terminated.
SHOWN_STATES = (_STARTING, MACHINE_UP, SUSPECT, _RECLAIMING, MACHINE_DRAINED)


def shown_state(machine: MachineRow, now: float) -> str:
    """One word for people: starting, started, suspect, reclaiming, drained or terminated."""
    if machine.status != MACHINE_UP or machine.terminated_at is not None:
        return MACHINE_DOWN if machine.terminated_at is not None else machine.status
    if machine.reclaim_at is not None:
        return _RECLAIMING
    if machine.last_seen_at is None or machine.last_seen_at < (machine.launched_at or 0):
        return _STARTING
    return SUSPECT if now - machine.last_seen_at > SUSPECT_S else MACHINE_UP


def shown_state_column(now: float) -> ColumnElement[str]:
    """The same as `shown_state`, for counting machines where they are stored."""
    launched = func.coalesce(MachineRow.launched_at, 0)
    return case(
        (MachineRow.terminated_at.is_not(None), literal(MACHINE_DOWN)),
        (MachineRow.status != MACHINE_UP, MachineRow.status),
        (MachineRow.reclaim_at.is_not(None), literal(_RECLAIMING)),
        (
            or_(MachineRow.last_seen_at.is_(None), MachineRow.last_seen_at < launched),
            literal(_STARTING),
        ),
        (MachineRow.last_seen_at < now - SUSPECT_S, literal(SUSPECT)),
        else_=literal(MACHINE_UP),
    )
