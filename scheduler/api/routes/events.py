"""Notifications that users register for tasks and machine groups; on the wire, events."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from scheduler.api.bounded import FilePath, StrictBody, Url
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.event_serializers import delivery_json, event_json, whole_event_json
from scheduler.api.limits import MAX_FILE_PATH_CHARACTERS
from scheduler.api.patterns import ID
from scheduler.api.strict import StrictRouter
from scheduler.services.errors import Invalid
from scheduler.services.notifications.register import (
    NewNotification,
    deliveries_of,
    events_of,
    owned_event,
    register_event,
    remove_event,
)
from scheduler.services.watch.observers import notify_observers
from simherd.contract.notifications import ActionType, NotificationTrigger, TriggerType

#: Longest e-mail address, characters (RFC 5321, 4.5.3.1).
MAX_EMAIL_CHARACTERS = 320

router = StrictRouter(tags=["events"])


#: No id is anything else, and a database may refuse to compare it.
_Id = Annotated[str, Field(pattern=ID, max_length=64)]


class TaskTrigger(StrictBody):
    """Something that a task comes to."""

    trigger_type: Literal[TriggerType.TASK]
    trigger: Literal[
        NotificationTrigger.TASK_OUTPUT_UPLOADED,
        NotificationTrigger.TASK_FAILED,
        NotificationTrigger.TASK_STARTED,
    ]
    task_id: _Id


class GroupTrigger(StrictBody):
    """Something that a machine group comes to."""

    trigger_type: Literal[TriggerType.MACHINE_GROUP]
    trigger: Literal[
        NotificationTrigger.GROUP_TERMINATED,
        NotificationTrigger.GROUP_TIME_LIMIT,
        NotificationTrigger.GROUP_PENDING_START,
        NotificationTrigger.GROUP_PREEMPTION,
    ]
    machine_group_id: _Id


class ObserverTrigger(StrictBody):
    """A file among what a task puts out, while it runs."""

    trigger_type: Literal[TriggerType.OBSERVER]
    trigger: Literal[NotificationTrigger.FILE_EXISTS, NotificationTrigger.FILE_REGEX]
    task_id: _Id
    file_path: FilePath
    regex: str | None = Field(default=None, max_length=MAX_FILE_PATH_CHARACTERS)


class CreditsTrigger(BaseModel):
    """What this server does not have."""

    trigger_type: Literal[TriggerType.CREDITS]


class Email(StrictBody):
    """A message to an address."""

    action_type: Literal[ActionType.EMAIL]
    email_address: str = Field(max_length=MAX_EMAIL_CHARACTERS)


class Webhook(StrictBody):
    """A POST to a URL."""

    action_type: Literal[ActionType.WEBHOOK]
    webhook_url: Url


class EventRequest(StrictBody):
    """What is to happen, and what is then done."""

    trigger: Annotated[
        TaskTrigger | GroupTrigger | ObserverTrigger | CreditsTrigger,
        Field(discriminator="trigger_type"),
    ]
    action: Annotated[Email | Webhook, Field(discriminator="action_type")]


@router.post("/events/", status_code=201)
def register(rt: RuntimeDep, user: UserDep, body: EventRequest) -> dict[str, Any]:
    """Register an event. `secret`, which webhooks are signed with, is shown here alone."""
    event = register_event(rt, user.id, _wanted(body))
    if event.untold:
        notify_observers(rt, event.task_id)
    return {**whole_event_json(event), "secret": event.secret}


def _wanted(body: EventRequest) -> NewNotification:
    trigger, action = body.trigger, body.action
    if isinstance(trigger, CreditsTrigger):
        raise Invalid("trigger.trigger_type: 'credits': this server has no credits.")
    wants_regex = trigger.trigger is NotificationTrigger.FILE_REGEX
    if isinstance(trigger, ObserverTrigger) and wants_regex != (trigger.regex is not None):
        raise Invalid(
            f"trigger.regex: {NotificationTrigger.FILE_REGEX} needs one, and nothing else does."
        )
    return NewNotification(
        trigger_type=trigger.trigger_type,
        trigger=trigger.trigger,
        action_type=action.action_type,
        target=action.email_address if isinstance(action, Email) else action.webhook_url,
        **_about(trigger),
    )


def _about(trigger: TaskTrigger | GroupTrigger | ObserverTrigger) -> dict[str, Any]:
    """What a trigger is about, by the fields of `NewNotification`."""
    if isinstance(trigger, GroupTrigger):
        return {"group_id": trigger.machine_group_id}
    return trigger.model_dump(include={"task_id", "file_path", "regex"})


@router.get("/events/")
def list_events(rt: RuntimeDep, user: UserDep) -> list[dict[str, Any]]:
    """The user's events, newest first, with exactly the contract's keys."""
    return [event_json(event) for event in events_of(rt, user.id)]


@router.get("/events/{event_id}")
def get_event(rt: RuntimeDep, user: UserDep, event_id: str) -> str:
    """One event as JSON inside a JSON string: the published client decodes the response twice."""
    return json.dumps(event_json(owned_event(rt, user.id, event_id)))


@router.delete("/events/{event_id}", status_code=204)
def remove(rt: RuntimeDep, user: UserDep, event_id: str) -> None:
    """Remove an event."""
    remove_event(rt, user.id, event_id)


@router.get("/v1/events")
def list_whole_events(rt: RuntimeDep, user: UserDep) -> list[dict[str, Any]]:
    """The user's events, newest first, with their state."""
    return [whole_event_json(event) for event in events_of(rt, user.id)]


@router.get("/v1/events/{event_id}")
def get_whole_event(rt: RuntimeDep, user: UserDep, event_id: str) -> dict[str, Any]:
    """One event with its state and its deliveries."""
    event = owned_event(rt, user.id, event_id)
    rows = deliveries_of(rt, event_id)
    return {**whole_event_json(event), "deliveries": [delivery_json(row) for row in rows]}
