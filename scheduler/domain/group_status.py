"""The statuses of machine groups: one table that everything which changes a status reads."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class GroupStatus(StrEnum):
    """A machine group's status, as the HTTP contract has it."""

    REGISTERED = "registered"
    STARTING = "starting"
    START_FAILED = "start_failed"
    STARTED = "started"
    SHUTTING_DOWN = "shutting_down"
    SHUTDOWN_FAILED = "shutdown_failed"
    TERMINATED = "terminated"


_S = GroupStatus

#: Status → those that may follow it.
GROUP_TABLE: Mapping[GroupStatus, frozenset[GroupStatus]] = MappingProxyType(
    {
        # It takes tasks, and has no machines before it is started.
        _S.REGISTERED: frozenset({_S.STARTING, _S.SHUTTING_DOWN}),
        # Machines are being launched; none has joined yet.
        _S.STARTING: frozenset({_S.STARTED, _S.START_FAILED, _S.SHUTTING_DOWN}),
        # The provider refused the group's machines several times in a row.
        _S.START_FAILED: frozenset({_S.STARTING, _S.SHUTTING_DOWN}),
        # A machine has joined, or the group needs none at the moment.
        _S.STARTED: frozenset({_S.SHUTTING_DOWN}),
        # Its tasks are being ended and its machines stopped.
        _S.SHUTTING_DOWN: frozenset({_S.SHUTDOWN_FAILED, _S.TERMINATED}),
        # Machines still run long after they were to stop; stopping them is tried again.
        _S.SHUTDOWN_FAILED: frozenset({_S.TERMINATED}),
        _S.TERMINATED: frozenset(),
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
