"""The statuses of machines: one table that everything which changes a status reads."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from scheduler.domain.status_table import StatusMeaning

if TYPE_CHECKING:
    from collections.abc import Mapping


class MachineStatus(str, Enum):
    """A machine's status; the value is what SQL stores."""

    UP = "started"
    DRAINED = "drained"
    DOWN = "terminated"

    def __str__(self) -> str:
        return self.value


_S = MachineStatus

MACHINE_TABLE: Mapping[MachineStatus, StatusMeaning[MachineStatus]] = MappingProxyType(
    {
        _S.UP: StatusMeaning(
            "Up",
            "The machine is to be launched, is being launched, or takes tasks.",
            "Wait for it to join, or submit tasks to its group.",
            frozenset({_S.DRAINED, _S.DOWN}),
        ),
        _S.DRAINED: StatusMeaning(
            "Drained",
            "The machine ends the tasks that it has and takes no others.",
            "Wait: it is terminated when it has nothing left to do.",
            frozenset({_S.DOWN}),
        ),
        _S.DOWN: StatusMeaning(
            "Terminated", "The machine was terminated and costs nothing more.", "Nothing to do."
        ),
    }
)
