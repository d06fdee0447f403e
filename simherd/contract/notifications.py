"""What an event can wait for, what it then does, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TriggerType(str, Enum):
    """What a trigger watches."""

    TASK = "task"
    MACHINE_GROUP = "machine_group"
    OBSERVER = "observer"
    CREDITS = "credits"


class NotificationTrigger(str, Enum):
    """What an event waits for."""

    TASK_OUTPUT_UPLOADED = "task_output_uploaded"
    TASK_FAILED = "task_failed"
    TASK_STARTED = "task_started"
    FILE_EXISTS = "file_exists_observer"
    FILE_REGEX = "file_regex_observer"
    GROUP_TERMINATED = "machine_group_terminated"
    GROUP_TIME_LIMIT = "machine_group_time_limit_reached"
    GROUP_PENDING_START = "machine_group_pending_start"
    GROUP_PREEMPTION = "machine_group_preemption"

    def __str__(self) -> str:
        return self.value


#: These may happen again and again; all others happen once.
REPEATING = frozenset({NotificationTrigger.GROUP_PREEMPTION})


class ActionType(str, Enum):
    """What is done when it happens."""

    EMAIL = "email"
    WEBHOOK = "webhook"

    def __str__(self) -> str:
        return self.value


class RegistrationState(str, Enum):
    """Where an event stands."""

    #: It has not happened yet, or may happen again.
    WAITING = "waiting"
    #: It has happened; its delivery is tried.
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    #: The delivery was given up, or the pattern could not be looked for; `state_detail` says why.
    DISABLED = "disabled"
    #: The task or the machine group has ended, and it never happened.
    OVER = "over"

    def __str__(self) -> str:
        return self.value


#: In these an event counts against `limits.MAX_OPEN_EVENTS`.
OPEN = frozenset({RegistrationState.WAITING, RegistrationState.DELIVERING})


class DeliveryState(str, Enum):
    """Where one delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Observer:
    """A file that an executor looks for: that it is there, or for a line that `regex` matches."""

    id: str
    path: str
    regex: str | None = None
