"""The statuses of machine groups, and what each lets happen."""

from __future__ import annotations

from enum import Enum


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


#: The type of a group whose machines work on one task together.
MPI = "mpi"

#: In these a group takes tasks.
ACCEPTING = frozenset({GroupStatus.REGISTERED, GroupStatus.STARTING, GroupStatus.STARTED})
#: In these its machines are kept up.
UP = frozenset({GroupStatus.STARTING, GroupStatus.STARTED})
#: In these its machines are on their way out.
ENDING = frozenset({GroupStatus.SHUTTING_DOWN, GroupStatus.SHUTDOWN_FAILED})
#: In these it is listed.
ACTIVE = ACCEPTING | ENDING | {GroupStatus.START_FAILED}
