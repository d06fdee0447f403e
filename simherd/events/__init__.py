"""Notifications: a webhook or an e-mail when something happens to a task or a machine group."""

from __future__ import annotations

from simherd.contract.signing import verify_signature
from simherd.events.actions import Action, EmailNotification, WebhookNotification
from simherd.events.event import Event, get, list_events, register, remove
from simherd.events.triggers import (
    MachineGroupPendingStart,
    MachineGroupPreemption,
    MachineGroupTerminated,
    MachineGroupTimeLimitReached,
    ObserverFileExists,
    ObserverFileRegex,
    TaskFailed,
    TaskOutputUploaded,
    TaskStarted,
    Trigger,
)

__all__ = [
    "Action",
    "EmailNotification",
    "Event",
    "MachineGroupPendingStart",
    "MachineGroupPreemption",
    "MachineGroupTerminated",
    "MachineGroupTimeLimitReached",
    "ObserverFileExists",
    "ObserverFileRegex",
    "TaskFailed",
    "TaskOutputUploaded",
    "TaskStarted",
    "Trigger",
    "WebhookNotification",
    "get",
    "list_events",
    "register",
    "remove",
    "verify_signature",
]
