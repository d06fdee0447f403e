"""What is to be delivered: written in the very transaction in which it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from scheduler.store.event_models import Delivery, Registration
from scheduler.store.models import AttemptRow
from simherd.contract.lifecycle import FAILED, TERMINAL, Status
from simherd.contract.notifications import (
    REPEATING,
    DeliveryState,
    NotificationTrigger,
    RegistrationState,
    TriggerType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from scheduler.store.unit_of_work import UnitOfWork

#: The job that delivers, and tells executors of observers.
DELIVER = "deliver"
#: Of all that a task's history holds, only these say something that events wait for.
_TELLING = TERMINAL | {Status.STARTED}
_OVER = "The {} has ended, and this never happened."


def task_changed(session: UnitOfWork, task_id: str, to: Status, attempt: int, at: float) -> None:
    """A task has a new status: note what events wait for that."""
    if to not in _TELLING:
        return
    found = _waiting(session, Registration.task_id == task_id)
    if not found:
        return
    happened = {NotificationTrigger.TASK_STARTED} if to is Status.STARTED else set()
    if to in FAILED:
        happened.add(NotificationTrigger.TASK_FAILED)
    if to in TERMINAL and outputs_stored(session, task_id, attempt):
        happened.add(NotificationTrigger.TASK_OUTPUT_UPLOADED)
    for event in found:
        if event.trigger in happened:
            happen(session, event, at, status=to.value, attempt=attempt)
        elif to in TERMINAL:
            # What was missed of a file is why it may have been there.
            said = (_OVER.format("task"), event.state_detail)
            close(session, event, RegistrationState.OVER, " ".join(filter(None, said)))
    if to is Status.STARTED and any(event.untold for event in found):
        session.jobs.add(DELIVER)


def outputs_stored(session: Session, task_id: str, attempt: int) -> bool:
    """Whether the outputs of an attempt are in storage."""
    saved = session.scalar(
        select(AttemptRow.saved).where(AttemptRow.task_id == task_id, AttemptRow.attempt == attempt)
    )
    return "output_bytes" in (saved or {})


def group_changed(
    session: UnitOfWork, group_id: str, what: NotificationTrigger, at: float, machine_id: str = ""
) -> None:
    """Something has happened to a machine group: note what events wait for that.

    Args:
        session: the transaction it is part of.
        group_id: which group.
        what: what has happened.
        at: when, seconds since the epoch.
        machine_id: the machine that it happened to, where it is about one.
    """
    for event in _waiting(session, Registration.group_id == group_id):
        if event.trigger == what:
            told = {"machine_id": machine_id} if machine_id else {}
            happen(session, event, at, occasion=machine_id, **told)
        elif what is NotificationTrigger.GROUP_TERMINATED:
            close(session, event, RegistrationState.OVER, _OVER.format("machine group"))


def observed(
    session: UnitOfWork, task_id: str, attempt: int, at: float, body: dict[str, Any]
) -> None:
    """An executor has found what an observer looks for, cannot look for it, or has missed some."""
    for event in _waiting(
        session,
        Registration.id == body["observer_id"],
        Registration.task_id == task_id,
        Registration.trigger_type == TriggerType.OBSERVER.value,
    ):
        trouble = body.get("trouble")
        if trouble is not None and body.get("missed"):
            event.state_detail = str(trouble)[:500]
        elif trouble is not None:
            close(session, event, RegistrationState.DISABLED, str(trouble)[:500])
        else:
            told = {"captured": body["captured"]} if body.get("captured") else {}
            happen(session, event, at, attempt=attempt, **told)


def happen(
    session: UnitOfWork, event: Registration, at: float, occasion: str = "", **facts: Any
) -> None:
    """Note that what an event waits for has happened, unless that is noted already."""
    if NotificationTrigger(event.trigger) in REPEATING:
        known = select(Delivery.id).where(
            Delivery.event_id == event.id, Delivery.occasion == occasion
        )
        if session.scalar(known) is not None:
            return
    else:
        close(session, event, RegistrationState.DELIVERING)
    session.add(
        Delivery(
            event_id=event.id,
            occasion=occasion,
            at=at,
            facts=facts,
            state=DeliveryState.WAITING.value,
            next_at=0.0,
        )
    )
    session.flush()
    session.jobs.add(DELIVER)


def close(
    session: Session, event: Registration, state: RegistrationState, detail: str | None = None
) -> None:
    """Have an event wait no more."""
    session.execute(
        update(Registration)
        .where(Registration.id == event.id)
        .values(state=state.value, state_detail=detail, untold=False)
        .execution_options(synchronize_session=False)
    )


def _waiting(session: Session, *where: Any) -> Iterable[Registration]:
    """The events that wait, locked: what happens twice at once is noted once."""
    return session.scalars(
        select(Registration)
        .where(*where, Registration.state == RegistrationState.WAITING.value)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
