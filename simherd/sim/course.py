"""The whole course: every drill against a group that works, and whether what is promised holds."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from simherd import resources
from simherd.contract import labels
from simherd.contract.lifecycle import TERMINAL, Status
from simherd.errors import SimherdError
from simherd.sim.drills import held, reclaimed
from simherd.sim.machines import NotPossible
from simherd.sim.services import BREAKS
from simherd.simulators import CustomImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from simherd.info import TaskInfo
    from simherd.sim.ground import Ground
    from simherd.sim.machines import Machine
    from simherd.task import Task

T = TypeVar("T")

#: Seconds of one step of the task, and seconds that it works for beyond a drill's time.
_STEP_S, _BEYOND_S = 0.25, 2.0
#: What it writes besides, bytes: enough for a slow storage to be felt.
_RESULT_BYTES = 256 * 1024
#: Seconds in which something that is promised must be seen: more than a storage that was broken is
#: waited for, and more than a busy host needs.
_PATIENCE_S = 180.0
_LOOK_S = 0.2
#: Bytes left by `fill-disk`, and the rate of `slow-storage`.
_LEAVE, _RATE = 100 * 1000**2, "1mbit"
_SIMULATION = (
    f"sh -c 'n=0; while [ $n -lt {{steps}} ]; do sleep {_STEP_S}; n=$((n+1)); echo step $n; done; "
    f"head -c {_RESULT_BYTES} /dev/zero >result.bin'"
)


@dataclass(frozen=True)
class Row:
    """What came of one drill."""

    drill: str
    done: str
    promised: str
    seen: str
    #: None where it was not done, because it is not possible there.
    held: bool | None
    seconds: float


@dataclass(frozen=True)
class Exercise:
    """One drill of the course."""

    drill: str
    #: What is done to the machine that holds the task, or to the service.
    done: str
    #: How many attempts the task may take, and what of it is said to people.
    attempts: int
    broken: Callable[[Ground, Machine], AbstractContextManager[None]]
    #: Whether the machine says meanwhile that it takes nothing more.
    waits: bool = False

    @property
    def promised(self) -> str:
        """What must be seen."""
        attempts = "the same attempt" if self.attempts == 1 else "a second attempt"
        note = "; the machine says that it has no room" if self.waits else ""
        return f"success once, by {attempts}; all files; nothing left{note}"


class Course:
    """Runs the drills one after another, each with a task of its own."""

    def __init__(self, ground: Ground, group: str, seconds: float, image: str | None) -> None:
        """`seconds`: how long each drill lasts; `image`: what the tasks run in."""
        self._ground = ground
        self._group = resources.get_by_name(group)
        self._seconds = seconds
        self._image = image or self._image_of_machines()

    def run(self, drills: Iterable[str]) -> Iterator[Row]:
        """Do the exercises of these drills; a row as each is over."""
        for exercise in self._exercises():
            if exercise.drill.split()[0] in drills:
                yield self._do(exercise)

    def _exercises(self) -> list[Exercise]:
        for_ = f"for {self._seconds:.0f} s"
        notice = partial(reclaimed, notice_s=self._seconds)
        return [
            Exercise("reclaim", f"notice of {self._seconds:.0f} s", 2, lambda _, m: notice(m)),
            Exercise("reclaim --notice 0", "at once", 2, lambda _, m: reclaimed(m, 0)),
            Exercise(
                "partition", for_, 1, lambda _, m: held(partial(m.cut, one_way=False), m.join)
            ),
            Exercise(
                *("partition --one-way", for_, 1),
                lambda _, m: held(partial(m.cut, one_way=True), m.join),
            ),
            Exercise("freeze", for_, 1, lambda _, m: held(m.freeze, m.thaw)),
            Exercise("kill-agent", "SIGKILL", 1, lambda _, m: held(m.kill_agent, _nothing)),
            Exercise(
                *("fill-disk", f"{for_}, 100 MB left", 1),
                lambda _, m: held(partial(m.fill, _LEAVE, even_shared=False), m.empty),
                waits=True,
            ),
            Exercise("restart-redis", "SIGTERM", 1, partial(_without_redis, kill=False)),
            Exercise("restart-redis --kill", "SIGKILL", 1, partial(_without_redis, kill=True)),
            Exercise("slow-storage", f"{for_}, {_RATE}", 1, _slow_storage),
            *(
                Exercise(f"break-storage --how {how}", for_, 1, partial(_broken_storage, how=how))
                for how in BREAKS
            ),
        ]

    def _do(self, exercise: Exercise) -> Row:
        began = time.monotonic()
        held_, seen = self._see(exercise)
        took = time.monotonic() - began
        return Row(exercise.drill, exercise.done, exercise.promised, seen, held_, took)

    def _see(self, exercise: Exercise) -> tuple[bool | None, str]:
        """Break something while a task runs; answers whether all held, and what was seen."""
        steps = int((self._seconds + _BEYOND_S) / _STEP_S)
        task = self._submit(steps)
        try:
            machine = self._holder(task)
            with exercise.broken(self._ground, machine):
                time.sleep(self._seconds)
                said = self._says_why(machine) if exercise.waits else ""
            wrong = list(self._wrong(task, exercise.attempts, steps))
        except NotPossible as error:
            return None, f"not done: {error}"
        except SimherdError as error:
            return False, f"broken: {error}"
        finally:
            if not task.get_info().is_terminal:
                task.kill(verbosity_level=0)
        causes = ", ".join(str(a["cause"]) for a in task.get_attempts())
        seen = "; ".join([*wrong, f"attempts: {causes}", *([said] if said else [])])
        return not wrong, seen

    def _submit(self, steps: int) -> Task:
        command = _SIMULATION.format(steps=steps)
        return CustomImage(self._image).run(
            on=self._group, commands=[command], resubmit_on_preemption=True, stop_grace=2
        )

    def _image_of_machines(self) -> str:
        ids = {str(m["uuid"]) for m in self._group.refresh().info["machines"]}
        for container in self._ground.engine.containers(labels.MACHINE):
            if container.labels[labels.MACHINE] in ids:
                return container.image_name
        raise SimherdError(
            f"group: {self._group.name} has no machine that is a container of this host: say with "
            "--image what the tasks are to run in."
        )

    def _holder(self, task: Task) -> Machine:
        """Wait until the task computes; answers the machine that it does so on."""

        def computes() -> Machine | None:
            if task.get_info().status != Status.COMPUTATION_STARTED:
                return None
            (holder,) = self._machines("current_task_id", task.id)
            return self._ground.named([str(holder["uuid"])])[0]

        return _until(computes, f"task {task.id} to compute on a machine of {self._group.name}")

    def _machines(self, field: str, value: str) -> list[dict[str, Any]]:
        machines = self._group.refresh().info["machines"]
        return [m for m in machines if m[field] == value]

    def _says_why(self, machine: Machine) -> str:
        """Wait until the machine says why it takes nothing more."""

        def word() -> str | None:
            (found,) = self._machines("uuid", machine.id)
            return (found["facts"] or {}).get("waits_for")

        return _until(word, f"{machine.name} to say that it has no room")

    def _wrong(self, task: Task, attempts: int, steps: int) -> Iterator[str]:
        """Wait for the task's end; a sentence for each thing that is not as it was promised."""
        info = _until(lambda: _ended(task), f"the end of task {task.id}")
        ends = [h for h in info["status_history"] if Status(h["status"]) in TERMINAL]
        if info.status != Status.SUCCESS or len(ends) != 1:
            yield f"ended {len(ends)} times, {info.status}: {info['error_detail']}"
            return
        if (had := len(task.get_attempts())) != attempts:
            yield f"{had} attempts, not {attempts}"
        yield from _wrong_files(task, steps)
        _until(lambda: not self._containers(task), f"no container of task {task.id} to be left")

    def _containers(self, task: Task) -> list[Any]:
        return self._ground.engine.containers(f"{labels.TASK}={task.id}")


