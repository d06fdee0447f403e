"""What is known of one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TextIO

from simherd.contract.lifecycle import FAILED, RUNNING, TERMINAL, Status
from simherd.contract.operations import Metric
from simherd.errors import InvalidInput
from simherd.http import Api, api
from simherd.info import TaskInfo
from simherd.visible import say

if TYPE_CHECKING:
    from collections.abc import Mapping


class TaskFacts:
    """A task by its id, and what the server says about it."""

    def __init__(self, task_id: str) -> None:
        """A handle on the task with this id; nothing is sent."""
        self.id = task_id
        self._info: TaskInfo | None = None

    @classmethod
    def from_api_info(cls, info: Mapping[str, Any]) -> Self:
        """A task from the server's description of it."""
        task = cls(info["task_id"])
        task._info = TaskInfo(info)
        return task

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskFacts) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def _api(self) -> Api:
        return api()

    def get_info(self) -> TaskInfo:
        """Everything about the task, read from the server again."""
        self._info = TaskInfo(self._api.get(f"/tasks/{self.id}"))
        return self._info

    @property
    def info(self) -> TaskInfo:
        """What was last learned about the task; may be old."""
        return self._info or self.get_info()

    def _ended_info(self, cached: bool = False) -> TaskInfo:
        """As `get_info`, but without a request where nothing can have changed."""
        known = self._info
        if known is not None and (cached or (known.is_terminal and "status_history" in known)):
            return known
        return self.get_info()

    def get_status(self) -> Status:
        """The task's status."""
        if self._info is not None and self._info.is_terminal:
            return self._info.status
        return Status(self._api.get(f"/tasks/{self.id}/status")["status"])

    def is_running(self) -> bool:
        """Whether a machine works on the task."""
        return self.get_status() in RUNNING

    def is_failed(self) -> bool:
        """Whether the task has ended in any way but success."""
        return self.get_status() in FAILED

    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self.get_status() in TERMINAL

    def get_position_in_queue(self) -> int | None:
        """How many tasks of the group are ahead; None when the task does not wait."""
        position = self._api.get(f"/tasks/{self.id}/status")["position_in_queue"]
        return None if position is None else int(position["tasks_ahead"])

    def get_simulator_name(self) -> str:
        """The simulator's name."""
        return str(self.info["simulator"])

    def get_storage_path(self) -> str:
        """The task's folder in the user's storage."""
        return str(self.info["storage_path"])

    def get_machine_type(self) -> str | None:
        """The type of the machine that ran the task; None before there was one."""
        return self._ended_info().machine_type

    def get_computation_time(self, cached: bool = False) -> float | None:
        """Seconds the commands ran for, so far if they still run; None before they started."""
        info = self._ended_info(cached)
        measured = info.metric(Metric.COMPUTATION_SECONDS)
        if measured is not None:
            return measured
        return info.seconds_between("computation_start_time", "computation_end_time")

    def get_total_time(self, cached: bool = False) -> float | None:
        """Seconds since the task was submitted, until its end where it has ended."""
        return self._ended_info(cached).seconds_between("create_time", "end_time")

    @property
    def summary(self) -> str:
        """The task in some lines, from what was last learned."""
        return str(self._ended_info(cached=self._info is not None))

    def print_summary(self, fhandle: TextIO | None = None) -> None:
        """Print the task in some lines, read from the server again."""
        say(self._ended_info(), fhandle, lines=True)

    def get_metadata(self) -> dict[str, str]:
        """What was set with `set_metadata`."""
        return dict(self._api.get(f"/tasks/{self.id}/metadata"))

    def set_metadata(self, metadata: dict[str, str]) -> None:
        """Replace the texts that are kept with the task.

        Raises:
            InvalidInput: a key or value is not a text, or a key is empty.
        """
        for key, value in metadata.items():
            if not isinstance(key, str) or not isinstance(value, str) or not key:
                raise InvalidInput(f"metadata: {key!r}: {value!r} are not two texts.")
        self._api.put(f"/tasks/{self.id}/metadata", metadata)
