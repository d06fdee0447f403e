"""The statuses of machines: one table that everything which changes a status reads."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class MachineStatus(StrEnum):
    """A machine's status; the value is what SQL stores."""

    UP = "started"
    DRAINED = "drained"
    DOWN = "terminated"


_S = MachineStatus

#: Status → those that may follow it.
MACHINE_TABLE: Mapping[MachineStatus, frozenset[MachineStatus]] = MappingProxyType(
    {
        # It is to be launched, is being launched, or takes tasks.
        _S.UP: frozenset({_S.DRAINED, _S.DOWN}),
        # It ends the tasks that it has and takes no others; then it is terminated.
        _S.DRAINED: frozenset({_S.DOWN}),
        # It costs nothing more.
        _S.DOWN: frozenset(),
    }
)
