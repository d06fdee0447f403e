"""How the end of an attempt changes its task: a final status, or the queue again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scheduler.domain.attempt_numbers import next_number, ordinal
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Attempts a task gets when its machines are lost one after another.
MAX_ATTEMPTS = 20
#: Machines that a task may lose before it is taken to be what brings them down.
MAX_LOSSES = 3

#: A lost machine as SQL stores it: attempt, machine_id, at, detail.
Loss = dict[str, Any]

#: Columns of a task that describe one attempt and are empty while the next one waits.
_OF_ONE_ATTEMPT: Mapping[str, None] = dict.fromkeys(
    ("executer", "start_time", "computation_start_time", "computation_end_time")
)


@dataclass(frozen=True)
class AttemptEnd:
    """The end of an attempt: why it ended and when (seconds since the epoch)."""

    cause: Cause
    at: float
    #: The machine on which it ended.
    machine_id: str | None = None
    #: A sentence for people; None: the cause's sentence.
    detail: str | None = None
    #: Exit code of the last command.
    exit_code: int | None = None


@dataclass(frozen=True)
class CostSoFar:
    """What a task with a limit has cost (US$), what it may cost, and a sentence that says both."""

    spent: float
    limit: float
    sentence: str


@dataclass(frozen=True)
class TaskSnapshot:
    """What the decision needs to know about a task whose current attempt ends."""

    status: Status
    attempt: int
    #: Whether the task wants another attempt after one that ended through no fault of the task.
    resubmit: bool
    attempt_floor: int = 0
    attempts_before: int = 0
    #: The machines that were lost while they ran earlier attempts.
    losses: Sequence[Loss] = ()
    #: When the user asked for the kill, seconds since the epoch.
    kill_requested_at: float | None = None
    #: None where the task has no limit.
    cost: CostSoFar | None = None


@dataclass(frozen=True)
class Ending:
    """The task's next status, the line in its history, and the columns that change with it."""

    status: Status
    description: str
    columns: Mapping[str, Any]
    #: Why the attempt ended, as its own row keeps it.
    attempt_detail: str


def decide(task: TaskSnapshot, end: AttemptEnd) -> Ending:
    """Decide what becomes of a task whose current attempt has ended.

    In this order: a task that is being killed ends killed, because the kill came first; one that
    has spent its money ends for that; one that lost machine after machine is held; one whose
    attempt ended without a fault of the task gets another; any other ends as the cause says.
    """
    outcome, cost = OUTCOMES[end.cause], task.cost
    sentence = end.detail or outcome.sentence
    if end.cause is Cause.COST_LIMIT and end.detail is None and cost is not None:
        sentence = cost.sentence
    losses = list(task.losses)
    columns: dict[str, Any] = {}
    if end.cause is Cause.MACHINE_LOST:
        losses.append(_loss(task.attempt, end, sentence))
        columns["losses"] = losses
    wants_another = outcome.resubmit and task.resubmit
    is_held = wants_another and len(losses) >= MAX_LOSSES
    if task.status is Status.PENDING_KILL:
        columns["cause"] = Cause.KILLED_BY_USER.value
        took_s = max(0.0, end.at - (task.kill_requested_at or end.at))
        killed = f"The task was killed at the user's request; it stopped {took_s:.1f} s after that."
        return Ending(Status.KILLED, killed, columns, sentence)
    if wants_another and cost is not None and cost.spent >= cost.limit:
        columns |= _final(Cause.COST_LIMIT, end, cost.sentence)
        status = OUTCOMES[Cause.COST_LIMIT].status
        return Ending(status, cost.sentence, columns, sentence)
    number = ordinal(task.attempt, task.attempt_floor, task.attempts_before)
    if wants_another and not is_held and number < MAX_ATTEMPTS:
        following = next_number(task.attempt, task.attempt_floor)
        columns |= {"next_attempt": following, **_OF_ONE_ATTEMPT}
        description = f"{sentence} Queued again as attempt {following}."
        return Ending(Status.SUBMITTED, description, columns, sentence)
    reason = _evidence(losses) if is_held else sentence
    columns |= _final(end.cause, end, None if end.cause is Cause.COMPLETED else reason)
    return Ending(outcome.status, reason, columns, sentence)


def _final(cause: Cause, end: AttemptEnd, detail: str | None) -> dict[str, Any]:
    return {"cause": cause.value, "exit_code": end.exit_code, "error_detail": detail}


def _loss(attempt: int, end: AttemptEnd, detail: str) -> Loss:
    at = datetime.fromtimestamp(end.at, UTC).isoformat(timespec="seconds")
    return {"attempt": attempt, "machine_id": end.machine_id, "at": at, "detail": detail}


def _evidence(losses: Sequence[Loss]) -> str:
    """Why a task that wants another attempt gets none."""
    lines = [f"attempt {x['attempt']} on {x['machine_id']} at {x['at']}" for x in losses]
    return (
        f"The task lost its machine {len(losses)} times ({'; '.join(lines)}) and is held: it may "
        "be what brings them down. Look at its memory and its children, then submit it again."
    )
