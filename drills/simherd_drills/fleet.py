"""The machine group that a course of drills is run against, and the tasks that it is given."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from simherd import resources
from simherd.contract import labels
from simherd.contract.lifecycle import Status
from simherd.errors import SimherdError
from simherd.simulators import CustomImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simherd.task import Task
    from simherd_drills.machines import DrillMachine
    from simherd_drills.targets import Targets

T = TypeVar("T")

#: Seconds of one step of a task.
_STEP_S = 0.25
#: What a task writes besides, bytes that cannot be compressed: a slow storage is to be felt.
_RESULT_BYTES = 256 * 1024
_SIMULATION = (
    f"sh -c 'n=0; while [ $n -lt {{steps}} ]; do sleep {_STEP_S}; n=$((n+1)); echo step $n; done; "
    f"head -c {_RESULT_BYTES} /dev/urandom >result.bin'"
)
#: Seconds in which something that is promised must be seen: more than a storage that was broken is
#: waited for, and more than a busy host needs.
_PATIENCE_S = 180.0
_LOOK_S = 0.2


class Fleet:
    """A group whose machines are on this host."""

    def __init__(self, host: Targets, group: str, image: str | None) -> None:
        """`image`: what the tasks run in; by default the machines' own.
        Raises SimherdError: there is no such group, or no image."""
        self.host = host
        self._group = resources.get_by_name(group)
        self._image = image or self._image_of_machines()

    def submit(self, seconds: float) -> Task:
        """Send a task that counts for so long."""
        return CustomImage(self._image).run(
            on=self._group,
            commands=[_SIMULATION.format(steps=_steps(seconds))],
            resubmit_on_preemption=True,
            stop_grace=2,
        )

    def holder(self, task: Task) -> DrillMachine:
        """Wait until a task computes and return the machine that it does so on."""

        def computes() -> DrillMachine | None:
            if task.get_info().status != Status.COMPUTATION_STARTED:
                return None
            ids = [str(m["uuid"]) for m in self._machines() if m["current_task_id"] == task.id]
            return self.host.named(ids)[0] if ids else None

        return until(computes, f"task {task.id} to compute on a machine of {self._group.name}")

    def machine_status(self, machine: DrillMachine) -> dict[str, Any]:
        """What the scheduler says of a machine."""
        return next(m for m in self._machines() if m["uuid"] == machine.id)

    def containers(self, task: Task) -> list[Any]:
        """The containers of a task that are there, running or not."""
        return self.host.engine.containers(f"{labels.TASK}={task.id}")

    def _machines(self) -> list[dict[str, Any]]:
        return list(self._group.refresh().info["machines"])

    def _image_of_machines(self) -> str:
        ids = {str(m["uuid"]) for m in self._machines()}
        for container in self.host.engine.containers(labels.MACHINE):
            if container.labels[labels.MACHINE] in ids:
                return container.image_name
        raise SimherdError(
            f"group: {self._group.name} has no machine that is a container of this host: say with "
            "--image what the tasks are to run in."
        )


def wrong_files(task: Task, seconds: float) -> Iterator[str]:
    """What is missing of the outputs of a task that counted for so long, or there twice."""
    with tempfile.TemporaryDirectory(prefix="simherd-drill-") as folder:
        task.download_outputs(output_dir=folder)
        text = (Path(folder) / "stdout.txt").read_text()
        lines = [line for line in text.splitlines() if line.startswith("step")]
        if lines != [f"step {n + 1}" for n in range(_steps(seconds))]:
            yield f"{len(lines)} lines in the log, not {_steps(seconds)} in order"
        size = (Path(folder) / "result.bin").stat().st_size
        if size != _RESULT_BYTES:
            yield f"result.bin has {size} bytes, not {_RESULT_BYTES}"


def _steps(seconds: float) -> int:
    return max(1, round(seconds / _STEP_S))


def until(look: Callable[[], T | None], what: str) -> T:
    """Look until there is a result. Raises SimherdError: there is none in time."""
    end = time.monotonic() + _PATIENCE_S
    while not (seen := look()):
        if time.monotonic() > end:
            raise SimherdError(f"waited {_PATIENCE_S:.0f} s for {what}.")
        time.sleep(_LOOK_S)
    return seen
