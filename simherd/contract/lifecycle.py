"""The task lifecycle: one table that everything which asks about a status reads.

The statuses, labels, explanations and advice restate the public task lifecycle table
(`docs/lifecycle.md` is generated from here); the wire values are those of the HTTP contract.
No status string is typed anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(StrEnum):
    """A task's status; the value is what goes over the wire."""

    PENDING_INPUT = "pending-input"
    SUBMITTED = "submitted"
    STARTED = "started"
    COMPUTATION_STARTED = "computation-started"
    COMPUTATION_ENDED = "computation-ended"
    PENDING_KILL = "pending-kill"
    SUCCESS = "success"
    FAILED = "failed"
    KILLED = "killed"
    SPOT_PREEMPTED = "spot-instance-preempted"
    EXECUTER_TERMINATED = "executer-terminated"
    EXECUTER_TERMINATED_BY_USER = "executer-terminated-by-user"
    EXECUTER_TERMINATED_TTL_EXCEEDED = "executer-terminated-ttl-exceeded"
    EXECUTER_TERMINATED_CREDITS_EXHAUSTED = "executer-terminated-credits-exhausted"
    EXECUTER_FAILED = "executer-failed"
    TTL_EXCEEDED = "ttl-exceeded"
    ZOMBIE = "zombie"


@dataclass(frozen=True)
class StatusRow:
    """What there is to know about one status. `after` holds the statuses that may follow; a status
    with none is terminal."""

    label: str
    explanation: str
    advice: str
    after: frozenset[Status] = frozenset()
    failed: bool = False
    killable: bool = False
    running: bool = False


_S = Status

#: How an attempt that an executor holds can end, whatever it was doing.
_HELD_ENDS = frozenset(
    {
        _S.PENDING_KILL,
        _S.SPOT_PREEMPTED,
        _S.EXECUTER_TERMINATED,
        _S.EXECUTER_TERMINATED_BY_USER,
        _S.EXECUTER_TERMINATED_TTL_EXCEEDED,
        _S.EXECUTER_TERMINATED_CREDITS_EXHAUSTED,
        _S.EXECUTER_FAILED,
        _S.TTL_EXCEEDED,
        # A lost machine sends the task back to the queue as the next attempt.
        _S.SUBMITTED,
    }
)

TABLE: Mapping[Status, StatusRow] = MappingProxyType(
    {
        _S.PENDING_INPUT: StatusRow(
            "Waiting for Input",
            "The task waits for its input files.",
            "Wait for the upload to end; if it failed, submit a new task.",
            after=frozenset({_S.SUBMITTED, _S.PENDING_KILL, _S.ZOMBIE, _S.EXECUTER_FAILED}),
            killable=True,
        ),
        _S.SUBMITTED: StatusRow(
            "In Queue",
            "The task is queued and waits for a machine of its group.",
            "Wait for it to start, use a group with more machines, or kill it.",
            after=frozenset({_S.STARTED, _S.PENDING_KILL, _S.ZOMBIE, _S.EXECUTER_FAILED}),
            killable=True,
        ),
        _S.STARTED: StatusRow(
            "Preparing to Compute",
            "A machine has taken the task and fetches its inputs and container image.",
            "Wait for the simulation to start, or kill the task.",
            after=_HELD_ENDS | {_S.COMPUTATION_STARTED},
            killable=True,
            running=True,
        ),
        _S.COMPUTATION_STARTED: StatusRow(
            "In Progress",
            "The simulation is running.",
            "Follow it with `simherd logs`, wait for it, or kill it.",
            after=_HELD_ENDS | {_S.COMPUTATION_ENDED},
            killable=True,
            running=True,
        ),
        _S.COMPUTATION_ENDED: StatusRow(
            "Finalizing",
            "The commands have ended; the outputs are being uploaded.",
            "Wait for the outputs to be stored.",
            after=_HELD_ENDS | {_S.SUCCESS, _S.FAILED},
            killable=True,
            running=True,
        ),
        _S.PENDING_KILL: StatusRow(
            "Pending Kill",
            "The request to kill the task was received and is being carried out.",
            "Wait for the task to stop.",
            after=frozenset({_S.KILLED}),
        ),
        _S.SUCCESS: StatusRow(
            "Success",
            "Every command ended with exit code 0 and the outputs are stored.",
            "Download the outputs.",
        ),
        _S.FAILED: StatusRow(
            "Failed",
            "A command of the simulation ended with a non-zero exit code.",
            "Look at stdout.txt and stderr.txt among the outputs.",
            failed=True,
        ),
        _S.KILLED: StatusRow(
            "Killed",
            "The task was killed at the user's request.",
            "Nothing to do.",
            failed=True,
        ),
        _S.SPOT_PREEMPTED: StatusRow(
            "Spot Reclaimed",
            "The provider reclaimed the spot machine that ran the task.",
            "Resubmit it, turn on resubmission, or use an on-demand machine group.",
            failed=True,
        ),
        _S.EXECUTER_TERMINATED: StatusRow(
            "Task Runner Terminated",
            "The machine that ran the task was lost.",
            "Turn on resubmission, or submit the task again.",
            failed=True,
        ),
        _S.EXECUTER_TERMINATED_BY_USER: StatusRow(
            "Machine Terminated by User",
            "The machine group was terminated while the task ran; there are no outputs.",
            "Submit it again and let it end before terminating the group.",
            failed=True,
        ),
        _S.EXECUTER_TERMINATED_TTL_EXCEEDED: StatusRow(
            "Machine Time Limit Reached",
            "The machine group reached its time limit while the task ran.",
            "Use a machine group with a longer time limit.",
            failed=True,
        ),
        _S.EXECUTER_TERMINATED_CREDITS_EXHAUSTED: StatusRow(
            "Credits Exhausted",
            "The machine group was terminated because the user's credits ran out.",
            "Ask the operator for more credits, then submit the task again.",
        ),
        _S.EXECUTER_FAILED: StatusRow(
            "Runtime Error",
            "Something outside the simulator failed, such as the image, the inputs or the disk.",
            "Read the error detail of the task and act on it.",
            failed=True,
        ),
        _S.TTL_EXCEEDED: StatusRow(
            "Task Timed Out",
            "The task reached its time-to-live, or cost as much as it may, and was stopped.",
            "Submit it again with a longer time-to-live, or a higher limit of its cost.",
            failed=True,
        ),
        _S.ZOMBIE: StatusRow(
            "Machine Terminated in Queue",
            "The machine group was terminated before the task started.",
            "Submit the task to a running machine group.",
            failed=True,
        ),
    }
)

TERMINAL = frozenset(s for s, row in TABLE.items() if not row.after)
FAILED = frozenset(s for s, row in TABLE.items() if row.failed)
RUNNING = frozenset(s for s, row in TABLE.items() if row.running)
#: The statuses in which an executor may hold the task's attempt.
HELD = RUNNING | {Status.PENDING_KILL}


def sources_of(to: Status) -> frozenset[Status]:
    """The statuses from which `to` may follow."""
    return frozenset(s for s, row in TABLE.items() if to in row.after)
