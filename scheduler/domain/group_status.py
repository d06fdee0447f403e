"""The statuses of machine groups: one table that everything which changes a status reads."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from scheduler.domain.status_table import StatusMeaning

if TYPE_CHECKING:
    from collections.abc import Mapping


class GroupStatus(str, Enum):
    """A machine group's status, as the HTTP contract has it."""

    REGISTERED = "registered"
    STARTING = "starting"
    START_FAILED = "start_failed"
    STARTED = "started"
    SHUTTING_DOWN = "shutting_down"
    SHUTDOWN_FAILED = "shutdown_failed"
    TERMINATED = "terminated"

    def __str__(self) -> str:
        return self.value


_S = GroupStatus

GROUP_TABLE: Mapping[GroupStatus, StatusMeaning[GroupStatus]] = MappingProxyType(
    {
        _S.REGISTERED: StatusMeaning(
            "Registered",
            "The group takes tasks, and has no machines before it is started.",
            "Start it.",
            frozenset({_S.STARTING, _S.SHUTTING_DOWN}),
        ),
        _S.STARTING: StatusMeaning(
            "Starting",
            "Machines are being launched; none has joined yet.",
            "Wait for the first machine, or terminate the group.",
            frozenset({_S.STARTED, _S.START_FAILED, _S.SHUTTING_DOWN}),
        ),
        _S.START_FAILED: StatusMeaning(
            "Start Failed",
            "The provider refused the group's machines several times in a row.",
            "Read the group's detail, start it again, or terminate it.",
            frozenset({_S.STARTING, _S.SHUTTING_DOWN}),
        ),
        _S.STARTED: StatusMeaning(
            "Started",
            "A machine has joined, or the group needs none at the moment.",
            "Submit tasks, and terminate the group when it is not needed any more.",
            frozenset({_S.SHUTTING_DOWN}),
        ),
        _S.SHUTTING_DOWN: StatusMeaning(
            "Shutting Down",
            "The group's tasks are being ended and its machines stopped.",
            "Wait for its machines to stop.",
            frozenset({_S.SHUTDOWN_FAILED, _S.TERMINATED}),
        ),
        _S.SHUTDOWN_FAILED: StatusMeaning(
            "Shutdown Failed",
            "Machines still run long after they were to stop; stopping them is tried again.",
            "Read the group's detail and ask the operator.",
            frozenset({_S.TERMINATED}),
        ),
        _S.TERMINATED: StatusMeaning(
            "Terminated", "The group has ended; it has no machines.", "Register a new one."
        ),
    }
)

#: The type of a group whose machines work on one task together.
MPI = "mpi"

#: In these a group takes tasks.
ACCEPTING = frozenset({GroupStatus.REGISTERED, GroupStatus.STARTING, GroupStatus.STARTED})
#: In these its machines are kept up.
UP = frozenset({GroupStatus.STARTING, GroupStatus.STARTED})
#: In these its machines are being stopped.
ENDING = frozenset({GroupStatus.SHUTTING_DOWN, GroupStatus.SHUTDOWN_FAILED})
#: In these it is listed.
ACTIVE = ACCEPTING | ENDING | {GroupStatus.START_FAILED}
