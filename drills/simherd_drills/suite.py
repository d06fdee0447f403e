"""The whole course: every drill against a group that works, and whether what is promised holds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simherd.contract.lifecycle import TERMINAL, Status
from simherd.errors import SimherdError
from simherd_drills.errors import DrillNotPossible
from simherd_drills.fleet import Fleet, until, wrong_files
from simherd_drills.scenarios import Scenario, scenarios

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from simherd.info import TaskInfo
    from simherd.task import Task


@dataclass(frozen=True)
class ScenarioResult:
    """What came of one scenario."""

    drill: str
    done: str
    promised: str
    seen: str
    #: None where it was not done, because it is not possible there.
    held: bool | None
    seconds: float


def run(
    fleet: Fleet, drills: Collection[str], seconds: float, *, even_shared: bool
) -> Iterator[ScenarioResult]:
    """Run the scenarios of these drills one after another, each with its own task.

    `seconds`: how long each lasts; `even_shared`: also on a disk that others use. A row comes as
    soon as an scenario is over.
    """
    for scenario in scenarios(seconds, even_shared=even_shared):
        if scenario.drill.split()[0] not in drills:
            continue
        began = time.monotonic()
        good, seen = _see(fleet, scenario, seconds)
        took = time.monotonic() - began
        yield ScenarioResult(scenario.drill, scenario.done, scenario.promised, seen, good, took)


def _see(fleet: Fleet, scenario: Scenario, seconds: float) -> tuple[bool | None, str]:
    """Break something while a task runs and return whether all held, and what was seen."""
    task = fleet.submit(scenario.work_s)
    try:
        machine = fleet.holder(task)
        with scenario.broken(fleet.host, machine):
            time.sleep(max(seconds, scenario.hold_s))
            said = scenario.look(fleet, task, machine)
        wrong = list(_wrong(fleet, task, scenario))
    except DrillNotPossible as error:
        return None, f"not done: {error}"
    except SimherdError as error:
        return False, f"broken: {error}"
    finally:
        if not task.get_info().is_terminal:
            task.kill(verbosity_level=0)
    causes = ", ".join(str(a["cause"]) for a in task.get_attempts())
    return not wrong, "; ".join([*([said] if said else []), *wrong, f"attempts: {causes}"])


def _wrong(fleet: Fleet, task: Task, scenario: Scenario) -> Iterator[str]:
    """Wait for the task's end; a sentence for each thing that is not as it was promised."""
    info = until(lambda: _ended(task), f"the end of task {task.id}")
    ends = [h for h in info["status_history"] if Status(h["status"]) in TERMINAL]
    if info.status != Status.SUCCESS or len(ends) != 1:
        yield f"ended {len(ends)} times, {info.status}: {info['error_detail']}"
        return
    if (had := len(task.get_attempts())) != scenario.attempts:
        yield f"{had} attempts, not {scenario.attempts}"
    yield from wrong_files(task, scenario.work_s)
    until(lambda: not fleet.containers(task), f"no container of task {task.id} to be left")


def _ended(task: Task) -> TaskInfo | None:
    info = task.get_info()
    return info if info.is_terminal else None
