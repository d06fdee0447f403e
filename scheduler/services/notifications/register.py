"""Registrations of users: on which trigger they are notified, and where."""

from __future__ import annotations

import re
import secrets
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from scheduler.domain.group_status import GroupStatus
from scheduler.net.ssrf_guard import NotAllowed, check_host, checked_url, networks
from scheduler.services.errors import Invalid, QuotaExceeded, ResourceNotFound
from scheduler.services.groups.register import owned_group
from scheduler.services.ids import new_uuid
from scheduler.store.models import GroupRow, MachineRow, StatusChange, TaskRow
from scheduler.store.notification_models import Delivery, Registration
from scheduler.store.outbox import add_delivery, outputs_stored
from simherd.contract import objects
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import FAILED, TERMINAL, Status
from simherd.contract.notifications import (
    OPEN,
    ActionType,
    NotificationTrigger,
    RegistrationState,
    TriggerType,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.store.unit_of_work import UnitOfWork
    from scheduler.wiring import Runtime

#: Events that a user may have open at one time.
MAX_OPEN_EVENTS = 100
#: Longest pattern of an observer, characters, and the most groups in it.
MAX_REGEX_LENGTH = 512
MAX_REGEX_GROUPS = 32
#: Longest address of a webhook, characters.
MAX_WEBHOOK_URL = 2048

#: An address that no mail server reads as several, or as something else.
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[a-zA-Z0-9.-]{1,189}", re.ASCII)


@dataclass(frozen=True)
class NewNotification:
    """What a user registers; `target` is the e-mail address or the URL of a webhook."""

    trigger_type: TriggerType
    trigger: NotificationTrigger
    action_type: ActionType
    target: str
    task_id: str | None = None
    group_id: str | None = None
    file_path: str | None = None
    regex: str | None = None


def register_event(rt: Runtime, user_id: str, new: NewNotification) -> Registration:
    """Register a notification; it is sent at once if its trigger has already occurred.

    Raises:
        ResourceNotFound: the task or the machine group is not the user's.
        Invalid: the address, the file name or the pattern is invalid, or it can never be sent.
        QuotaExceeded: the user has too many open registrations.
    """
    _check_action(rt, new)
    path = _checked_path(new.file_path)
    if new.regex is not None:
        _check_regex(new.regex)
    webhook = new.action_type is ActionType.WEBHOOK
    row = Registration(
        id=new_uuid(),
        user_id=user_id,
        trigger_type=new.trigger_type.value,
        trigger=new.trigger.value,
        task_id=new.task_id,
        group_id=new.group_id,
        file_path=path,
        regex=new.regex,
        action_type=new.action_type.value,
        target=new.target,
        secret=f"whsec_{secrets.token_urlsafe(32)}" if webhook else None,
        state=RegistrationState.WAITING.value,
        untold=new.trigger_type is TriggerType.OBSERVER,
        created_at=time.time(),
    )
    if new.group_id is not None:
        owned_group(rt, user_id, new.group_id)
    with rt.store.write() as session:
        _check_open(session, user_id)
        if new.task_id is not None:
            _add_to_task(session, row)
        else:
            _add_to_group(session, row)
    return owned_event(rt, user_id, row.id)


def _add_to_task(session: UnitOfWork, row: Registration) -> None:
    # Locked: its status must not change before the registration is committed.
    task = session.scalar(
        select(TaskRow)
        .where(TaskRow.id == row.task_id, TaskRow.user_id == row.user_id)
        .with_for_update()
    )
    if task is None:
        raise ResourceNotFound(f"trigger.task_id: there is no task {row.task_id!r}.")
    task.watched = True
    session.add(row)
    session.flush()
    if _has_happened(session, task, NotificationTrigger(row.trigger)):
        at = task.end_time if task.end_time is not None else time.time()
        add_delivery(session, row, at, status=task.status, attempt=task.attempt)
    elif task.status in TERMINAL:
        raise Invalid(
            f"trigger.trigger: task {task.id} has ended ({task.status}), so {row.trigger!r} can "
            "happen no more."
        )


def _has_happened(session: Session, task: TaskRow, trigger: NotificationTrigger) -> bool:
    if trigger is NotificationTrigger.TASK_STARTED:
        started = select(StatusChange.id).where(
            StatusChange.task_id == task.id, StatusChange.status == Status.STARTED.value
        )
        return session.scalar(started.limit(1)) is not None
    if trigger is NotificationTrigger.TASK_FAILED:
        return task.status in FAILED
    stored = trigger is NotificationTrigger.TASK_OUTPUT_UPLOADED and task.status in TERMINAL
    return stored and outputs_stored(session, task.id, task.attempt)


def _add_to_group(session: UnitOfWork, row: Registration) -> None:
    group = session.get_one(GroupRow, row.group_id, with_for_update=True)
    session.add(row)
    session.flush()
    now = time.time()
    trigger = NotificationTrigger(row.trigger)
    if trigger is NotificationTrigger.GROUP_PREEMPTION:
        going = select(MachineRow.id).where(
            MachineRow.group_id == group.id,
            MachineRow.reclaim_at.is_not(None),
            MachineRow.terminated_at.is_(None),
        )
        for machine_id in session.scalars(going).all():
            add_delivery(session, row, now, occasion=machine_id, machine_id=machine_id)
    elif _has_come_to(group, trigger):
        add_delivery(session, row, now)
        return
    if group.status == GroupStatus.TERMINATED:
        raise Invalid(
            f"trigger.trigger: machine group {group.name!r} is terminated, so {row.trigger!r} "
            "can happen no more."
        )


def _has_come_to(group: GroupRow, trigger: NotificationTrigger) -> bool:
    if trigger is NotificationTrigger.GROUP_TERMINATED:
        return group.status == GroupStatus.TERMINATED
    if trigger is NotificationTrigger.GROUP_TIME_LIMIT:
        return group.end_cause == Cause.GROUP_TIME_LIMIT.value
    return group.status == GroupStatus.STARTING and group.refusals > 0


def _check_open(session: Session, user_id: str) -> None:
    states = [state.value for state in OPEN]
    count = session.scalar(
        select(func.count())
        .select_from(Registration)
        .where(Registration.user_id == user_id, Registration.state.in_(states))
    )
    if (count or 0) >= MAX_OPEN_EVENTS:
        raise QuotaExceeded(
            f"You have {count} events open, and {MAX_OPEN_EVENTS} are allowed. Remove some: "
            "`simherd events list` shows them."
        )


def _check_action(rt: Runtime, new: NewNotification) -> None:
    if new.action_type is ActionType.EMAIL:
        if rt.settings.smtp_url is None:
            raise Invalid(
                "action.action_type: this server sends no e-mail. Use a webhook, or ask the "
                "operator to set SIMHERD_SMTP_URL and SIMHERD_SMTP_FROM."
            )
        if not _EMAIL.fullmatch(new.target):
            raise Invalid(f"action.email_address: {new.target[:254]!r} is not an e-mail address.")
        return
    if len(new.target) > MAX_WEBHOOK_URL:
        raise Invalid(f"action.webhook_url: longer than {MAX_WEBHOOK_URL} characters.")
    try:
        url = checked_url(new.target)
        check_host(url, networks(rt.settings.outbound_allow))
    except NotAllowed as error:
        raise Invalid(f"action.webhook_url: {error}. Name an address on the internet.") from error


def _checked_path(path: str | None) -> str | None:
    if path is None:
        return None
    if path.startswith("/"):
        raise Invalid(f"trigger.file_path: {path[:200]!r} must be relative to the task's outputs.")
    try:
        return objects.normalise(path)
    except ValueError as error:
        raise Invalid(f"trigger.file_path: {error}.") from error


def _check_regex(regex: str) -> None:
    if not 0 < len(regex) <= MAX_REGEX_LENGTH or "\0" in regex:
        raise Invalid(
            f"trigger.regex: it has {len(regex)} characters; 1 to {MAX_REGEX_LENGTH} are "
            "allowed, and no NUL."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            groups = re.compile(regex).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise Invalid(f"trigger.regex: {regex!r} is not a regular expression: {error}.") from error
    if groups > MAX_REGEX_GROUPS:
        raise Invalid(f"trigger.regex: {groups} groups; {MAX_REGEX_GROUPS} are allowed.")


def owned_event(rt: Runtime, user_id: str, event_id: str) -> Registration:
    """Return a user's registration by id. Raises ResourceNotFound, also for other users'."""
    with rt.store.read() as session:
        row = session.get(Registration, event_id)
    if row is None or row.user_id != user_id:
        raise ResourceNotFound(
            f"event_id: there is no event {event_id!r}. `simherd events list` has all."
        )
    return row


def events_of(rt: Runtime, user_id: str) -> list[Registration]:
    """Return a user's registrations, newest first."""
    query = select(Registration).where(Registration.user_id == user_id)
    with rt.store.read() as session:
        newest_first = query.order_by(Registration.created_at.desc(), Registration.id)
        return list(session.scalars(newest_first))


def deliveries_of(rt: Runtime, event_id: str) -> list[Delivery]:
    """Return a registration's deliveries, oldest first."""
    query = select(Delivery).where(Delivery.event_id == event_id).order_by(Delivery.at)
    with rt.store.read() as session:
        return list(session.scalars(query))


def remove_event(rt: Runtime, user_id: str, event_id: str) -> None:
    """Remove a registration; what is being sent may still arrive. Raises ResourceNotFound."""
    owned_event(rt, user_id, event_id)
    with rt.store.write() as session:
        # Locked first: a delivery that is being written must not lose its registration.
        session.scalar(select(Registration).where(Registration.id == event_id).with_for_update())
        session.execute(delete(Delivery).where(Delivery.event_id == event_id))
        session.execute(delete(Registration).where(Registration.id == event_id))
