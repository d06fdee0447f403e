"""Deliveries of notifications, written in the transaction that triggers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from scheduler.store.models import AttemptRow
from scheduler.store.notification_models import Delivery, Registration
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

#: The job that delivers, and sends observers to executors.
DELIVER = "deliver"
#: The only statuses that trigger notifications.
_TRIGGERING = TERMINAL | {Status.STARTED}
_OVER = "The {} has ended, and this never happened."


def task_changed(session: UnitOfWork, task_id: str, to: Status, attempt: int, at: float) -> None:
    """Add the deliveries that a task's new status triggers."""
    if to not in _TRIGGERING:
        return
    registrations = _waiting(session, Registration.task_id == task_id)
    if not registrations:
        return
    fired = {NotificationTrigger.TASK_STARTED} if to is Status.STARTED else set()
    if to in FAILED:
        fired.add(NotificationTrigger.TASK_FAILED)
    if to in TERMINAL and outputs_stored(session, task_id, attempt):
        fired.add(NotificationTrigger.TASK_OUTPUT_UPLOADED)
    for registration in registrations:
        if registration.trigger in fired:
            add_delivery(session, registration, at, status=to.value, attempt=attempt)
        elif to in TERMINAL:
            # The detail says which part of a file no executor has read.
            detail = " ".join(filter(None, (_OVER.format("task"), registration.state_detail)))
            close(session, registration, RegistrationState.OVER, detail)
    if to is Status.STARTED and any(r.untold for r in registrations):
        session.jobs.add(DELIVER)


def outputs_stored(session: Session, task_id: str, attempt: int) -> bool:
    """Return whether the outputs of an attempt are in storage."""
    saved = session.scalar(
        select(AttemptRow.saved).where(AttemptRow.task_id == task_id, AttemptRow.attempt == attempt)
    )
    return "output_bytes" in (saved or {})


def group_changed(
    session: UnitOfWork, group_id: str, what: NotificationTrigger, at: float, machine_id: str = ""
) -> None:
    """Add the deliveries that a change of a machine group triggers.

    `what`: what has happened; `at`: when, seconds since the epoch; `machine_id`: the machine that
    it happened to, where it is about one.
    """
    for registration in _waiting(session, Registration.group_id == group_id):
        if registration.trigger == what:
            facts = {"machine_id": machine_id} if machine_id else {}
            add_delivery(session, registration, at, occasion=machine_id, **facts)
        elif what is NotificationTrigger.GROUP_TERMINATED:
            close(session, registration, RegistrationState.OVER, _OVER.format("machine group"))


def observed(
    session: UnitOfWork, task_id: str, attempt: int, at: float, body: dict[str, Any]
) -> None:
    """Record an executor's report about an observer: found, failed, or partly unread."""
    for registration in _waiting(
        session,
        Registration.id == body["observer_id"],
        Registration.task_id == task_id,
        Registration.trigger_type == TriggerType.OBSERVER.value,
    ):
        trouble = body.get("trouble")
        if trouble is not None and body.get("missed"):
            registration.state_detail = str(trouble)[:500]
        elif trouble is not None:
            close(session, registration, RegistrationState.DISABLED, str(trouble)[:500])
        else:
            facts = {"captured": body["captured"]} if body.get("captured") else {}
            add_delivery(session, registration, at, attempt=attempt, **facts)


def add_delivery(
    session: UnitOfWork, registration: Registration, at: float, occasion: str = "", **facts: Any
) -> None:
    """Add a delivery of a notification, unless there is one for this occasion."""
    if NotificationTrigger(registration.trigger) in REPEATING:
        known = select(Delivery.id).where(
            Delivery.event_id == registration.id, Delivery.occasion == occasion
        )
        if session.scalar(known) is not None:
            return
    else:
        close(session, registration, RegistrationState.DELIVERING)
    session.add(
        Delivery(
            event_id=registration.id,
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
    session: Session,
    registration: Registration,
    state: RegistrationState,
    detail: str | None = None,
) -> None:
    """Stop a notification from waiting for its trigger."""
    session.execute(
        update(Registration)
        .where(Registration.id == registration.id)
        .values(state=state.value, state_detail=detail, untold=False)
        .execution_options(synchronize_session=False)
    )


def _waiting(session: Session, *where: Any) -> Iterable[Registration]:
    """Return the waiting notifications, locked: two triggers at once deliver once."""
    return session.scalars(
        select(Registration)
        .where(*where, Registration.state == RegistrationState.WAITING.value)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
