"""Why an attempt ended, and which final status each cause means.

The executor decides a cause, never a status; the scheduler maps it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cause(StrEnum):
    """Why an attempt ended."""

    COMPLETED = "completed"
    NONZERO_EXIT = "nonzero_exit"
    KILLED_BY_USER = "killed_by_user"
    TASK_TIME_LIMIT = "task_time_limit"
    COST_LIMIT = "cost_limit"
    GROUP_TIME_LIMIT = "group_time_limit"
    GROUP_IDLE = "group_idle"
    GROUP_TERMINATED = "group_terminated"
    SPOT_RECLAIMED = "spot_reclaimed"
    MACHINE_LOST = "machine_lost"
    CONTACT_LOST = "contact_lost"
    AGENT_STOPPED = "agent_stopped"
    LEASE_LOST = "lease_lost"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_LIMIT = "disk_limit"
    PIDS_LIMIT = "pids_limit"
    IMAGE_UNAVAILABLE = "image_unavailable"
    INPUT_INVALID = "input_invalid"
    UPLOAD_FAILED = "upload_failed"
    AGENT_ERROR = "agent_error"


@dataclass(frozen=True)
class Outcome:
    """What a cause means: the final status, a sentence, and whether to try again.

    `resubmit` is true for causes that are not the fault of the task, so that another attempt can
    help; whether there is one is the task's choice (`resubmit_on_preemption`). `machine` is true
    where several such ends in a row mean that the machine is faulty.
    """

    status: Status
    sentence: str
    resubmit: bool = False
    machine: bool = False


OUTCOMES: Mapping[Cause, Outcome] = MappingProxyType(
    {
        Cause.COMPLETED: Outcome(Status.SUCCESS, "Every command ended with exit code 0."),
        Cause.NONZERO_EXIT: Outcome(Status.FAILED, "A command ended with a non-zero exit code."),
        Cause.KILLED_BY_USER: Outcome(Status.KILLED, "The task was killed at its user's request."),
        Cause.TASK_TIME_LIMIT: Outcome(
            Status.TTL_EXCEEDED, "The task ran longer than its time-to-live."
        ),
        # Money limits the time; the wire has no separate status for it.
        Cause.COST_LIMIT: Outcome(
            Status.TTL_EXCEEDED, "The task's machines have cost as much as they may (max_cost)."
        ),
        Cause.GROUP_TIME_LIMIT: Outcome(
            Status.EXECUTER_TERMINATED_TTL_EXCEEDED, "The machine group reached its time limit."
        ),
        Cause.GROUP_IDLE: Outcome(
            Status.EXECUTER_TERMINATED, "The machine group was idle for as long as it may be."
        ),
        Cause.GROUP_TERMINATED: Outcome(
            Status.EXECUTER_TERMINATED_BY_USER, "The machine group was terminated by its user."
        ),
        Cause.SPOT_RECLAIMED: Outcome(
            Status.SPOT_PREEMPTED, "The provider reclaimed the spot machine.", resubmit=True
        ),
        Cause.MACHINE_LOST: Outcome(
            Status.EXECUTER_TERMINATED, "The machine that ran the task was lost.", resubmit=True
        ),
        Cause.CONTACT_LOST: Outcome(
            Status.EXECUTER_TERMINATED,
            "The machine lost contact with the scheduler for too long and stopped the task.",
            resubmit=True,
        ),
        Cause.AGENT_STOPPED: Outcome(
            Status.EXECUTER_TERMINATED,
            "The executor was stopped before the task ended.",
            resubmit=True,
        ),
        Cause.LEASE_LOST: Outcome(
            Status.EXECUTER_TERMINATED, "The executor no longer held the attempt.", resubmit=True
        ),
        Cause.OUT_OF_MEMORY: Outcome(
            Status.EXECUTER_FAILED, "The simulation used more memory than it may."
        ),
        Cause.DISK_LIMIT: Outcome(
            Status.EXECUTER_FAILED, "The simulation used more disk space than there is."
        ),
        Cause.PIDS_LIMIT: Outcome(
            Status.EXECUTER_FAILED, "The simulation started more processes than it may."
        ),
        Cause.IMAGE_UNAVAILABLE: Outcome(
            Status.EXECUTER_FAILED, "The container image could not be fetched."
        ),
        Cause.INPUT_INVALID: Outcome(
            Status.EXECUTER_FAILED, "The input archive is missing or was refused."
        ),
        Cause.UPLOAD_FAILED: Outcome(
            Status.EXECUTER_FAILED, "The outputs could not be stored.", machine=True
        ),
        Cause.AGENT_ERROR: Outcome(Status.EXECUTER_FAILED, "The executor failed.", machine=True),
    }
)
