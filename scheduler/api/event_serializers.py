"""Registered notifications as JSON: as the HTTP contract has them, and in full.

On the wire, they are called events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.api.serializers import isoformat_utc
from simherd.contract.notifications import ActionType, TriggerType

if TYPE_CHECKING:
    from scheduler.store.notification_models import Delivery, Registration


def event_json(event: Registration) -> dict[str, Any]:
    """An event in the contract's words: the published client accepts exactly these keys."""
    return {"event_id": event.id, "trigger": _trigger(event), "action": _action(event)}


def _trigger(event: Registration) -> dict[str, Any]:
    kind = event.trigger_type
    if kind == TriggerType.TASK:
        return {"trigger_type": kind, "task_id": event.task_id}
    if kind == TriggerType.MACHINE_GROUP:
        return {"trigger_type": kind, "machine_group_id": event.group_id}
    trigger = {
        "trigger_type": kind,
        "observer_id": event.id,
        "observer_type": event.trigger,
        "task_id": event.task_id,
        "file_path": event.file_path,
    }
    return trigger if event.regex is None else {**trigger, "regex": event.regex}


def _action(event: Registration) -> dict[str, Any]:
    field = "email_address" if event.action_type == ActionType.EMAIL else "webhook_url"
    return {"action_type": event.action_type, field: event.target}


def whole_event_json(event: Registration) -> dict[str, Any]:
    """An event with its trigger's name and its state; never its secret."""
    event_fields = event_json(event)
    return {
        **event_fields,
        "trigger": {**event_fields["trigger"], "trigger": event.trigger},
        "state": event.state,
        "state_detail": event.state_detail,
        "created_at": isoformat_utc(event.created_at),
    }


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """A delivery and its state."""
    return {
        "delivery_id": delivery.id,
        "at": isoformat_utc(delivery.at),
        "facts": delivery.facts,
        "state": delivery.state,
        "tries": delivery.tries,
        "last_try_at": isoformat_utc(delivery.last_try_at),
        "last_error": delivery.last_error,
        "next_try_at": isoformat_utc(delivery.next_at) if delivery.next_at else None,
    }