def _nothing() -> None:
    """What heals by itself."""


def _without_redis(
    ground: Ground, _machine: Machine, *, kill: bool
) -> AbstractContextManager[None]:
    def restart() -> None:
        for redis in ground.every_redis():
            redis.restart(kill=kill)

    return held(restart, _nothing)


def _slow_storage(ground: Ground, _machine: Machine) -> AbstractContextManager[None]:
    (storage,) = ground.storage(())
    return held(partial(storage.slow, _RATE), storage.mend)


def _broken_storage(ground: Ground, _machine: Machine, *, how: str) -> AbstractContextManager[None]:
    (storage,) = ground.storage(())
    return held(partial(storage.break_, how), storage.mend)


def _ended(task: Task) -> TaskInfo | None:
    info = task.get_info()
    return info if info.is_terminal else None


def _wrong_files(task: Task, steps: int) -> Iterator[str]:
    """What is missing of a task's outputs, or there twice."""
    with tempfile.TemporaryDirectory(prefix="simherd-drill-") as folder:
        outputs = Path(folder)
        task.download_outputs(output_dir=folder)
        lines = [li for li in (outputs / "stdout.txt").read_text().splitlines() if li[:4] == "step"]
        if lines != [f"step {n}" for n in range(1, steps + 1)]:
            yield f"{len(lines)} lines in the log, not {steps} in order"
        size = (outputs / "result.bin").stat().st_size
        if size != _RESULT_BYTES:
            yield f"result.bin has {size} bytes, not {_RESULT_BYTES}"


def _until(look: Callable[[], T | None], what: str) -> T:
    """Look until there is an answer.

    Raises:
        SimherdError: there is none in time.
    """
    end = time.monotonic() + _PATIENCE_S
    while not (seen := look()):
        if time.monotonic() > end:
            raise SimherdError(f"waited {_PATIENCE_S:.0f} s for {what}.")
        time.sleep(_LOOK_S)
    return seen
