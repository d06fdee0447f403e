"""What an event waits for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar, Protocol

from simherd.contract.notifications import NotificationTrigger, TriggerType


class Trigger(Protocol):
    """What a notification waits for."""

    def get_trigger(self) -> dict[str, str]:
        """Return the trigger as the request has it."""


@dataclass(frozen=True)
class _Named:
    """A trigger whose request consists of its fields and its name."""

    _type: ClassVar[TriggerType]
    _name: ClassVar[NotificationTrigger]

    def __init_subclass__(cls, name: NotificationTrigger | None = None) -> None:
        if name is not None:
            cls._name = name

    def get_trigger(self) -> dict[str, str]:
        """See `Trigger`."""
        return {"trigger_type": self._type.value, "trigger": self._name.value, **asdict(self)}


@dataclass(frozen=True)
class _OfTask(_Named):
    task_id: str
    _type = TriggerType.TASK


@dataclass(frozen=True)
class _OfMachineGroup(_Named):
    machine_group_id: str
    _type = TriggerType.MACHINE_GROUP


class TaskOutputUploaded(_OfTask, name=NotificationTrigger.TASK_OUTPUT_UPLOADED):
    """The task has ended and its outputs are stored."""


class TaskFailed(_OfTask, name=NotificationTrigger.TASK_FAILED):
    """The task has ended in one of the statuses that say that it failed."""


class TaskStarted(_OfTask, name=NotificationTrigger.TASK_STARTED):
    """A machine has taken the task."""


@dataclass(frozen=True)
class _Observer(_Named):
    task_id: str
    file_path: str
    _type = TriggerType.OBSERVER


@dataclass(frozen=True)
class ObserverFileExists(_Observer, name=NotificationTrigger.FILE_EXISTS):
    """A file exists among the task's outputs; `file_path` is relative to them."""


@dataclass(frozen=True)
class ObserverFileRegex(_Observer, name=NotificationTrigger.FILE_REGEX):
    """A line of such a file matches a pattern, in Python's syntax, anywhere in the line."""

    regex: str


class MachineGroupTerminated(_OfMachineGroup, name=NotificationTrigger.GROUP_TERMINATED):
    """The group has been terminated, and its machines are gone."""


class MachineGroupTimeLimitReached(_OfMachineGroup, name=NotificationTrigger.GROUP_TIME_LIMIT):
    """The group has come to its time limit and is being terminated."""


class MachineGroupPendingStart(_OfMachineGroup, name=NotificationTrigger.GROUP_PENDING_START):
    """The group was started, and its provider has refused it machines for now."""


class MachineGroupPreemption(_OfMachineGroup, name=NotificationTrigger.GROUP_PREEMPTION):
    """A spot machine of the group is being reclaimed; one notification for each."""
