"""What an event waits for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar, Protocol

from simherd.contract import notifications as contract
from simherd.contract.notifications import TriggerType


class Trigger(Protocol):
    """What a notification waits for."""

    def get_trigger(self) -> dict[str, str]:
        """Return the trigger as the request has it."""


@dataclass(frozen=True)
class _Named:
    """A trigger whose request consists of its fields and its name."""

    _type: ClassVar[TriggerType]
    _name: ClassVar[contract.NotificationTrigger]

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


@dataclass(frozen=True)
class TaskOutputUploaded(_OfTask):
    """The task has ended and its outputs are stored."""

    _name = contract.NotificationTrigger.TASK_OUTPUT_UPLOADED


@dataclass(frozen=True)
class TaskFailed(_OfTask):
    """The task has ended in one of the statuses that say that it failed."""

    _name = contract.NotificationTrigger.TASK_FAILED


@dataclass(frozen=True)
class TaskStarted(_OfTask):
    """A machine has taken the task."""

    _name = contract.NotificationTrigger.TASK_STARTED


@dataclass(frozen=True)
class _Observer(_Named):
    task_id: str
    file_path: str
    _type = TriggerType.OBSERVER


@dataclass(frozen=True)
class ObserverFileExists(_Observer):
    """A file exists among the task's outputs; `file_path` is relative to them."""

    _name = contract.NotificationTrigger.FILE_EXISTS


@dataclass(frozen=True)
class ObserverFileRegex(_Observer):
    """A line of such a file matches a pattern, in Python's syntax, anywhere in the line."""

    regex: str
    _name = contract.NotificationTrigger.FILE_REGEX


@dataclass(frozen=True)
class MachineGroupTerminated(_OfMachineGroup):
    """The group has been terminated, and its machines are gone."""

    _name = contract.NotificationTrigger.GROUP_TERMINATED


@dataclass(frozen=True)
class MachineGroupTimeLimitReached(_OfMachineGroup):
    """The group has come to its time limit and is being terminated."""

    _name = contract.NotificationTrigger.GROUP_TIME_LIMIT


@dataclass(frozen=True)
class MachineGroupPendingStart(_OfMachineGroup):
    """The group was started, and its provider has refused it machines for now."""

    _name = contract.NotificationTrigger.GROUP_PENDING_START


@dataclass(frozen=True)
class MachineGroupPreemption(_OfMachineGroup):
    """A spot machine of the group is being reclaimed; one notification for each."""

    _name = contract.NotificationTrigger.GROUP_PREEMPTION
