"""Notifications that users register: triggers, actions and states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class TriggerType(str, Enum):
    """The kind of object that a trigger watches."""

    TASK = "task"
    MACHINE_GROUP = "machine_group"
    OBSERVER = "observer"
    CREDITS = "credits"


class NotificationTrigger(StrEnum):
    """What a notification waits for."""

    TASK_OUTPUT_UPLOADED = "task_output_uploaded"
    TASK_FAILED = "task_failed"
    TASK_STARTED = "task_started"
    FILE_EXISTS = "file_exists_observer"
    FILE_REGEX = "file_regex_observer"
    GROUP_TERMINATED = "machine_group_terminated"
    GROUP_TIME_LIMIT = "machine_group_time_limit_reached"
    GROUP_PENDING_START = "machine_group_pending_start"
    GROUP_PREEMPTION = "machine_group_preemption"


#: Triggers that may fire more than once.
REPEATING = frozenset({NotificationTrigger.GROUP_PREEMPTION})


class ActionType(StrEnum):
    """What is done when the trigger fires."""

    EMAIL = "email"
    WEBHOOK = "webhook"


class RegistrationState(StrEnum):
    """The state of a notification."""

    #: The trigger has not fired yet, or may fire again.
    WAITING = "waiting"
    #: The trigger has fired; the delivery is being tried.
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    #: The delivery was given up, or the pattern cannot be searched for; `state_detail` says why.
    DISABLED = "disabled"
    #: The task or the machine group has ended, and the trigger never fired.
    OVER = "over"


#: States that count against the most that a user may have open.
OPEN = frozenset({RegistrationState.WAITING, RegistrationState.DELIVERING})


class DeliveryState(StrEnum):
    """The state of one delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True)
class Observer:
    """A file that an executor looks for: until it exists, or has a line that `regex` matches."""

    id: str
    path: str
    regex: str | None = None
