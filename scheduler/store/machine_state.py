"""The state of a machine as people are shown it: one rule, in Python and in SQL.

`tests/contracts/scheduler/test_machine_transitions.py` compares the two over all combinations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, func, literal, or_

from scheduler.domain.machine_status import MachineStatus
from scheduler.store.models import MachineRow
from simherd.contract.machines import SUSPECT, SUSPECT_S

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

MACHINE_UP = MachineStatus.UP.value
MACHINE_DRAINED = MachineStatus.DRAINED.value
MACHINE_DOWN = MachineStatus.DOWN.value
_RECLAIMING, _STARTING = "reclaiming", "starting"
#: The states that `shown_state` has for machines that are not terminated.
SHOWN_STATES = (_STARTING, MACHINE_UP, SUSPECT, _RECLAIMING, MACHINE_DRAINED)


def shown_state(machine: MachineRow, now: float) -> str:
    """Return starting, started, suspect, reclaiming, drained or terminated."""
    if machine.terminated_at is not None:
        return MACHINE_DOWN
    if machine.status != MACHINE_UP:
        return machine.status
    if machine.reclaim_at is not None:
        return _RECLAIMING
    if machine.last_seen_at is None or machine.last_seen_at < (machine.launched_at or 0):
        return _STARTING
    return SUSPECT if machine.last_seen_at < now - SUSPECT_S else MACHINE_UP


def shown_state_column(now: float) -> ColumnElement[str]:
    """`shown_state` as an expression for queries."""
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
